"""The jobs above and below a job, and what it was given, as its page shows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import User

from agents.models import Job, Step
from agents.selectors import visible_jobs
from agents.states import JOB_DONE, JobState
from agents.web.labels import JOB_LABELS
from agents.web.overview import with_progress
from agents.web.words import between, count, first_line, readable
from audit.canonical import canonical_json

SHOWN = 100  # jobs in the tree
TITLE_CHARS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Relative:
    """A job beside the one that is read. step: the key of the step that started it; depth: below that one."""

    job: Job
    title: str
    label: str
    step: str
    depth: int = 0
    progress: str = ""
    percent: int = 0
    took: str = ""
    outcome: str = ""
    outputs: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """above: from the first job down to the one that started this; below: in the order of a tree."""

    above: list[Relative]
    below: list[Relative]
    summary: str


def family(job: Job, user: User, now: datetime) -> Family:
    """What of its family the user may see: at most a query a level."""
    below = _below(job, user, now)
    states: dict[str, int] = {}
    for one in below:
        states[one.label] = states.get(one.label, 0) + 1
    told = ", ".join(f"{number} {label}" for label, number in states.items())
    return Family(
        above=_above(job, user),
        below=below,
        summary=f"{count(len(below), 'job')} started from here: {told}" if below else "",
    )


def _above(job: Job, user: User) -> list[Relative]:
    found: list[Relative] = []
    at: Job | None = job
    while at is not None and at.parent_id is not None and at.parent_step_id is not None:
        key = Step.objects.filter(pk=at.parent_step_id).values_list("key", flat=True).first() or ""
        at = visible_jobs(user).filter(pk=at.parent_id).first()
        if at is not None:
            found.insert(0, _relative(at, key, 0))
    return found


def _below(job: Job, user: User, now: datetime) -> list[Relative]:
    children: dict[UUID, list[Job]] = {}
    level: Sequence[UUID] = [job.pk]
    total = 0
    while level and total < SHOWN:
        rows = visible_jobs(user).filter(parent__in=level).select_related("parent_step").order_by("created_at")
        found = list(with_progress(rows)[: SHOWN - total])
        for one in found:
            assert one.parent_id is not None
            children.setdefault(one.parent_id, []).append(one)
        level, total = [one.pk for one in found], total + len(found)
    return _tree(children, job.pk, 0, now)


def _tree(children: dict[UUID, list[Job]], of: UUID, depth: int, now: datetime) -> list[Relative]:
    found = []
    for one in children.get(of, []):
        key = one.parent_step.key if one.parent_step else ""
        found += [_relative(one, key, depth, now), *_tree(children, one.pk, depth + 1, now)]
    return found


def _relative(job: Job, step: str, depth: int, now: datetime | None = None) -> Relative:
    total, done = getattr(job, "steps_total", 0), getattr(job, "steps_done", 0)
    outputs = canonical_json(job.outputs).decode() if job.outputs else ""
    return Relative(
        job=job,
        title=first_line(readable(job.goal), TITLE_CHARS),
        label=JOB_LABELS[JobState(job.state)],
        step=step,
        depth=depth,
        progress=f"{done} of {count(total, 'step')} done" if total else "",
        percent=round(100 * done / total) if total else 0,
        took=between(job.started_at or job.created_at, job.finished_at or now) if now else "",
        outcome=readable(job.outcome) if job.state in JOB_DONE else "",
        outputs=readable(first_line(outputs, 400)),
    )


def child_of(step: Step, user: User, now: datetime) -> Relative | None:
    """The job that a step started last, where the user may see it."""
    if step.kind != Step.Kind.JOB:
        return None
    jobs = visible_jobs(user).filter(parent_step=step).order_by("-created_at")
    found = with_progress(jobs).first()
    return _relative(found, step.key, 0, now) if found is not None else None


def given(job: Job) -> list[tuple[str, str]]:
    """What a job was given by the one that started it, in words: (name, value)."""
    if job.parent_id is None:
        return []
    share = f"{count(job.max_steps, 'step')} and {count(job.max_tokens, 'token')} of its parent's"
    return [("Given", share), ("May use", grant_words(job.grant))]


def grant_words(grant: Sequence[Sequence[str]]) -> str:
    """The narrowest level first; every one of them must cover a call."""
    if not grant:
        return "whatever the policies allow"
    levels = [", ".join(patterns) if patterns else "nothing" for patterns in reversed(grant)]
    distinct = list(dict.fromkeys(levels))
    return "; of that only what is also in: ".join(distinct)
