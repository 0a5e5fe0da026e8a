"""Requests to the proxy: what is sent on, and what is refused since two readers could differ."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.egress.requests import BadRequest, read


def head(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


def test_a_tunnel_is_for_its_target() -> None:
    found = read(head("CONNECT PyPI.org:443 HTTP/1.1", "Host: pypi.org:443", "User-Agent: x"))
    assert (found.host, found.port, found.tunnel, found.head) == ("pypi.org", 443, True, b"")


def test_a_plain_request_goes_on_in_origin_form_with_its_own_host() -> None:
    found = read(
        head(
            "GET http://Example.org:8080/a?b=c HTTP/1.1",
            "Host: example.org:8080",
            "Accept: */*",
            "Proxy-Authorization: Basic eA==",
            "Proxy-Connection: keep-alive",
            "Connection: keep-alive, X-Mine",
            "X-Mine: 1",
            "Upgrade: websocket",
            "TE: trailers",
        )
    )
    assert (found.host, found.port, found.tunnel, found.body_bytes) == ("example.org", 8080, False, 0)
    assert found.head == head("GET /a?b=c HTTP/1.1", "Host: example.org:8080", "Connection: close", "Accept: */*")


@pytest.mark.parametrize(
    ("target", "path"), [("http://a.example", "/"), ("http://a.example?x", "/?x"), ("HTTP://a.example/", "/")]
)
def test_a_target_without_a_path_is_the_root(target: str, path: str) -> None:
    assert read(head(f"GET {target} HTTP/1.0")).head.startswith(f"GET {path} HTTP/1.1\r\nHost: a.example\r\n".encode())


def test_bodies_are_counted_or_chunked() -> None:
    assert read(head("POST http://a.example/ HTTP/1.1", "Content-Length: 12")).body_bytes == 12
    chunked = read(head("POST http://a.example/ HTTP/1.1", "Transfer-Encoding: chunked"))
    assert chunked.body_bytes is None
    assert b"\r\nTransfer-Encoding: chunked\r\n" in chunked.head


@pytest.mark.parametrize(
    "lines",
    [
        ["GET / HTTP/1.1", "Host: a.example"],  # origin form: nobody's proxy
        ["GET https://a.example/ HTTP/1.1"],
        ["GET ftp://a.example/ HTTP/1.1"],
        ["GET //a.example/ HTTP/1.1"],
        ["GET http:///x HTTP/1.1"],
        ["GET http://a.example@b.example/ HTTP/1.1"],
        ["GET http://a.example:80@b.example/ HTTP/1.1"],
        ["GET http://a.example\\@b.example/ HTTP/1.1"],
        ["GET http://a.example#@b.example/ HTTP/1.1"],
        ["GET http://a.example/x#y HTTP/1.1"],
        ["GET http://a%2eexample/ HTTP/1.1"],
        ["GET http://a.example:99999/ HTTP/1.1"],
        ["GET http://a.example:/ HTTP/1.1"],
        ["GET http://a.example /x HTTP/1.1"],
        ["GET  http://a.example/ HTTP/1.1"],
        ["GET http://a.example/ HTTP/2.0"],
        ["GET http://a.example/ HTTP/1.1 x"],
        ["GET http://a.example/"],
        ["get http://a.example/ HTTP/1.1"],
        ["GET http://a.example/ HTTP/1.1", "Host: b.example"],
        ["GET http://a.example/ HTTP/1.1", "Host: a.example", "Host: a.example"],
        ["GET http://a.example/ HTTP/1.1", "Host: a.example:81"],
        ["GET http://a.example/ HTTP/1.1", "Host : a.example"],
        ["GET http://a.example/ HTTP/1.1", " folded: x"],
        ["GET http://a.example/ HTTP/1.1", "X: a", "\tb"],
        ["GET http://a.example/ HTTP/1.1", "X: a\nHost: b.example"],
        ["GET http://a.example/ HTTP/1.1", "X: a\rHost: b.example"],
        ["GET http://a.example/ HTTP/1.1", "X: a\0b"],
        ["GET http://a.example/ HTTP/1.1", "no colon"],
        ["GET http://a.example/ HTTP/1.1", ": empty"],
        ["GET http://a.example/ HTTP/1.1", "Connection: close, host"],
        ["POST http://a.example/ HTTP/1.1", "Content-Length: 5", "Content-Length: 6"],
        ["POST http://a.example/ HTTP/1.1", "Content-Length: 5", "Content-Length: 5"],
        ["POST http://a.example/ HTTP/1.1", "Content-Length: 5, 5"],
        ["POST http://a.example/ HTTP/1.1", "Content-Length: +5"],
        ["POST http://a.example/ HTTP/1.1", "Content-Length: 0x5"],
        ["POST http://a.example/ HTTP/1.1", "Content-Length: -1"],
        ["POST http://a.example/ HTTP/1.1", "Content-Length: 5", "Transfer-Encoding: chunked"],
        ["POST http://a.example/ HTTP/1.1", "Transfer-Encoding: gzip, chunked"],
        ["POST http://a.example/ HTTP/1.1", "Transfer-Encoding: xchunked"],
        ["POST http://a.example/ HTTP/1.1", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["POST http://a.example/ HTTP/1.0", "Transfer-Encoding: chunked"],
        ["POST http://a.example/ HTTP/1.1", "Connection: Transfer-Encoding", "Transfer-Encoding: chunked"],
        ["CONNECT a.example HTTP/1.1"],
        ["CONNECT http://a.example:443 HTTP/1.1"],
        ["CONNECT a.example:443/ HTTP/1.1"],
        ["CONNECT a.example:443@b.example:443 HTTP/1.1"],
        ["CONNECT a.example:0443000 HTTP/1.1"],
        ["CONNECT a.example:443 HTTP/1.1", "Host: b.example:443"],
        ["CONNECT a.example:443 HTTP/1.1", "Content-Length: 0"],
        ["CONNECT a.example:443 HTTP/1.1", "Transfer-Encoding: chunked"],
        ["CONNECT [::1%eth0]:443 HTTP/1.1"],
        ["CONNECT 0x7f000001:443 HTTP/1.1"],
        ["CONNECT *:443 HTTP/1.1"],
        ["OPTIONS * HTTP/1.1"],
        ["GET http://a.example/ HTTP/1.1", *[f"X{number}: x" for number in range(101)]],
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(lines: list[str]) -> None:
    with pytest.raises(BadRequest):
        read(head(*lines))


@given(
    st.binary(max_size=200),
    st.sampled_from([b"GET http://a.example/ HTTP/1.1\r\n", b"CONNECT a.example:443 HTTP/1.1\r\n", b""]),
)
@settings(max_examples=300, derandomize=True, deadline=None)
def test_whatever_is_sent_on_is_one_request_for_the_host_that_was_judged(noise: bytes, first: bytes) -> None:
    try:
        found = read(first + noise + b"\r\n\r\n")
    except BadRequest:
        return
    if found.tunnel:
        assert found.head == b""
        return
    lines = found.head.decode("latin-1").split("\r\n")
    assert lines[-2:] == ["", ""]
    assert "" not in lines[:-2]
    assert [line for line in lines if line.lower().startswith("host:")] == [lines[1]]
    assert not any("\n" in line or "\r" in line or "\0" in line for line in lines)
