"""How a call must run, beyond what its tool asks for. Part of the call's digest: whoever drops one has no permit.

profile: the most that commands may write: "read" (nothing but scratch), "build" (the work tree), "git" (the repository
too); network: "none", or a list of hosts that git may reach (commands have no network in any case); limits: timeout_s,
memory_mb, processes, file_size_mb, output_kb, each at most; dry_run: the preview is made and recorded first.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from tools.errors import ToolRefused
from tools.spec import Limits, Tool

PROFILES = ("read", "build", "git")  # the strictest first
LIMITS = ("timeout_s", "memory_mb", "processes", "file_size_mb", "output_kb")
FIELDS = frozenset({"profile", "network", "limits", "dry_run"})
HOSTS_MAX = 50
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


def problems(given: Mapping[str, Any]) -> list[str]:
    """What is wrong with constraints, in words."""
    found = [f"constraints has no {name!r}." for name in sorted(set(given) - FIELDS)]
    if given.get("profile", "read") not in PROFILES:
        found.append(f"constraints.profile must be one of {', '.join(PROFILES)}.")
    if not _network(given.get("network", "none")):
        found.append('constraints.network must be "none" or a list of host names such as git.example.org.')
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
    host = (urlsplit(url).hostname or "").lower() if "://" in url else "localhost"
    if network == "none" or host not in network:
        allowed = "no host at all" if network == "none" else ", ".join(network)
        raise ToolRefused(f"The rule that lets this call run allows {allowed}, not {host or url}.", host=host or url)
    return True


def _common(one: Any, other: Any) -> Any:
    if one == "none" or other == "none":
        return "none"
    return sorted(set(one) & set(other)) or "none"


def _network(given: Any) -> bool:
    if given == "none":
        return True
    hosts = isinstance(given, list) and 0 < len(given) <= HOSTS_MAX
    return hosts and all(isinstance(host, str) and _HOST.fullmatch(host) for host in given)
