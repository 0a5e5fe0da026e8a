#!/usr/bin/env python3
"""The chaos campaign: `bench/chaos.py [--quick] [--json PATH] [--seed N] [--keep DIR]`.

Starts a whole stack of its own, runs jobs of mixed effects, kills, stops and empties everything by a seeded schedule,
and compares what a ledger outside the system counted with what the database says. Exit code 1 where they differ.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.campaign.run import Outcome, Plan, campaign
from bench.campaign.verdict import as_text, percentile


def main() -> int:
    parser = argparse.ArgumentParser(description="Kills, stops and empties everything, and counts what came of it.")
    parser.add_argument("--quick", action="store_true", help="60 jobs, 7 faults")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there")
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
    print(f"processes left behind: {len(outcome.left)}\n")
    for figure in figures:
        reach = f"reach {figure['reach']}" if figure["reach"] else ""
        print(f"{figure['name']:<58}{figure['value']:>10} {figure['unit']:<8}{reach:<16}{_word(figure['ok'])}")
    print(f"\n{time.monotonic() - began:.0f} s, seed {plan.seed}, lease {plan.lease_s} s")
    if options.json:
        options.json.write_text(json.dumps({"figures": figures}, indent=1))
    return 0 if outcome.verdict.ok and not outcome.left else 1


def figures_of(outcome: Outcome, plan: Plan) -> list[dict[str, Any]]:
    """`ok` is None for what has no reach."""
    found, counts = outcome.verdict, outcome.verdict.counts
    least = 60 if plan.jobs < 1000 else 1000
    figures: list[tuple[str, float, str, str, bool | None]] = [
        ("jobs", counts["jobs"], "", f">= {least}", counts["jobs"] >= least),
        ("steps", counts["steps"], "", "", None),
        ("faults", len(outcome.faults), "", "", None),
        ("messages doubled at once", outcome.doubled, "", "> 0", outcome.doubled > 0),
        ("stale copies sent later", outcome.stale, "", "", None),
        ("lost", len(found.lost) + len(found.unfinished) + len(found.broken), "", "0", not found.lost),
        ("doubled", len(found.doubled), "", "0", not found.doubled),
        ("steps that came into doubt", counts["in doubt"], "", "", None),
        ("lost or doubtful attempts that no fault explains", len(found.unexplained), "", "0", not found.unexplained),
        ("doubts answered by people", outcome.answered, "", "", None),
        ("messages left at the end", found.backlog, "", "0", found.backlog == 0),
        ("audit log whole", 0 if found.audit else 1, "", "1", not found.audit),
    ]
    reach = plan.lease_s + 2.0
    for title, values, judged in (
        ("recovery of a killed worker's step", found.recoveries, True),
        ("the same amid other faults", found.others, False),
    ):
        if values:
            for name, value in (
                ("p50", percentile(values, 0.5)),
                ("p95", percentile(values, 0.95)),
                ("max", max(values)),
            ):
                text = f"<= {reach:g}" if judged else ""
                figures.append((f"{title}, {name}", round(value, 2), "s", text, value <= reach if judged else None))
            figures.append((f"{title}, steps", len(values), "", "", None))
    figures[5] = (*figures[5][:4], figures[5][1] == 0)
    return [dict(zip(("name", "value", "unit", "reach", "ok"), figure, strict=True)) for figure in figures]


def _word(ok: bool | None) -> str:
    return "" if ok is None else "ok" if ok else "MISSED"


if __name__ == "__main__":
    sys.exit(main())
