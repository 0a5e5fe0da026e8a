"""Which programs a call runs, as far as it says so."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tools.builtin import script
from tools.builtin.commands import INTERPRETERS, TEXT_OPTIONS, WRAPPERS

_DEPTH_MAX = 3
_FIND_RUNS = frozenset({"-exec", "-execdir", "-ok", "-okdir"})


def programs_of(tool: str, arguments: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names of the programs that the call runs, each once; () of a tool that runs none of the caller's choice;
    None where that cannot be told (a script that cannot be judged, text for an interpreter).

    A program by its path counts by both, path and last part. Of a program that runs others (env, xargs, timeout, find
    with -exec), every word counts that is no option.
    """
    if tool == "shell.exec":
        commands: Sequence[Sequence[str]] = [arguments["argv"]]
    elif tool == "shell.script":
        read = script.parse(arguments["script"])
        if read.opaque:
            return None
        commands = read.commands
    else:
        return ("git",) if tool.startswith("git.") else ()
    found = _named(commands, 0)
    return None if found is None else tuple(dict.fromkeys(found))


def _named(commands: Sequence[Sequence[str]], depth: int) -> list[str] | None:
    found: list[str] = []
    for argv in commands:
        inner = _of(argv, depth)
        if inner is None:
            return None
        found += inner
    return found


def _of(argv: Sequence[str], depth: int) -> list[str] | None:
    found = list(_names(argv[0]))
    name = os.path.basename(argv[0])
    if name in INTERPRETERS:
        text = _text(name, argv)
        if text is None:
            return found
        if name not in ("sh", "bash", "dash") or depth >= _DEPTH_MAX:
            return None
        read = script.parse(text)
        inner = None if read.opaque else _named(read.commands, depth + 1)
        return None if inner is None else found + inner
    if name in ("eval", "source", "."):
        return None
    if name in WRAPPERS or (name == "find" and _FIND_RUNS & set(argv)):
        rest = [word for word in argv[1:] if not word.startswith("-")]
        for place, word in enumerate(argv[1:], start=1):
            if os.path.basename(word) in {*INTERPRETERS, "eval"}:
                inner = _of(argv[place:], depth + 1) if depth < _DEPTH_MAX else None
                if inner is None:
                    return None
                found += inner
        found += [name for word in rest for name in _names(word)]
    return found


def _names(word: str) -> Iterator[str]:
    yield word
    if "/" in word:
        yield os.path.basename(word)


def _text(name: str, argv: Sequence[str]) -> str | None:
    """The program text that an interpreter is given, None where it is given a file."""
    for place, word in enumerate(argv[1:], start=1):
        if not word.startswith("-") or word in ("-m", "--"):
            return None
        letters = "" if word.startswith("--") else word[1:]
        for option in TEXT_OPTIONS[name]:
            if (len(option) == 1 and option in letters) or (len(option) > 1 and word.startswith(f"-{option}")):
                return argv[place + 1] if place + 1 < len(argv) else ""
    return ""  # it reads its input
