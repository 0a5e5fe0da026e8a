"""Addresses, charsets and pages, as http.fetch reads them."""

import gzip
import random
import zlib
from typing import cast

import pytest

from tools.builtin.http import reader, text
from tools.builtin.http.address import redirected, url_of
from tools.builtin.http.client import _body
from tools.errors import InvalidArguments, ToolFailed, ToolRefused
from tools.registry import get, validate
from tools.spec import Box, Effect, Risk


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("https://Example.ORG", "https://example.org/"),
        ("https://example.org:443/a?b=c#d", "https://example.org/a?b=c"),
        ("http://example.org:8080/", "http://example.org:8080/"),
        ("https://bücher.example/ä?ö=ü", "https://xn--bcher-kva.example/%C3%A4?%C3%B6=%C3%BC"),
        ("https://[2606:4700::1111]:8443/x", "https://[2606:4700::1111]:8443/x"),
        ("https://example.org./x", "https://example.org/x"),
    ],
)
def test_an_address_has_one_form(given: str, read: str):
    assert str(url_of(given)) == read


@pytest.mark.parametrize(
    "given",
    [
        "ftp://example.org/", "file:///etc/passwd", "example.org/x", "//example.org/", "https:example.org", "https:///x",
        "https://user:pw@example.org/", "https://user@example.org/", "https://example.org\\@evil.example/",
        "https://example.org /", "https://example.org/\r\nX-Evil: 1", "https://exa\tmple.org/", "https://example.org:0/",
        "https://example.org:99999/", "https://example.org:x/", "https://127.1/", "https://0x7f000001/",
        "https://2130706433/", "https://exam%70le.org/", "https://[::1%25eth0]/", "https://[::1/", "https://example.org\u00a0/",
        "https://" + "a" * 3000 + "/",
    ],
)  # fmt: skip
def test_what_may_be_taken_for_another_address_is_refused(given: str):
    with pytest.raises(ToolRefused):
        url_of(given)


def test_a_redirect_is_read_as_strictly():
    here = url_of("https://example.org/a/b?c")
    assert str(redirected(here, "../x")) == "https://example.org/x"
    assert str(redirected(here, "//other.example/y")) == "https://other.example/y"
    for location in ("http://example.org/", "javascript:alert(1)", "https://u:p@example.org/", "https://x.example\\y"):
        with pytest.raises(ToolRefused):
            redirected(here, location)


@pytest.mark.parametrize(
    ("body", "content_type", "found"),
    [
        (b"\xef\xbb\xbf\xc3\xa4", "text/plain", ("ä", "utf-8")),
        ("ä".encode("utf-16"), "text/plain", ("ä", "utf-16-le")),
        (b"\xe4", "text/plain; charset=ISO-8859-1", ("ä", "cp1252")),
        (b"\x80", "text/plain; charset=latin1", ("€", "cp1252")),
        (b"<meta charset='windows-1251'>\xe4", "text/html", ("<meta charset='windows-1251'>д", "cp1251")),
        (
            b"<?xml version='1.0' encoding='koi8-r'?>\xc4",
            "text/xml",
            ("<?xml version='1.0' encoding='koi8-r'?>д", "koi8-r"),
        ),
        (b"\xe4", "text/plain", ("\\xe4", "utf-8")),
        (b"+ADw-script", "text/html; charset=utf-7", ("+ADw-script", "utf-8")),
        (b"uryyb", "text/plain; charset=rot13", ("uryyb", "utf-8")),
        (b"a", "text/plain; charset=nonsense", ("a", "utf-8")),
    ],
)
def test_the_charset_is_found_out(body: bytes, content_type: str, found: tuple[str, str]):
    assert text.decoded(body, content_type) == found


def test_what_is_no_text_is_told_by_its_type():
    for good in (
        "text/html; charset=x",
        "application/json",
        "application/vnd.api+json",
        "application/XML",
        "image/svg+xml",
    ):
        assert text.is_text(good), good
    for bad in ("", "application/octet-stream", "image/png", "application/pdf", "application/zip", "text"):
        assert not text.is_text(bad), bad


def test_a_page_is_read_as_its_text():
    page = """<!doctype html><html><head><title>The  page</title><style>p{}</style></head><body>
    <script>alert("no")</script><h1>Head &amp; line</h1>
    <p>One <b>bold</b>
       text &lt;tag&gt;.</p><ul><li>first<li>second <a href="../x?y=1">link</a></ul>
    <div hidden>unseen</div><p style="display: none">unseen</p><p>after</p>
    <table><tr><th>a<th>b</tr><tr><td>1<td>2</tr></table>
    <pre>  kept
      as it is</pre><a href="javascript:x()">no target</a><img src=x alt="A picture"><template><p>unseen</template>
    </body></html>"""
    found = reader.read(page, "https://example.org/a/b")
    assert found["title"] == "The page"
    assert found["text"] == (
        "# Head & line\n\nOne bold text <tag>.\n\n- first\n- second link (https://example.org/x?y=1)\n\nafter\n\n"
        "a | b\n1 | 2\n\n  kept\n      as it is\nno target[A picture]\n"
    )


def test_hostile_markup_ends_and_keeps_its_bound():
    chance = random.Random(7)
    pieces = [
        "<",
        "</",
        "<p",
        ">",
        "<a href=",
        "'",
        '"',
        "<!--",
        "-->",
        "<![CDATA[",
        "&#x110000;",
        "&amp",
        "<script>",
        "\0",
        "x" * 50,
    ]
    for _ in range(200):
        reader.read("".join(chance.choice(pieces) for _ in range(chance.randrange(60))), "https://example.org/")
    for deep in (
        "<div>" * 50_000 + "x",
        "<div hidden>" * 50_000,
        "<a href=x>" * 20_000 + "</a>" * 20_000,
        "y" * 3_000_000,
    ):
        assert len(reader.read(deep, "https://example.org/")["text"]) <= reader.TEXT_MAX + 1


def test_a_body_grows_to_its_bound_and_no_further():
    bomb = gzip.compress(b"0" * 50_000_000)
    chunks = [bomb[start : start + 1000] for start in range(0, len(bomb), 1000)]
    found, cut = _body(chunks, {"content-encoding": "gzip"}, 100_000)
    assert (len(found), cut) == (100_000, True)
    for data, coding in (
        (zlib.compress(b"abc"), "deflate"),
        (zlib.compress(b"abc")[2:-4], "deflate"),
        (gzip.compress(b"abc"), "x-gzip"),
    ):
        assert _body([data[:3], data[3:]], {"content-encoding": coding}, 3) == (b"abc", False)
    with pytest.raises(ToolFailed, match="not asked for"):
        _body([b"x"], {"content-encoding": "br"}, 10)
    with pytest.raises(zlib.error):
        _body([b"no gzip at all"], {"content-encoding": "gzip"}, 10)


def test_what_the_calls_say_of_themselves():
    fetch, post = get("http.fetch"), get("http.post")
    assert (fetch.effect, post.effect) == (Effect.READ, Effect.ONCE)
    plain = {"url": "http://example.org/x", "secret": "token"}
    with pytest.raises(ToolRefused, match="https"):
        validate(fetch, plain)
    call = {
        "url": "https://example.org/x y".replace(" ", "%20"),
        "secret": "token",
        "redirect_hosts": ["*.example.net"],
    }
    validate(fetch, call)
    assert fetch.describe(call) == "GET https://example.org/x%20y with the secret token"
    risk = fetch.risk(call)
    assert risk.level is Risk.MEDIUM and any("secret token" in reason for reason in risk.reasons)
    assert post.risk({"url": "https://example.org/", "body": "x"}).level is Risk.HIGH
    for wrong, field in (
        ({"url": "https://example.org/", "redirect_hosts": ["*.org"]}, "redirect_hosts"),
        ({"url": "https://example.org/", "secret_as": "bearer"}, "secret_as"),
        ({"url": "https://example.org/", "secret": "t", "secret_as": "Host"}, "secret_as"),
        ({"url": "https://example.org/", "secret": "t", "secret_as": "X: y"}, "secret_as"),
    ):
        with pytest.raises(InvalidArguments) as caught:
            validate(fetch, wrong)
        assert caught.value.field == f"arguments.{field}"
    shown = post.preview({"url": "https://example.org/", "body": "{}"}, cast(Box, None))
    assert shown == "POST https://example.org/\nContent-Type: application/json\n\n{}"
