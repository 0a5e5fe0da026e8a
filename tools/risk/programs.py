"""What the command of a call does, as far as it says so: the programs that it runs, and all else that is read of it."""

import functools
import json
from collections.abc import Mapping
from typing import Any

from tools import commands
from tools.builtin import script
from tools.commands import Reading

_SHELL = ("shell.exec", "shell.script")


def programs_of(tool: str, arguments: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names of the programs that the call runs, each once; () of a tool that runs none of the caller's choice;
    None where that cannot be told (a script that cannot be judged, text for an interpreter).

    A program by its path counts by both, path and last part. A program that runs others (env, xargs, timeout, find with
    -exec) is looked through; where its words are not understood, every word counts that is no option.
    """
    if tool not in _SHELL:
        return ("git",) if tool.startswith("git.") else ()
    return command_of(tool, arguments).programs


def command_facts(tool: str, arguments: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What policies see of the command (`tools.commands.facts`); None of a tool that runs none, or of arguments that are
    none of its."""
    given = arguments.get("argv" if tool == "shell.exec" else "script") if tool in _SHELL else None
    if isinstance(given, str) or (isinstance(given, list) and given and all(isinstance(word, str) for word in given)):
        return commands.facts(command_of(tool, arguments))
    return None


def command_of(tool: str, arguments: Mapping[str, Any]) -> Reading:
    """The reading of the command that `shell.exec` or `shell.script` is to run."""
    given = arguments["argv"] if tool == "shell.exec" else arguments["script"]
    return _read(json.dumps(given), str(arguments.get("cwd", ".")))


@functools.lru_cache(maxsize=256)  # risk, policy and digest ask for the same one, one after the other
def _read(given: str, cwd: str) -> Reading:
    words = json.loads(given)
    if isinstance(words, list):
        return commands.read([words], cwd)
    parsed = script.parse(words)
    return commands.opaque(parsed.opaque) if parsed.opaque else commands.read(parsed.commands, cwd)
