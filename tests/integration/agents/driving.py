"""Plays the workers in one process: what a message would have told them is read from the rows."""

from typing import Any

from django.utils import timezone

from agents.engine import children
from agents.engine.execute import Delivery, execute
from agents.engine.intake import NewJob, NewStep, create_job
from agents.models import Job, Step
from agents.states import JOB_DONE, StepState
from audit.actor import Actor
from tests.factories.people import user

HERE = Delivery(queue="shell", worker="test@here", task_id="t-1")


def submit(*steps: NewStep, **fields: Any) -> Job:
    owner = user("ada")
    new = NewJob(**{"owner": owner, "kind": "plan", "goal": "a plan", "steps": steps, **fields})
    return create_job(new, now=timezone.now(), actor=Actor.user(owner.pk))


def run_all(job: Job, *, rounds: int = 200) -> Job:
    """Runs what stands ready, in this job and in those that it starts, until nothing does."""
    for _ in range(rounds):
        ready = list(Step.objects.filter(state__in=[StepState.QUEUED, StepState.READY], not_before=None))
        for one in ready:
            execute(one.pk, one.attempt, HERE)
        if not children.sweep(timezone.now()) and not ready:
            break
    job.refresh_from_db()
    return job


def states(job: Job) -> dict[str, str]:
    return dict(Step.objects.filter(job=job).values_list("key", "state"))


def step_of(job: Job, key: str) -> Step:
    return Step.objects.get(job=job, key=key)


def ended(job: Job) -> bool:
    return Job.objects.get(pk=job.pk).state in JOB_DONE
