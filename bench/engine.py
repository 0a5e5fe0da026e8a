#!/usr/bin/env python3
"""What a governed step costs, beside a plain Celery no-op: `bench/engine.py [--quick] [--json PATH]`.

Starts its own PostgreSQL (fsync on), Redis and workers in a folder under /tmp, and ends them. A governed step is one
call of a tool that does nothing: released, decided by published policies, permitted, claimed with a lease, run, settled,
told in the feed, recorded by signed audit records, and the next step published. A no-op is `@app.task` with an empty
body, with Celery's default settings, on the same Redis with as many worker processes and the same pool. Runs of both
alternate; the table shows medians.
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

from bench.parts.figures import Figure, median, percentile, show, write_json  # noqa: E402  after the path is set
from bench.parts.servers import Servers, pss_bytes  # noqa: E402

PROCESSES, THREADS = 2, 16
CALLERS = 3  # processes that submit at once
STEPS_PER_TASK = 64  # of the runs that spare Celery's loop


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs: under 50 s")
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
    from bench.parts import models, steps, workers

    owner = steps.prepare_rows()
    pool = ["--pool", "threads", "-c", str(THREADS)]
    plain = workers.Plain(servers, processes=PROCESSES, arguments=pool, database=1, name="plain")
    ours = workers.ours(servers, processes=PROCESSES, threads=THREADS)
    submitters = steps.Submitters(servers, callers=CALLERS)
    rounds, tasks, jobs, length = (2, 600, 20, 20) if quick else (5, 4000, 60, 50)
    plain.warm_up()
    steps.idle_gaps_ms(owner, steps=20)
    submitters.wait()
    no_ops, governed, ratios, gaps, submits, together = [], [], [], [], [], []
    for _ in range(rounds):
        no_ops.append(plain.throughput(tasks))
        governed.append(steps.throughput(servers, ours, owner, jobs=jobs, steps=length))
        ratios.append(governed[-1].per_s / no_ops[-1][0])
        gaps += steps.idle_gaps_ms(owner, steps=40 if quick else 60)
        ours.pause()
        submits.append(steps.submit_many(owner, jobs=tasks // 20, steps=1))
        together.append(submitters.jobs_per_s(tasks // 20))
        ours.go_on()
        steps.wait_until_idle()
    submitters.end()
    cpu = {name: median([run.cpu_ms[name] for run in governed]) for name in governed[0].cpu_ms}
    plain_cpu = {name: median([run[1][name] for run in no_ops]) for name in no_ops[0][1]}
    publishing = plain.publish_cost_ms(tasks)
    by_cpu = (sum(plain_cpu.values()) + publishing) / sum(cpu.values())
    memory = max(map(pss_bytes, ours.pids))
    fan_out = fan_out_figures(servers, quick=quick)
    servers.end(*ours.processes, *plain.workers.processes)
    following = workers.ours(servers, processes=PROCESSES, threads=THREADS, steps_per_task=STEPS_PER_TASK)
    steps.idle_gaps_ms(owner, steps=20)
    followed = [
        steps.throughput(servers, following, owner, jobs=jobs, steps=length).per_s
        for _ in range(1 if quick else rounds)
    ]
    following.end(servers)
    calls = 60 if quick else 200
    held = models.hold(servers, owner, calls=calls)
    figures = [
        Figure(name="plain Celery no-op, default settings", value=median([run[0] for run in no_ops]), unit="tasks/s"),
        Figure(name="governed step", value=median([run.per_s for run in governed]), unit="steps/s"),
        Figure(name="governed step / plain no-op", value=median(ratios), unit="ratio", reach=1.0),
        Figure(name="the same by CPU, the no-op with its publishing", value=by_cpu, unit="ratio"),
        Figure(name=f"governed step, up to {STEPS_PER_TASK} of a job a task", value=median(followed), unit="steps/s"),
        *(Figure(name=f"plain no-op: {name}", value=ms, unit="CPU ms") for name, ms in plain_cpu.items()),
        Figure(name="plain no-op: publishing", value=publishing, unit="CPU ms"),
        *(Figure(name=f"governed step: {name}", value=ms, unit="CPU ms") for name, ms in cpu.items()),
        Figure(name="idle, step to step, p50", value=percentile(gaps, 50), unit="ms"),
        Figure(name="idle, step to step, p95", value=percentile(gaps, 95), unit="ms", reach=5.0, at_least=False),
        Figure(name="submit, one caller", value=median(submits), unit="jobs/s"),
        Figure(name=f"submit, {CALLERS} callers", value=median(together), unit="jobs/s", reach=500.0),
        Figure(name="a worker's memory", value=memory / 2**20, unit="MiB PSS"),
        Figure(name=f"{calls} model calls of 1 s by one worker: at one moment", value=held.together, unit="calls"),
        Figure(name="from the first to the last of them", value=held.took_s, unit="s"),
        Figure(name="that worker's memory", value=held.pss_bytes / 1e6, unit="MB PSS", reach=300.0, at_least=False),
        Figure(name="its database connections, and the bench's own", value=held.connections, unit="connections"),
    ]
    return figures + fan_out


def fan_out_figures(servers: Servers, *, quick: bool) -> list[Figure]:
    """Items a second of a `map` step."""
    try:
        from bench.parts import mapping
    except ImportError:
        return []
    return [Figure(name="map items", value=mapping.items_per_s(servers, quick=quick), unit="items/s", reach=10_000.0)]


if __name__ == "__main__":
    sys.exit(main())
