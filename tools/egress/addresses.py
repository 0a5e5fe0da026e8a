"""Which addresses are the public internet's, and which exceptions the admin made.

Private, loopback, link-local (the clouds' metadata among them), shared (CGNAT), reserved, documentation and multicast
addresses are refused, and so is every IPv6 form that carries an IPv4 address (mapped, compatible, 6to4, Teredo, NAT64,
ISATAP): where such a packet ends is not said by the address alone. This machine's own addresses are refused too: what
listens on them may be closed to everybody else. Lists: the IANA IPv4 and IPv6 special-purpose address registries
(RFC 6890).
"""

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_SPECIAL_4: Final = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "shared by a provider's customers",
    "127.0.0.0/8": "loopback",
    "168.63.129.16/32": "a cloud's metadata",
    "169.254.0.0/16": "link-local, where clouds keep metadata",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "reserved for protocols",
    "192.0.2.0/24": "documentation",
    "192.31.196.0/24": "reserved for protocols",
    "192.52.193.0/24": "reserved for protocols",
    "192.88.99.0/24": "a 6to4 relay",
    "192.168.0.0/16": "private",
    "192.175.48.0/24": "reserved for protocols",
    "198.18.0.0/15": "benchmarking",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
}
_SPECIAL_6: Final = {
    "::ffff:0:0/96": "an IPv4 address in IPv6 form",
    "::/96": "loopback, unspecified or an IPv4 address in IPv6 form",
    "64:ff9b::/96": "an IPv4 address behind NAT64",
    "64:ff9b:1::/48": "an IPv4 address behind NAT64",
    "2001::/23": "reserved for protocols (Teredo)",
    "2001:db8::/32": "documentation",
    "2002::/16": "an IPv4 address behind 6to4",
    "2620:4f:8000::/48": "reserved for protocols",
    "3fff::/20": "documentation",
    "fc00::/7": "private",
    "fe80::/10": "link-local",
    "ff00::/8": "multicast",
}
_REFUSED_4 = [(ipaddress.IPv4Network(text), why) for text, why in _SPECIAL_4.items()]
_REFUSED_6 = [(ipaddress.IPv6Network(text), why) for text, why in _SPECIAL_6.items()]
_UNICAST_6 = ipaddress.IPv6Network("2000::/3")  # all that is handed out
_ISATAP = (0x00005EFE, 0x02005EFE)


def why_not(address: Address) -> str:
    """Why the address is not one of the public internet's; "" where it is."""
    if isinstance(address, ipaddress.IPv4Address):
        why = next((why for network, why in _REFUSED_4 if address in network), "")
    else:
        why = next((why for network, why in _REFUSED_6 if address in network), "")
        if not why and address not in _UNICAST_6:
            why = "not of the public internet"
        if not why and (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
            why = "an IPv4 address in IPv6 form"
        if not why and address.scope_id:
            why = "link-local"
    if not why and _is_own(address):
        why = "this machine's own"
    return why


def _is_own(address: Address) -> bool:
    """Only an address of this machine can be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as tried:
            tried.bind((str(address), 0))
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Exception:
    network: Network
    port: int | None


@dataclass(frozen=True, slots=True)
class Exceptions:
    """Addresses that are not public and may be reached all the same, as an admin says: a company's package mirror."""

    entries: tuple[_Exception, ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> "Exceptions":
        """Of `address`, `address:port`, `network/prefix`, `network/prefix:port`; IPv6 with a port in brackets.

        Raises:
            ValueError: one is none of these.
        """
        return cls(tuple(_read(text) for text in texts))

    def allows(self, address: Address, port: int) -> bool:
        """Is it among them? A mapped form of an address is not the address."""
        return any(
            entry.network.version == address.version
            and address in entry.network
            and (entry.port is None or entry.port == port)
            for entry in self.entries
        )


def _read(text: str) -> _Exception:
    network, port = text.strip(), None
    if network.startswith("["):
        network, closed, rest = network[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is no address in brackets, with or without a port")
        if rest:
            port = _port(rest[1:], text)
    elif network.count(":") == 1:
        network, _, rest = network.partition(":")
        port = _port(rest, text)
    try:
        return _Exception(ipaddress.ip_network(network, strict=True), port)
    except ValueError as error:
        raise ValueError(f"{text!r} is no address or network: {error}") from error


def _port(digits: str, text: str) -> int:
    if not digits.isascii() or not digits.isdigit() or not 1 <= int(digits) <= 65535:
        raise ValueError(f"{text!r} names no port between 1 and 65535")
    return int(digits)
