"""Patterns: names in which `*` stands for any run of characters."""

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


class Patterns:
    """Several patterns, for many values: of any text, and case counts."""

    __slots__ = ("_all", "_plain", "_wild")

    def __init__(self, patterns: Iterable[str]) -> None:
        given = list(patterns)
        self._all = "*" in given
        self._plain = frozenset(one for one in given if "*" not in one)
        self._wild = tuple(_compiled(one) for one in given if "*" in one)

    def fit(self, value: str) -> bool:
        """Does any of them cover the whole value?"""
        return self._all or value in self._plain or any(one.fullmatch(value) is not None for one in self._wild)


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in re.split(r"\*+", pattern)), re.DOTALL)
