#!/usr/bin/env python3
"""Does it stay as fast with a million finished jobs? `bench/growth.py [--quick] [--json PATH]`.

Three databases of one PostgreSQL hold 10^3, 10^5 and 10^6 finished jobs (copies of one that the engine ran), each with
workers of its own; runs alternate between them, so that a noisy moment falls on all. The table shows medians, and the
ratio to the smallest.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"
if PYTHON.exists() and Path(sys.prefix) != PYTHON.parent.parent:
    os.execv(PYTHON, [str(PYTHON), *sys.argv])
sys.path[0] = str(ROOT)

from bench.parts.figures import Figure, median, show, write_json  # noqa: E402  after the path is set
from bench.parts.growth import fill  # noqa: E402
from bench.parts.servers import Servers  # noqa: E402
from config.devstack import prepare  # noqa: E402
from config.devstack.linux import die_with_parent  # noqa: E402

WITHIN = 0.20
MS = {
    "claim_p50": "claim to claim of the next step, p50",
    "claim_p95": "claim to claim of the next step, p95",
    "submit": "submit",
    "sweep": "a sweep that finds nothing",
    "dashboard": "the dashboard's queries",
}
_ONE_JOB = """
import django; django.setup()
from datetime import UTC, datetime
from bench.parts import steps
from bench.parts.servers import wait_for
from agents.models import Job
from agents.submit import submit
owner = steps.prepare_rows()
job, _ = submit(steps.plan(2), user=owner, now=datetime.now(UTC))
wait_for(lambda: Job.objects.get(pk=job.pk).done, timeout_s=60, why="the job ended")
print(job.pk)
"""


@dataclass(slots=True)
class Size:
    """A database with `jobs` finished jobs, with its workers and its driver, all stopped until their turn."""

    jobs: int
    driver: subprocess.Popen[str]
    workers: list[subprocess.Popen[bytes]]

    def measure(self, jobs: int, steps: int) -> dict[str, float]:
        assert self.driver.stdin is not None and self.driver.stdout is not None
        self.driver.stdin.write(json.dumps({"jobs": jobs, "steps": steps}) + "\n")
        self.driver.stdin.flush()
        line = self.driver.stdout.readline()
        assert line, "the driver ended; see its log"
        found: dict[str, float] = json.loads(line)
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="10^3 and 10^4 jobs, shorter runs: under 50 s")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures here, too")
    options = parser.parse_args()
    sizes = [1_000, 10_000] if options.quick else [1_000, 100_000, 1_000_000]
    rounds, jobs, steps = (3, 5, 10) if options.quick else (7, 20, 20)
    # its sweeps are minutes apart: a watchdog would take that for workers that do not consume
    with Servers(CANARY_EVERY_S="0") as servers:
        figures = run(servers, sizes, rounds=rounds, jobs=jobs, steps=steps)
    show(figures)
    if options.json:
        write_json(figures, options.json)
    return 0


def run(servers: Servers, sizes: list[int], *, rounds: int, jobs: int, steps: int) -> list[Figure]:
    grown = _databases(servers, sizes)
    found: dict[int, list[dict[str, float]]] = {size.jobs: [] for size in grown}
    for turn in range(rounds + 1):
        for size in grown if turn % 2 else grown[::-1]:
            values = size.measure(jobs, steps)
            if turn:  # the first finds cold caches
                found[size.jobs].append(values)
    return figures_of(found)


def figures_of(found: dict[int, list[dict[str, float]]]) -> list[Figure]:
    """Ratios are medians over the rounds, each to the smallest of the same round."""
    smallest, figures = min(found), []
    for size, runs in found.items():
        figures.append(Figure(name=f"steps, {size:,} jobs", value=median([r["steps_s"] for r in runs]), unit="steps/s"))
        if size != smallest:
            ratio = median([a["steps_s"] / b["steps_s"] for a, b in zip(runs, found[smallest], strict=True)])
            name = f"steps, {size:,} jobs / {smallest:,} jobs"
            figures.append(Figure(name=name, value=ratio, unit="ratio", reach=1 - WITHIN))
    for key, name in MS.items():
        for size, runs in found.items():
            figures.append(Figure(name=f"{name}, {size:,} jobs", value=median([r[key] for r in runs]), unit="ms"))
            if size != smallest:
                ratio = median([a[key] / b[key] for a, b in zip(runs, found[smallest], strict=True)])
                name_of = f"{name}, {size:,} jobs / {smallest:,} jobs"
                reach = 1 + WITHIN if key.startswith("claim") else None
                figures.append(Figure(name=name_of, value=ratio, unit="ratio", reach=reach, at_least=False))
    return figures


def _databases(servers: Servers, sizes: list[int]) -> list[Size]:
    """The first is made by one real job; each next is a copy of the one before, filled further."""
    app_url = servers.environ["DATABASE_URL"]
    workers = _workers(servers, "first", app_url, servers.environ["REDIS_URL"])
    job = subprocess.run(
        [sys.executable, "-c", _ONE_JOB],
        cwd=ROOT,
        env=servers.environ,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    ).stdout.split()[-1]
    for worker in workers:
        servers.end(worker)
    grown, have, before = [], 0, prepare.DATABASE
    for place, size in enumerate(sizes, start=1):
        began = time.monotonic()
        name = f"grown_{size}"
        with_owner = servers.postgres.url("postgres")
        _sql(with_owner, f"CREATE DATABASE {name} TEMPLATE {before} STRATEGY file_copy")
        fill(servers.postgres.url(name), job=job, first=have + 1, last=size)
        have, before = size, name
        print(f"{size:>9,} jobs are there ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
        grown.append((place, size, name))
    # from here on nothing is copied: connections may be open
    return [
        _start(servers, size, servers.postgres.url(name, user=prepare.APP_ROLE, password="bench"), place)
        for place, size, name in grown
    ]


def _start(servers: Servers, jobs: int, url: str, place: int) -> Size:
    redis_url = servers.redis.url(place)
    workers = _workers(servers, str(jobs), url, redis_url)
    us = os.getpid()
    driver = subprocess.Popen(
        [sys.executable, "-m", "bench.parts.growth"],
        cwd=ROOT,
        env={**servers.environ, "DATABASE_URL": url, "REDIS_URL": redis_url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(servers.folder / f"driver-{jobs}.log").open("wb"),
        text=True,
        preexec_fn=lambda: die_with_parent(us),
    )
    assert driver.stdout is not None
    assert driver.stdout.readline(), "the driver did not start"
    return Size(jobs, driver, workers)


def _workers(servers: Servers, name: str, url: str, redis_url: str) -> list[subprocess.Popen[bytes]]:
    """Two processes that serve the bench's queue."""
    return [
        servers.program(
            f"worker-{name}-{n}",
            *("celery", "-A", "config.celery", "--quiet", "worker", "-n", f"g{name}-{n}@%h", "-Q", "shell,files"),
            *("--pool", "threads", "-c", "4", "--without-gossip", "--without-mingle", "-l", "WARNING"),
            *("-I", "bench.parts.noop"),
            COUNTERSIGN_WORKER_GROUP="shell",
            DATABASE_URL=url,
            REDIS_URL=redis_url,
        )
        for n in range(2)
    ]


def _sql(url: str, statement: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


if __name__ == "__main__":
    sys.exit(main())
