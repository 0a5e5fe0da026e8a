#!/usr/bin/env python3
"""How much memory the running development stack takes: `bench/memory.py [--data-dir DIR] [--json PATH]`.

Sums PSS (a page that n processes share counts 1/n in each) over the supervisor of that data folder and everything below
it, PostgreSQL and Redis included. Run it as the user that started the stack, or as root. One look takes a moment, so
`--quick` changes nothing.
"""

import argparse
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"
if PYTHON.exists() and Path(sys.prefix) != PYTHON.parent.parent:
    os.execv(PYTHON, [str(PYTHON), *sys.argv])
sys.path[0] = str(ROOT)

from bench.parts.figures import Figure, show, write_json  # noqa: E402  after the path is set
from bench.parts.servers import pss_bytes, tree  # noqa: E402

MOST_MIB = 1e9 / 2**20  # the whole idle stack stays under 1 GB


def command(pid: int) -> str:
    text = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return text or Path(f"/proc/{pid}/comm").read_text().strip()


def main() -> int:
    parser = argparse.ArgumentParser(description="Memory (PSS) of the running development stack.")
    parser.add_argument("--data-dir", type=Path, default=ROOT / ".data")
    parser.add_argument("--quick", action="store_true", help="the same: one look takes a moment")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures here, too")
    options = parser.parse_args()
    try:
        root = int(json.loads((options.data_dir / "run.json").read_text())["pid"])
    except (OSError, ValueError, KeyError):
        print(f"Nothing runs with the data folder {options.data_dir}.", file=sys.stderr)
        return 1
    rows = []
    for pid in tree(root):
        try:
            rows.append((pss_bytes(pid), pid, command(pid)))
        except (FileNotFoundError, ProcessLookupError):
            continue
    for size, pid, text in sorted(rows, reverse=True):
        print(f"{size / 2**20:8.1f} MiB  {pid:>7}  {text[:100]}")
    print()
    total = sum(size for size, _, _ in rows) / 2**20
    figures = [
        Figure(name="the running stack", value=total, unit="MiB PSS", reach=MOST_MIB, at_least=False),
        Figure(name="its processes", value=len(rows), unit="processes"),
    ]
    show(figures)
    if options.json:
        write_json(figures, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
