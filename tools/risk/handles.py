"""Which secrets a call asks for, by the names of their handles."""

from collections.abc import Mapping
from typing import Any

from tools.risk.hosts import REACHING


def secrets_of(tool: str, arguments: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Sorted; () of a call that names none; None where it cannot be told."""
    if not tool.startswith(REACHING):
        return ()
    given, one = arguments.get("secrets", {}), arguments.get("secret", "")
    if not isinstance(given, Mapping) or not isinstance(one, str):
        return None
    names = {*given.values(), *([one] if one else [])}
    return tuple(sorted(names)) if all(isinstance(name, str) for name in names) else None
