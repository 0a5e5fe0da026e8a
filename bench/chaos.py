#!/usr/bin/env python3
"""The chaos campaign: `bench/chaos.py [--quick] [--json PATH] [--seed N] [--keep DIR]`.

Starts a whole stack of its own, runs jobs of mixed effects, kills, stops and empties everything by a seeded schedule,
and compares what a ledger outside the system counted with what the database says. Exit code 1 where they differ.
"""

import argparse
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"
if PYTHON.exists() and Path(sys.prefix) != PYTHON.parent.parent:
    os.execv(PYTHON, [str(PYTHON), *sys.argv])
sys.path[0] = str(ROOT)

from bench.campaign.run import Outcome, Plan, campaign  # noqa: E402  after the path is set
from bench.campaign.verdict import as_text  # noqa: E402
from bench.parts.figures import Figure, percentile, show, write_json  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description="Kills, stops and empties everything, and counts what came of it.")
    parser.add_argument("--quick", action="store_true", help="40 jobs and 8 faults: under 50 s")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures here, too")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep logs, database and ledger there")
    options = parser.parse_args()
    plan = Plan.quick(options.seed) if options.quick else Plan.full(options.seed)
    began = time.monotonic()
    outcome = campaign(
        plan,
        say=lambda text: print(f"{time.monotonic() - began:7.1f} s  {text}", file=sys.stderr, flush=True),
        keep=options.keep,
    )
    figures = figures_of(outcome, plan)
    print(as_text(outcome.verdict, outcome.faults))
    print(f"processes left behind: {len(outcome.left)}")
    print(f"{time.monotonic() - began:.0f} s, seed {plan.seed}, lease {plan.lease_s} s\n")
    show(figures)
    if options.json:
        write_json(figures, options.json)
    return 0 if outcome.verdict.ok and not outcome.left else 1


def figures_of(outcome: Outcome, plan: Plan) -> list[Figure]:
    found, counts = outcome.verdict, outcome.verdict.counts
    figures = [
        Figure(name="jobs", value=counts["jobs"], unit="", reach=plan.jobs),
        Figure(name="steps", value=counts["steps"], unit=""),
        Figure(name="faults", value=len(outcome.faults), unit=""),
        Figure(name="messages sent twice", value=outcome.doubled, unit="", reach=1),
        Figure(name="messages sent again much later", value=outcome.stale, unit=""),
        _none("jobs and steps lost", len(found.lost) + len(found.unfinished)),
        _none("effects and jobs doubled", len(found.doubled)),
        _none("steps that ended badly though no fault explains it", len(found.broken)),
        Figure(name="attempts that came into doubt", value=counts["in doubt"], unit=""),
        _none("lost or doubtful attempts that no fault explains", len(found.unexplained)),
        Figure(name="doubts answered by people", value=outcome.answered, unit=""),
        _none("messages left at the end", found.backlog),
        _none("faults of the audit log", 1 if found.audit else 0),
    ]
    for title, values, reach in (
        ("a killed worker's step is taken from it", found.noticed, plan.lease_s + 2.0),
        ("a killed worker's step runs again", found.recoveries, plan.lease_s + 2.0),
        ("it runs again, amid other faults", found.others, None),
    ):
        for name, value in (
            ("p50", percentile(values, 50)),
            ("p95", percentile(values, 95)),
            ("max", max(values, default=float("nan"))),
        ):
            if values:
                figures.append(
                    Figure(name=f"{title}, {name} of {len(values)}", value=value, unit="s", reach=reach, at_least=False)
                )
    return figures


def _none(name: str, count: int) -> Figure:
    return Figure(name=name, value=count, unit="", reach=0, at_least=False)


if __name__ == "__main__":
    sys.exit(main())
