"""Bodies that end where they say, and TLS hellos of real clients."""

import contextlib
import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.egress.bodies import Chunked, Hello, Incomplete, Length, server_name
from tools.egress.requests import BadRequest
from tools.errors import ToolRefused


def client_hello(name: str | None) -> bytes:
    """What a real client sends first."""
    context = ssl.create_default_context()
    context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def in_records(hello: bytes, size: int) -> bytes:
    """The same message cut into smaller records."""
    message = hello[5:]
    parts = [message[start : start + size] for start in range(0, len(message), size)]
    return b"".join(hello[:3] + len(part).to_bytes(2) + part for part in parts)


def test_nothing_follows_a_body() -> None:
    body = Length(5)
    assert (body.feed(b"abc"), body.over) == (b"abc", False)
    assert (body.feed(b"deGET http://b.example/ HTTP/1.1\r\n"), body.over) == (b"de", True)
    assert body.feed(b"x") == b""
    assert Length(0).over


CHUNKED = b"5;name=value\r\nhello\r\n00A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nGET http://b.example/ HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize("step", [1, 2, 7, len(CHUNKED)])
def test_a_chunked_body_is_written_anew_and_ends(step: int) -> None:
    body = Chunked()
    made = b"".join(body.feed(CHUNKED[start : start + step]) for start in range(0, len(CHUNKED), step))
    assert made == b"5\r\nhello\r\na\r\n0123456789\r\n0\r\n\r\n"
    assert body.over


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"x\r\n",
            b"-1\r\n",
            b"0x5\r\n",
            b"5 5\r\n",
            b"\r\n",
            b"5\nhello\n",
            b"5\r\nhelloX\r\n",
            b"5\r\nhello0\r\n\r\n",
        ),
        *(b"fffffffffffff\r\n", b"5;a\x00b\r\n", b"5" + b" " * 2000, b"0\r\n" + b"T: x\r\n" * 2000),
    ],
)
def test_a_malformed_body_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest):
        Chunked().feed(data + b"\n" * 2000)


def test_the_name_in_a_hello_is_read() -> None:
    hello = client_hello("pypi.org")
    assert server_name(hello) == "pypi.org"
    assert server_name(client_hello(None)) is None
    assert server_name(in_records(hello, 50)) == "pypi.org"
    for cut in (1, 4, 5, 20, len(hello) - 1):
        with pytest.raises(Incomplete):
            server_name(hello[:cut])


@pytest.mark.parametrize("step", [1, 100, 10_000])
def test_a_hello_for_the_host_passes_whole_whatever_its_pieces(step: int) -> None:
    sent = client_hello("PyPI.org") + b"more"
    tunnel = Hello("pypi.org", needed=True)
    assert b"".join(tunnel.feed(sent[start : start + step]) for start in range(0, len(sent), step)) == sent
    assert tunnel.feed(b"later") == b"later"


@pytest.mark.parametrize(
    ("sent", "needed"),
    [
        (client_hello("evil.example"), True),
        (client_hello("evil.example"), False),
        (in_records(client_hello("evil.example"), 10), True),
        (b"GET / HTTP/1.1\r\n", True),
        (b"\x16\x02\x00\x00\x05hello", True),
        (b"\x16\x03\x01\x00\x00", True),
        (b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", True),
        (b"\x16\x03\x01\x00\x08\x01\x00\x00\x04\x03\x03\x00\x00", True),
        (
            b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + b"\0" * 16_380 + (b"\x16\x03\x01\x40\x00" + b"\0" * 16_384) * 2,
            True,
        ),
    ],
)
def test_a_tunnel_to_another_host_inside_is_refused(sent: bytes, needed: bool) -> None:
    with pytest.raises(ToolRefused):
        Hello("pypi.org", needed=needed).feed(sent)


def test_other_ports_may_speak_something_else() -> None:
    assert Hello("git.example.org", needed=False).feed(b"SSH-2.0-x") == b"SSH-2.0-x"


@given(st.binary(max_size=300), st.integers(0, 400))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_a_broken_hello_is_refused_or_names_something(noise: bytes, place: int) -> None:
    hello = HELLO[:place] + noise + HELLO[place + len(noise) :]
    with contextlib.suppress(ToolRefused, Incomplete):
        server_name(hello)


HELLO = client_hello("pypi.org")
