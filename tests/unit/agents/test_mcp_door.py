"""Who is let through to `/mcp`: hosts, origins, TLS."""

import pytest
from starlette.datastructures import Headers

from agents.mcp import door


@pytest.fixture(autouse=True)
def _here(settings):
    settings.ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]", ".corp.example"]
    settings.PUBLIC_URL = "https://cs.example.org"
    settings.CSRF_TRUSTED_ORIGINS = ["https://tools.example.org"]


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("localhost:8000", True),
        ("127.0.0.1", True),
        ("[::1]:8000", True),
        ("a.corp.example", True),
        ("cs.example.org", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("", False),
        ("localhost@evil.example", False),
    ],
)
def test_hosts(host: str, good: bool):
    assert door.host_allowed(host) is good


@pytest.mark.parametrize(
    ("origin", "good"),
    [
        (None, True),
        ("https://cs.example.org", True),
        ("http://localhost:8000", True),
        ("https://tools.example.org/", True),
        ("http://localhost:9000", False),
        ("https://evil.example", False),
        ("null", False),
        ("", False),
    ],
)
def test_origins(origin: str | None, good: bool):
    assert door.origin_allowed(origin, "localhost:8000") is good


@pytest.mark.parametrize(
    ("scheme", "said", "proxy", "good"),
    [
        ("https", None, None, True),
        ("http", None, None, False),
        ("http", "https", None, False),  # a header that no proxy is said to set
        ("http", "https", ("HTTP_X_FORWARDED_PROTO", "https"), True),
        ("https", "http", ("HTTP_X_FORWARDED_PROTO", "https"), False),
        ("http", None, ("HTTP_X_FORWARDED_PROTO", "https"), False),
    ],
)
def test_tls(settings, scheme: str, said: str | None, proxy: tuple[str, str] | None, good: bool):
    settings.SECURE_PROXY_SSL_HEADER = proxy
    headers = Headers({} if said is None else {"x-forwarded-proto": said})
    assert door._secure({"scheme": scheme}, headers) is good
