"""One connection to a host that may be reached: resolved here, judged here, connected to the address that was judged.

There is no second look-up between the verdict and the connection, so that a name whose answer changes (DNS rebinding)
gains nothing.
"""

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.conf import settings

from tools.egress.addresses import Address, Exceptions, why_not
from tools.egress.allowlist import Allowlist, host_of
from tools.egress.record import Connection, Connections
from tools.errors import ToolFailed, ToolRefused

__all__ = ["Allowlist", "Connection", "Connections", "Exceptions", "Link", "connect", "link", "resolve"]

_ADDRESSES_MAX = 8
_LOOKUPS_MAX = 32  # at a time; a resolver that never answers holds one until it gives up
_TRY_S = 10.0  # for one address, where a name has several

Resolver = Callable[[str, int], Sequence[str]]

_lookups = threading.BoundedSemaphore(_LOOKUPS_MAX)


@dataclass(frozen=True, slots=True)
class Link:
    """A connected socket and its entry in the record, which the owner counts on and ends."""

    sock: socket.socket
    entry: Connection


def connect(
    host: str,
    port: int,
    *,
    allow: Allowlist,
    record: Connections,
    timeout_s: float,
    exceptions: Exceptions | None = None,
    resolver: Resolver | None = None,
) -> socket.socket:
    """The socket of `link`, for who does not count bytes: its entry ends at once, with none."""
    made = link(host, port, allow=allow, record=record, timeout_s=timeout_s, exceptions=exceptions, resolver=resolver)
    made.entry.end()
    return made.sock


def link(
    host: str,
    port: int,
    *,
    allow: Allowlist,
    record: Connections,
    timeout_s: float,
    exceptions: Exceptions | None = None,
    resolver: Resolver | None = None,
) -> Link:
    """A TCP connection to `host`, to an address of its that is public or among the exceptions.

    timeout_s: for look-up and connecting together; the socket has what is left of it as its timeout, at least a second.
    exceptions: those of the setting EGRESS_EXCEPTIONS where none are given. resolver: the system's where none is given.

    Raises:
        ToolRefused: the host is not on the list, or has no address that may be reached. It stands in the record.
        ToolFailed: it cannot be resolved or reached in time (transient). It stands in the record.
    """
    deadline_s = time.monotonic() + timeout_s
    entry = record.begin(host, port)
    try:
        addresses = _judged(host, port, allow, exceptions, resolver or resolve, deadline_s)
        sock, address = _first(addresses, host, port, deadline_s)
    except ToolRefused as refused:
        entry.end(refused.message, refused=True)
        raise
    except ToolFailed as failed:
        entry.end(failed.message)
        raise
    entry.address = str(address)
    sock.settimeout(max(1.0, deadline_s - time.monotonic()))
    return Link(sock, entry)


def _judged(
    host: str, port: int, allow: Allowlist, exceptions: Exceptions | None, resolver: Resolver, deadline_s: float
) -> list[Address]:
    """The addresses to try, in the resolver's order."""
    if not allow.allows(host, port):
        raise ToolRefused(f"{host[:200]}:{port} is not among the hosts that this call may reach.", host=host, port=port)
    if exceptions is None:
        exceptions = Exceptions.parse(settings.EGRESS_EXCEPTIONS)
    good, bad = [], []
    for text in _looked_up(host_of(host), port, resolver, deadline_s)[:_ADDRESSES_MAX]:
        address = ipaddress.ip_address(text)
        why = "" if exceptions.allows(address, port) else why_not(address)
        if why:
            bad.append(f"{address} is {why}")
        else:
            good.append(address)
    if not good:
        raise ToolRefused(f"{host[:200]} may not be reached: {'; '.join(bad)}.", host=host, port=port)
    return good


def _looked_up(host: str, port: int, resolver: Resolver, deadline_s: float) -> Sequence[str]:
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    answers: list[Sequence[str]] = []
    errors: list[OSError] = []
    done = threading.Event()

    def look_up() -> None:
        try:
            answers.append(resolver(host, port))
        except OSError as error:
            errors.append(error)
        finally:
            _lookups.release()
            done.set()

    if not _lookups.acquire(timeout=max(0.0, deadline_s - time.monotonic())):
        raise ToolFailed(f"{host} could not be looked up: too many names wait for an answer.", transient=True)
    threading.Thread(target=look_up, name="egress-lookup", daemon=True).start()
    if not done.wait(max(0.0, deadline_s - time.monotonic())):
        raise ToolFailed(f"{host} could not be looked up in time.", transient=True, host=host)
    if errors or not answers or not answers[0]:
        why = (errors[0].strerror or str(errors[0])) if errors else "it has no address"
        raise ToolFailed(f"{host} could not be looked up: {why}.", transient=True, host=host)
    return answers[0]


def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of `host` by the system's resolver.

    Raises:
        OSError
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def _first(addresses: Sequence[Address], host: str, port: int, deadline_s: float) -> tuple[socket.socket, Address]:
    """The first address that answers."""
    why = "no time was left"
    for address in addresses:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            break
        try:
            return socket.create_connection((str(address), port), min(left_s, _TRY_S)), address
        except OSError as error:
            why = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
    raise ToolFailed(f"{host} could not be reached: {why}.", transient=True, host=host, port=port)
