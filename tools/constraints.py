"""How a call must run, beyond what its tool asks for. Part of the call's digest: whoever drops one has no permit.

profile: the most that commands may write: "read" (nothing but scratch), "build" (the work tree), "git" (the repository
too); network: "none", or a list of hosts (`tools.egress.allowlist`) that git may reach, and commands as far as their call
asks for them; limits: timeout_s, memory_mb, processes, file_size_mb, output_kb, each at most; dry_run: the preview is made and recorded first.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from tools.egress.allowlist import Allowlist, host_of, pattern_of
from tools.errors import ToolRefused
from tools.spec import Limits, Tool

PROFILES = ("read", "build", "git")  # the strictest first
LIMITS = ("timeout_s", "memory_mb", "processes", "file_size_mb", "output_kb")
FIELDS = frozenset({"profile", "network", "limits", "dry_run"})
HOSTS_MAX = 50
_PORTS = {"https": 443, "http": 80, "ssh": 22, "git": 9418}


def problems(given: Mapping[str, Any]) -> list[str]:
    """What is wrong with constraints, in words."""
    found = [f"constraints has no {name!r}." for name in sorted(set(given) - FIELDS)]
    if given.get("profile", "read") not in PROFILES:
        found.append(f"constraints.profile must be one of {', '.join(PROFILES)}.")
    if not _network(given.get("network", "none")):
        found.append(
            'constraints.network must be "none" or a list of host names such as git.example.org, *.example.org:8443.'
        )
    if not isinstance(given.get("dry_run", True), bool):
        found.append("constraints.dry_run must be true or false.")
    limits = given.get("limits", {"timeout_s": 1})
    if not isinstance(limits, dict) or not limits:
        return [*found, f"constraints.limits must be an object of {', '.join(LIMITS)}."]
    found += [
        f"constraints.limits has no {name!r}; it has {', '.join(LIMITS)}." for name in sorted(set(limits) - set(LIMITS))
    ]
    for name in LIMITS:
        value = limits.get(name, 1)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10**7:
            found.append(f"constraints.limits.{name} must be a whole number of at least 1.")
    return found


def both(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """What holds where both must: of each the stricter."""
    found = {**one, **other}
    if "profile" in one and "profile" in other:
        found["profile"] = min(one["profile"], other["profile"], key=PROFILES.index)
    if "network" in one and "network" in other:
        found["network"] = _common(one["network"], other["network"])
    if "limits" in one and "limits" in other:
        pairs = {**one["limits"], **other["limits"]}
        found["limits"] = {
            name: min(one["limits"].get(name, v), other["limits"].get(name, v)) for name, v in pairs.items()
        }
    if "dry_run" in found:
        found["dry_run"] = bool(one.get("dry_run") or other.get("dry_run"))
    return found


def limited(limits: Limits, given: Mapping[str, Any]) -> Limits:
    """The tool's limits, or less."""
    most = given.get("limits") or {}
    if not most:
        return limits
    kill = min(limits.output_kill_bytes, most.get("output_kb", 10**7) * 1024)
    return replace(
        limits,
        timeout_s=min(limits.timeout_s, float(most.get("timeout_s", limits.timeout_s))),
        memory_bytes=min(limits.memory_bytes, most.get("memory_mb", 10**7) * 1024**2),
        processes=min(limits.processes, most.get("processes", limits.processes)),
        file_size_bytes=min(limits.file_size_bytes, most.get("file_size_mb", 10**7) * 1024**2),
        output_kill_bytes=kill,
        output_head_bytes=min(limits.output_head_bytes, kill),
        output_tail_bytes=min(limits.output_tail_bytes, kill),
    )


def strictest(asked: str, most: str) -> str:
    """The profile to run with, where a tool asks for one and may have no more than another."""
    return min(asked, most, key=PROFILES.index)


def check(tool: Tool, given: Mapping[str, Any]) -> None:
    """Refuses a call whose constraints this server does not know, or cannot hold for this tool.

    Raises:
        ToolRefused
    """
    if not given:
        return
    wrong = problems(given)
    if wrong:
        raise ToolRefused(f"The call's constraints cannot be held: {wrong[0]}")
    if PROFILES.index(tool.needs_profile) > PROFILES.index(given.get("profile", "git")):
        raise ToolRefused(f"{tool.name} writes more than the profile {given['profile']} of its rule lets it.")
    if "network" in given and tool.queue == "llm":
        raise ToolRefused(f"{tool.name} asks a model over the network, which the rule that lets it run forbids.")


def reach(url: str, network: Any) -> bool:
    """Refuses a remote that the constraint does not name; True where it names it, False where there is no such constraint
    (network: None). A repository of this host (a local path, where the settings allow those) counts as localhost.

    Raises:
        ToolRefused
    """
    if network is None:
        return False
    host, port = _place(url)
    patterns = hosts(network).patterns
    if not host or not any(one.covers(host) and one.port in (None, port) for one in patterns):
        raise ToolRefused(
            f"The rule that lets this call run allows {_named(network)}, not {host or url}.", host=host or url
        )
    return True


def reachable(asked: Allowlist, network: Any) -> Allowlist:
    """What a command may reach of what its call asks for. network: None where there is no such constraint.

    Raises:
        ToolRefused: nothing of it.
    """
    found = asked if network is None else asked.within(hosts(network))
    if not found:
        raise ToolRefused(f"The rule that lets this call run allows {_named(network)}, not {', '.join(asked.words())}.")
    return found


def hosts(network: Any) -> Allowlist:
    """Of a constraint: "none" or a list."""
    return Allowlist() if network == "none" else Allowlist.parse(network)


def _named(network: Any) -> str:
    return "no host at all" if network == "none" else ", ".join(network)


def _place(url: str) -> tuple[str, int | None]:
    """(host, port); without a port git's own for the scheme; ("", None) of what cannot be read."""
    if "://" not in url:
        return "localhost", None
    try:
        parts = urlsplit(url)
        return host_of(parts.hostname or ""), parts.port or _PORTS.get(parts.scheme)
    except (ValueError, ToolRefused):
        return ("localhost", None) if url.startswith("file:///") else ("", None)


def _common(one: Any, other: Any) -> Any:
    if one == "none" or other == "none":
        return "none"
    return hosts(one).within(hosts(other)).words() or "none"


def _network(given: Any) -> bool:
    if given == "none":
        return True
    if not isinstance(given, list) or not 0 < len(given) <= HOSTS_MAX:
        return False
    try:
        return all(isinstance(host, str) and str(pattern_of(host)) == host for host in given)
    except ToolRefused:
        return False
