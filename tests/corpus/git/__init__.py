"""Git cases, harmless and hostile, with what is decided about each. Sources are named in the files beside this one."""

import tomllib
from pathlib import Path
from typing import Any


def cases(name: str) -> list[dict[str, Any]]:
    """The cases of `calls` or `repositories`. Raises ValueError: an id stands twice, or a hostile case has no source."""
    found: list[dict[str, Any]] = tomllib.loads((Path(__file__).parent / f"{name}.toml").read_text(encoding="utf-8"))[
        "case"
    ]
    ids = [case["id"] for case in found]
    if len(set(ids)) < len(ids):
        raise ValueError("an id stands twice")
    for case in found:
        if case["decided"] not in ("allowed", "harmless") and not case.get("source"):
            raise ValueError(f"{case['id']} has no source")
    return found
