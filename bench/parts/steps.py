"""Governed steps of ours, run by real workers: how many a second, at what CPU, how quickly one follows the other."""

import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from django.contrib.auth.models import Group, User
from django.db import connection

from agents.models import Job, Step
from agents.states import JobState
from agents.submit import submit
from approvals.defaults import ensure_policies
from approvals.models import Policy, PolicyRule
from approvals.policy import versions
from bench.parts import noop  # noqa: F401  registers its tool
from bench.parts.servers import Servers, cpu_s, spent, wait_for
from bench.parts.workers import Workers
from config.devstack.places import REPOSITORY

DONE_S = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """per_s: of steps or tasks; cpu_ms: a step or task, by who spent it."""

    per_s: float
    cpu_ms: dict[str, float]


def prepare_rows() -> User:
    """A person, the policy of a new server, and one of the bench's own whose condition is evaluated for each step."""
    owner = User.objects.create_user("bench", "bench@example.invalid")
    group = Group.objects.create(name="approvers")
    owner.groups.add(group)
    ensure_policies(group)
    draft = versions.new_draft(Policy.objects.create(name="bench"), by=None)
    PolicyRule.objects.create(
        version=draft,
        order=10,
        name="noop",
        tools=["bench.*"],
        condition="call.risk == 'low' && job.owner == 'bench'",
        effect=PolicyRule.Effect.ALLOW,
        reason="It does nothing.",
    )
    versions.publish(draft.pk, by=None, now=datetime.now(UTC))
    return owner


def plan(steps: int) -> dict[str, object]:
    """A chain: each step needs the one before."""
    return {
        "steps": [
            {"key": f"s{n}", "tool": "bench.noop", "arguments": {"n": n}, "needs": [f"s{n - 1}"] if n else []}
            for n in range(steps)
        ]
    }


def submit_many(owner: User, *, jobs: int, steps: int) -> float:
    """Jobs a second, by one caller in one thread."""
    wanted = plan(steps)
    began = time.perf_counter()
    for _ in range(jobs):
        submit(wanted, user=owner, now=datetime.now(UTC))
    return jobs / (time.perf_counter() - began)


class Submitters:
    """Several processes that submit at once, as web processes do."""

    def __init__(self, servers: Servers, *, callers: int) -> None:
        argv = [sys.executable, "-m", "bench.parts.submitter"]
        pipe = subprocess.PIPE
        self._processes = [
            subprocess.Popen(argv, cwd=REPOSITORY, env=servers.environ, stdin=pipe, stdout=pipe, text=True)
            for _ in range(callers)
        ]

    def wait(self) -> None:
        """Until they are ready: they start while others do."""
        self._hear("ready")

    def jobs_per_s(self, jobs: int) -> float:
        """jobs: of each caller."""
        began = time.perf_counter()
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{jobs}\n")
            process.stdin.flush()
        self._hear("done")
        return jobs * len(self._processes) / (time.perf_counter() - began)

    def end(self) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            process.wait(timeout=60)

    def _hear(self, word: str) -> None:
        for process in self._processes:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == word, "a submitting process ended"


def throughput(servers: Servers, workers: Workers, owner: User, *, jobs: int, steps: int) -> Run:
    """Jobs are waiting when the workers start; the clock stops when the last job has ended."""
    workers.pause()
    since = datetime.now(UTC)
    submit_many(owner, jobs=jobs, steps=steps)
    whose = {"workers": workers.pids, "PostgreSQL": [servers.postgres_pid], "Redis": [servers.redis_pid]}
    before = {name: sum(map(cpu_s, pids)) for name, pids in whose.items()}
    began = time.perf_counter()
    workers.go_on()
    wait_for(lambda: _ended(since) >= jobs, timeout_s=DONE_S, why="all jobs ended", every_s=0.01)
    took = time.perf_counter() - began
    after = {name: sum(map(cpu_s, pids)) for name, pids in whose.items()}
    total = jobs * steps
    _all_succeeded(since, total)
    return Run(per_s=total / took, cpu_ms={name: s * 1000 / total for name, s in spent(before, after).items()})


def idle_gaps_ms(owner: User, *, steps: int) -> list[float]:
    """From the start of a step to the start of the next, in one job alone."""
    job, _ = submit(plan(steps), user=owner, now=datetime.now(UTC))
    wait_for(lambda: Job.objects.get(pk=job.pk).done, timeout_s=DONE_S, why="the job ended")
    started = Step.objects.filter(job=job).order_by("seq").values_list("started_at", flat=True)
    starts = [at for at in started if at is not None]
    gaps = [(after - before) / timedelta(milliseconds=1) for before, after in pairwise(starts)]
    return gaps[5:]  # the first find cold caches


def _ended(since: datetime) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM agents_job WHERE created_at >= %s AND finished_at IS NOT NULL", [since])
        return int(cursor.fetchone()[0])


def _all_succeeded(since: datetime, total: int) -> None:
    """Raises AssertionError: what was measured is not what it should be."""
    assert not Job.objects.filter(created_at__gte=since).exclude(state=JobState.SUCCEEDED).exists()
    found = Step.objects.filter(created_at__gte=since, state="succeeded", attempts__outcome="succeeded").count()
    assert found == total, f"{found} of {total} steps succeeded"


def wait_until_idle() -> None:
    """Until no job is unfinished."""
    wait_for(lambda: not Job.objects.filter(finished_at__isnull=True).exists(), timeout_s=DONE_S, why="all jobs ended")
