"""Which tools a rule is about."""

import re
from collections.abc import Iterable
from functools import lru_cache

_PATTERN = re.compile(r"[a-z0-9_*-]+(\.[a-z0-9_*-]+)*")


def valid(pattern: str) -> bool:
    """Is it a tool's name in which `*` may stand for any run of characters, dots too: `*`, `git.*`, `files.read`?"""
    return _PATTERN.fullmatch(pattern) is not None


def matches(patterns: Iterable[str], tool: str) -> bool:
    """Does any pattern cover the whole name? Case counts."""
    return any(_compiled(pattern).fullmatch(tool) is not None for pattern in patterns)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in re.split(r"\*+", pattern)), re.DOTALL)
