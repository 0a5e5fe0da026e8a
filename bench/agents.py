#!/usr/bin/env python3
"""Agents: what a model call costs beyond the model, streams at a time, memory search, MCP calls: `bench/agents.py [--quick] [--json PATH]`.

Starts its own PostgreSQL (fsync on), Redis, workers and scripted model in a folder under /tmp, and ends them.
"""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"
if PYTHON.exists() and Path(sys.prefix) != PYTHON.parent.parent:
    os.execv(PYTHON, [str(PYTHON), *sys.argv])
sys.path[0] = str(ROOT)

from bench.parts.figures import Figure, show, write_json  # noqa: E402  after the path is set
from bench.parts.servers import Servers  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds and entries: under 50 s")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures here, too")
    options = parser.parse_args()
    with Servers() as servers:
        figures = measure(servers, quick=options.quick)
    show(figures)
    if options.json:
        write_json(figures, options.json)
    return 0


def measure(servers: Servers, *, quick: bool) -> list[Figure]:
    import django

    django.setup()
    from bench.parts import asking, mcp, memory

    parts = (asking, mcp, memory)
    return [figure for part in parts for figure in part.figures(servers, quick=quick)]


if __name__ == "__main__":
    sys.exit(main())
