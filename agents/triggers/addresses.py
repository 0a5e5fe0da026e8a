"""Where we post to: https addresses on the public internet. A name is resolved once, and that address is used."""

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings

from agents.triggers.errors import AddressRefused

URL_MAX = 500
_IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
# IPv6 that carries an IPv4 address inside: NAT64 (RFC 6052)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """url: with the address in place of the name; host: the Host header; server_name: for TLS."""

    url: str
    host: str
    server_name: str


def check(url: str) -> None:
    """The form alone; what the name stands for is judged whenever we post (see `resolve`).

    Raises:
        AddressRefused
    """
    _parsed(url)


def resolve(url: str) -> Place:
    """Looks the name up and judges every address that it has.

    Raises:
        AddressRefused: one of them is private, loopback, link-local (metadata services live there) or otherwise not
            on the public internet, and ALLOW_LOCAL_WEBHOOKS is off.
        OSError: the name cannot be looked up.
    """
    scheme, host, port, rest = _parsed(url)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    if not settings.ALLOW_LOCAL_WEBHOOKS:
        refuse_local(host, addresses)
    address = addresses[0]
    literal = f"[{address}]" if address.version == 6 else str(address)
    default = {"https": 443, "http": 80}[scheme]
    named = f"[{host}]" if ":" in host else host
    return Place(
        url=f"{scheme}://{literal}:{port}{rest}",
        host=named if port == default else f"{named}:{port}",
        server_name=host,
    )


def refuse_local(host: str, addresses: Sequence[_IPAddress]) -> None:
    """Raises AddressRefused."""
    for address in addresses:
        if not _public(address):
            raise AddressRefused(f"{host} is not on the public internet: {address}.")


def _public(address: _IPAddress) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _public(inner)
        if address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast


def _parsed(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port, and path with query. Raises AddressRefused."""
    if len(url) > URL_MAX or not url.isascii() or not url.isprintable() or " " in url:
        raise AddressRefused(f"A URL of at most {URL_MAX} visible ASCII characters.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise AddressRefused("Is not a URL.") from None
    if parts.scheme not in {"https", "http"} or not host or port == 0:
        raise AddressRefused("Must be an address such as https://example.com/hook.")
    if parts.scheme == "http" and not settings.ALLOW_LOCAL_WEBHOOKS:
        raise AddressRefused("Must be https.")
    if parts.username is not None or parts.password is not None:
        raise AddressRefused("Must not hold a login: messages are signed.")
    if parts.fragment:
        raise AddressRefused("Must not hold a fragment.")
    port = port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
