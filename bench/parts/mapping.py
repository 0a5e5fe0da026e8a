"""Items a second of a map: a decision and a row an item, a message and a commit a chunk."""

import time
from datetime import UTC, datetime

from django.contrib.auth.models import User

from agents.engine.intake import NewJob, NewStep, create_job
from agents.models import Job, MapItem, Step
from agents.states import JobState
from audit.actor import Actor
from bench.parts.figures import median
from bench.parts.servers import Servers, wait_for

CHUNK = 500


def items_per_s(servers: Servers, *, quick: bool) -> float:
    """From the submission to the end of the job, so with the fan-out; by the workers that run. The median of some runs."""
    items, rounds = (5_000, 1) if quick else (50_000, 3)
    owner = User.objects.get(username="bench")
    return median([items / _took_s(owner, items) for _ in range(rounds)])


def _took_s(owner: User, items: int) -> float:
    spec = {"over": items, "arguments": {"n": "${{ item }}"}, "chunk": CHUNK, "parallel": 32}
    step = NewStep(key="all", tool="bench.noop", arguments={}, kind=Step.Kind.MAP, spec=spec)
    began = time.perf_counter()
    new = NewJob(owner=owner, kind=Job.Kind.PLAN, goal="map", steps=[step])
    job = create_job(new, now=datetime.now(UTC), actor=Actor.user(owner.pk))
    wait_for(lambda: Job.objects.get(pk=job.pk).done, timeout_s=300, why="the map ended", every_s=0.01)
    took = time.perf_counter() - began
    job.refresh_from_db()
    assert job.state == JobState.SUCCEEDED, job.outcome
    assert MapItem.objects.filter(step__job=job, ok=True).count() == items
    return took
