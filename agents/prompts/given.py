"""What the server itself fills in, where it asks by a prompt of a known name. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

_PLAN = frozenset({"goal", "tools", "rules", "facts"})
# By the prompt's name: the variables that get a value.
VARIABLES: Mapping[str, frozenset[str]] = {"plan": _PLAN, "replan": _PLAN | {"round", "left", "past"}}
# Those that hold what files, programs and people outside said.
OUTSIDE: Mapping[str, frozenset[str]] = {"replan": frozenset({"past"})}


def faults(data: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """(path, what) of all that would keep the server from asking by this definition, or let what others wrote pass for
    the server's own words."""
    known = VARIABLES.get(data["name"])
    if known is None:
        return
    variables = data.get("variables") or {}
    for name, one in variables.items():
        if name not in known and "default" not in one:
            told = ", ".join(sorted(known))
            yield ("variables", name), f"The server gives {told} and no {name!r}: give it a default."
    for name in sorted(OUTSIDE.get(data["name"], frozenset()) & set(variables) - set(data.get("untrusted", ()))):
        yield ("variables", name), f"{name!r} holds what others wrote: name it under `untrusted`."
