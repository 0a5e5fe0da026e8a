#!/usr/bin/env python3
"""How much memory the running development stack takes: `bench/memory.py [--data-dir DIR] [--json]`.

Sums PSS (a page that n processes share counts 1/n in each) over the supervisor of that data folder and everything below
it, PostgreSQL and Redis included. Run it as the user that started the stack, or as root.
"""

import argparse
import json
import os
import sys
from pathlib import Path


def tree(root: int) -> list[int]:
    """`root` and all its descendants."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def pss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def command(pid: int) -> str:
    text = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return text or Path(f"/proc/{pid}/comm").read_text().strip()


def main() -> int:
    parser = argparse.ArgumentParser(description="Memory (PSS) of the running development stack.")
    default = Path(__file__).resolve().parent.parent / ".data"
    parser.add_argument("--data-dir", type=Path, default=default)
    parser.add_argument("--json", action="store_true")
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
    total = sum(size for size, _, _ in rows)
    if options.json:
        print(json.dumps({"pss_bytes": total, "processes": len(rows)}))
        return 0
    for size, pid, text in sorted(rows, reverse=True):
        print(f"{size / 2**20:8.1f} MiB  {pid:>7}  {text[:100]}")
    print(f"{total / 2**20:8.1f} MiB  in {len(rows)} processes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
