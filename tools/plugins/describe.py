"""Prints the definitions of a plugin's tools. Run in the sandbox, with nothing to read but the plugin and what it needs:

    python -I -S -B describe.py LIB ENTRY_POINT…

LIB is a folder with the packages; an entry point is `module:attribute`. Each line of output is JSON: of one entry point its
tools, or what went wrong.
"""

import importlib
import json
import sys
from typing import Any


def main(lib: str, entries: list[str]) -> None:
    sys.path.insert(0, lib)
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
