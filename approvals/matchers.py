"""Which calls a grant covers: a pattern for each argument. Pure.

In a pattern `*` stands for any run of letters, digits and `._/@:=+,%~-`, never for blanks, quotes, line ends or signs that
a shell reads, and never for `..`; `\\*` is a star itself. What is no text (numbers, lists) is compared as its JSON.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from audit.canonical import canonical_json

PATTERN_MAX = 4000
_ANY = r"((?:[\w./@:=+,%~-])*)"
_PATH_NAMES = frozenset({"path", "file", "directory", "folder"})
_TOKEN = re.compile(r"\\(.)|(\*)|([^\\*]+|\\)", re.DOTALL)

Matcher = Mapping[str, str]


def exact(arguments: Mapping[str, Any]) -> dict[str, str]:
    """The matcher of these arguments and no others."""
    return {name: literal(text(value)) for name, value in sorted(arguments.items())}


def proposed(arguments: Mapping[str, Any]) -> dict[str, str]:
    """As `exact`, but any file of the same folder where an argument is a path."""
    found = exact(arguments)
    for name, value in arguments.items():
        if name in _PATH_NAMES and isinstance(value, str) and "/" in value.strip("/"):
            found[name] = f"{literal(value.rpartition('/')[0])}/*"
    return found


def fits(matcher: Matcher, arguments: Mapping[str, Any]) -> bool:
    """Does every argument fit its pattern, with none besides and none missing?"""
    if set(matcher) != set(arguments):
        return False
    for name, pattern in matcher.items():
        found = _compiled(pattern).fullmatch(text(arguments[name]))
        if found is None or any(".." in run for run in found.groups()):
            return False
    return True


def problem(matcher: object, arguments: Mapping[str, Any]) -> str:
    """Why nobody may give leave by this matcher for a call with these arguments; "" where they may."""
    if not isinstance(matcher, Mapping) or not all(
        isinstance(name, str) and isinstance(pattern, str) and len(pattern) <= PATTERN_MAX
        for name, pattern in matcher.items()
    ):
        return "A matcher is a pattern for each argument."
    if set(matcher) != set(arguments):
        return f"A pattern for each argument of this call: {', '.join(sorted(arguments)) or 'none'}."
    if not fits(matcher, arguments):
        return "This very call does not fit it."
    if matcher and all(not pattern.strip("*") for pattern in matcher.values()):
        return "It says nothing: give at least one argument as it is."
    return ""


def words(matcher: Matcher) -> str:
    """`branch is "main" and path is like "src/*"`; "it has no arguments" where there are none."""
    said = []
    for name, pattern in sorted(matcher.items()):
        plain = _plain(pattern)
        said.append(f"{name} is {_quoted(plain)}" if plain is not None else f"{name} is like {_quoted(pattern)}")
    return " and ".join(said) or "it has no arguments"


def _quoted(text: str) -> str:
    """In quotes, unless it is a list or an object, which has its own."""
    return text if text.startswith(("[", "{")) else f'"{text}"'


def literal(value: str) -> str:
    """The pattern of this text alone."""
    return value.replace("\\", "\\\\").replace("*", "\\*")


def text(value: Any) -> str:
    """An argument as patterns see it."""
    return value if isinstance(value, str) else canonical_json(value).decode()


def _plain(pattern: str) -> str | None:
    """The text that a pattern without wildcards stands for."""
    parts = []
    for escaped, star, plain in _TOKEN.findall(pattern):
        if star:
            return None
        parts.append(escaped or plain)
    return "".join(parts)


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = []
    for escaped, star, plain in _TOKEN.findall(pattern):
        parts.append(_ANY if star else re.escape(escaped or plain))
    return re.compile("".join(parts), re.ASCII)
