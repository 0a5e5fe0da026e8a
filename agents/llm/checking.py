"""What is wrong with endpoints and routes as they were entered: nobody is asked, no key is read."""

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from agents.llm.gateway import ASKS_AS
from agents.llm.routing import host_of
from agents.models import Capability, ModelEndpoint, ModelRoute
from tools.secrets.models import SecretHandle
from tools.secrets.patterns import fits, fits_host


def address_problem(value: str) -> str:
    """Why an endpoint cannot stand at this address, in words; "" where it can."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        return f"This is no address: {error}."
    if parts.scheme not in ("https", "http"):
        return "An address starts with https:// (or http:// for a server of your own)."
    if not parts.hostname or port == 0 or any(char.isspace() for char in value):
        return "This is no address: https://host/v1, or http://host:port/v1."
    if _serves_the_machine(parts.hostname):
        return "A link-local address is no model's: machines of clouds keep their credentials there."
    if parts.username or parts.password:
        return "No name or password in the address: a key is a secret handle."
    if parts.query or parts.fragment:
        return "Leave off what stands behind the path."
    if value.endswith("/chat/completions"):
        return "Leave /chat/completions off: the address ends in /v1 or the like."
    return ""


def _serves_the_machine(host: str) -> bool:
    try:
        return ip_address(host.partition("%")[0]).is_link_local
    except ValueError:
        return False


def key_problem(name: str, base_url: str) -> str:
    """Why the key would be refused to calls there, in words; "" where it would not."""
    handle = SecretHandle.objects.filter(name=name).first()
    host = host_of(base_url)
    if handle is None:
        return f"There is no secret handle {name!r} any more."
    if not handle.enabled:
        return f"The secret handle {name} is switched off."
    if not fits_host(handle.hosts, host):
        return f"The secret handle {name} may not be sent to {host}: add it to the handle's hosts."
    if not fits(handle.tools, ASKS_AS):
        return f"The secret handle {name} is not for {ASKS_AS}: add llm.* to the handle's tools."
    return ""


def route_problem(route: ModelRoute) -> str:
    """Why agents that take it would fail, in words; "" where they would not."""
    able = ModelEndpoint.objects.filter(pk__in=route.entries.values("endpoint"), enabled=True)
    if able.filter(capabilities__contains=[Capability.CHAT, Capability.TOOLS]).exists():
        return ""
    return f"No enabled endpoint of the route {route.name} answers and calls functions: agents that take it fail."


def problems() -> Iterator[str]:
    """Of all that are enabled."""
    for one in ModelEndpoint.objects.filter(enabled=True):
        if problem := address_problem(one.base_url) or (key_problem(one.key, one.base_url) if one.key else ""):
            yield f"{one.name}: {problem}"
    for route in ModelRoute.objects.all():
        if problem := route_problem(route):
            yield problem
