#!/usr/bin/env python3
"""What it costs to hold a command, and how quickly one is let go: `bench/sandbox.py [--quick] [--json PATH]`.

For each tier that works here: a run of /bin/true beside the bare process (alternating; medians), a step that prints
10 GB with the bound on output raised (how fast it is read, and how much more memory the worker takes; --quick prints
1 GB), and a family of processes that ignores SIGTERM, daemonises, holds the pipes and starts itself anew: how long it
lives after a cancel, and after the worker was killed outright. Needs no servers.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"
if PYTHON.exists() and Path(sys.prefix) != PYTHON.parent.parent:
    os.execv(PYTHON, [str(PYTHON), *sys.argv])
sys.path[0] = str(ROOT)
os.environ["PYTHONPATH"] = str(ROOT)

from bench.parts import sandboxing  # noqa: E402  after the path is set
from bench.parts.figures import Figure, median, percentile, show, write_json  # noqa: E402
from tools.sandbox import probe  # noqa: E402

MOST_BEYOND_MS = 40.0
LEAST_MB_PER_S = 200.0
MOST_MORE_MB = 20.0
MOST_LEFT_S = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer runs, 1 GB of output: under 50 s")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures here, too")
    parser.add_argument("--flood", nargs=2, metavar=("TIER", "BYTES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.flood:
        print(json.dumps(sandboxing.flood(options.flood[0], int(options.flood[1]))))
        return 0
    tiers = []
    for report in probe.tiers():
        if report.works:
            tiers.append(report.name)
        else:
            print(f"{report.name} does not work here: {report.why}", file=sys.stderr)
    figures = overhead(tiers, runs=15 if options.quick else 60)
    for tier in tiers:
        figures += output(tier, size_bytes=10**9 if options.quick else 10**10)
    for tier in tiers:
        figures += ends(tier, rounds=1 if options.quick else 5)
    show(figures)
    if options.json:
        write_json(figures, options.json)
    return 0


def overhead(tiers: list[str], *, runs: int) -> list[Figure]:
    bare: list[float] = []
    held: dict[str, list[float]] = {tier: [] for tier in tiers}
    cpu: dict[str, list[float]] = {tier: [] for tier in tiers}
    with sandboxing.place() as where:
        for _ in range(runs):
            bare.append(sandboxing.bare_ms())
            for tier, took in held.items():
                before = sandboxing.cpu_ms()
                took.append(sandboxing.held_ms(where, tier))
                cpu[tier].append(sandboxing.cpu_ms() - before)
    figures = [Figure(name="a bare process", value=median(bare), unit="ms, median")]
    for tier, took in held.items():
        name = f"a run in {tier}, beyond the bare process"
        beyond = median(took) - median(bare)
        figures.append(Figure(name=name, value=beyond, unit="ms, median", reach=MOST_BEYOND_MS, at_least=False))
        figures.append(Figure(name=f"a run in {tier}", value=percentile(took, 95), unit="ms, 95th percentile"))
        figures.append(
            Figure(name=f"a run in {tier}, all its processes", value=median(cpu[tier]), unit="ms of processor")
        )
    return figures


def output(tier: str, *, size_bytes: int) -> list[Figure]:
    """Measured in a process of its own, whose memory nothing else has touched."""
    argv = [sys.executable, str(ROOT / "bench" / "sandbox.py"), "--flood", tier, str(size_bytes)]
    found = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    name = f"{size_bytes // 10**9} GB printed in {tier}"
    speed = Figure(name=name, value=found["mb_per_s"], unit="MB/s read", reach=LEAST_MB_PER_S)
    memory = Figure(name=name, value=found["more_mb"], unit="MB more memory", reach=MOST_MORE_MB, at_least=False)
    return [speed, memory]


def ends(tier: str, *, rounds: int) -> list[Figure]:
    with sandboxing.place() as where:
        cancelled = max(sandboxing.cancel_s(where, tier) for _ in range(rounds))
    killed = max(sandboxing.worker_killed_s(tier) for _ in range(rounds))
    what = {f"cancel to 0 processes in {tier}": cancelled, f"worker killed to 0 processes in {tier}": killed}
    return [
        Figure(name=name, value=took, unit="s, longest", reach=MOST_LEFT_S, at_least=False)
        for name, took in what.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
