"""Prints the definitions of a plugin's tools. Run in the sandbox, with nothing to read but the plugin and what it needs:

    python -I -S -B describe.py LIB ENTRY_POINT…

LIB is a folder with the packages; an entry point is `module:attribute`. Each line of output is JSON: of one entry point its
tools, or what went wrong. What the server's own modules import of packages that are not in LIB, such as Django, is stood in
for: nothing of it is needed to say what a tool is.
"""

import importlib
import json
import sys
from collections.abc import MutableSequence, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class _Anything(type):
    """Has every attribute, and may be called: with nothing behind it."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (Exception,), {})


class _StandIn(ModuleType):
    __path__: MutableSequence[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (Exception,), {})


class _StandIns:
    """The last finder: whatever no other has found."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        here = name.partition(".")[0] in {"tools", "audit"} | sys.stdlib_module_names
        return None if here else ModuleSpec(name, _StandIns, is_package=True)  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Nothing to run."""


def main(lib: str, entries: list[str]) -> None:
    sys.path.insert(0, lib)
    sys.meta_path.append(_StandIns)
    out, sys.stdout = sys.stdout, sys.stderr  # what the plugin prints is no answer
    for entry in entries:
        print(json.dumps({"entry": entry, **_described(entry)}), file=out, flush=True)


def _described(entry: str) -> dict[str, Any]:
    try:
        from tools.plugins.defining import definition_of, tools_of  # in LIB

        module, _, attribute = entry.partition(":")
        named: Any = importlib.import_module(module.strip())
        for part in filter(None, attribute.strip().split(".")):
            named = getattr(named, part)
        tools = [definition_of(tool) for tool in tools_of(named)]
        json.dumps(tools)
    except BaseException as error:
        return {"problem": f"{type(error).__name__}: {error}"[:500]}
    return {"tools": tools}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
