"""Which steps a fork keeps, and the snapshot of the workspace with which it begins: as it was when its step began.

Kept is what had ended by then. What ran beside the step and ended after it had begun is not in that snapshot, so it
runs again in the fork; what must not run twice and was under way is a reason to refuse.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from agents.engine.advance import THINK
from agents.errors import NotNow
from agents.models import Job, Step
from agents.states import StepState
from tools import registry
from tools.errors import UnknownTool
from tools.snapshots import History
from tools.spec import Effect

COPIED = "copied"  # the effect in the decision of a copied step: it was decided on in the other job
_OVER = frozenset({StepState.FAILED, StepState.REFUSED, StepState.SKIPPED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a step, with its chunks and the jobs that it started, did in the workspace, by numbers of snapshots: the
    last before it began, and the first that holds all of it, None where none does."""

    began: int
    ended: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """kept: steps that had ended; number: the snapshot, 0 for an empty workspace; missing: why it cannot be had."""

    kept: frozenset[UUID]
    number: int
    missing: str


def writes(step: Step) -> bool:
    """May it have changed the workspace?"""
    if step.effect == Effect.READ or step.tool == THINK or step.tool.startswith(("llm.", "plan.")):
        return False
    try:
        return not registry.get(step.tool).asks_person
    except UnknownTool:
        return True


def copied(step: Step) -> bool:
    """Did it run in the job that this one was forked from?"""
    return (step.decision or {}).get("effect") == COPIED


def find(job: Job, steps: Sequence[Step], at: Step, kept: Collection[UUID], history: History) -> Moment | None:
    """The moment before `at` began. kept: the steps that ended well and stand before it; steps: of the job itself.

    None: the history does not tell.

    Raises:
        NotNow: what must not run twice was under way at that moment, or it lies before the job was forked.
    """
    works = _works(job, history)
    mine = works.get(at.pk)
    _refuse_older(job, steps, at, kept)
    if not history.whole and _untold(steps, at, kept, works):
        return None
    if job.parent_id is not None and not works:
        return None
    stay = _had_ended(steps, at, kept, works)
    known = [works[pk] for pk in stay if pk in works]
    if mine is not None:
        number = mine.began
    elif any(work.ended is None for work in known):
        return None
    else:
        start = min((work.began for work in works.values()), default=history.latest)
        number = max((work.ended or 0 for work in known), default=start)
    _refuse_twice([step for step in steps if step.pk not in stay and step.pk != at.pk], works, number)
    snapshot = history.snapshots.get(number)
    missing = "it is no longer kept" if snapshot is None else snapshot.missing
    return Moment(kept=stay, number=number, missing=missing if number else "")


def _had_ended(steps: Sequence[Step], at: Step, kept: Collection[UUID], works: Mapping[UUID, Work]) -> frozenset[UUID]:
    mine = works.get(at.pk)
    stay = set(kept)
    if mine is not None:
        stay -= {pk for pk in kept if pk in works and _after(works[pk], mine.began)}
    again = {step.key for step in steps if step.pk not in stay}
    for step in steps:  # in their order: what came of something that runs again runs again
        if step.pk in stay and _first_of(step, again, steps):
            stay.discard(step.pk)
            again.add(step.key)
    if mine is None and at.started_at is not None:
        return frozenset(stay)  # it only read: nothing tells what ended beside it
    behind = {at.key}
    for step in steps:
        if not behind.isdisjoint(step.needs):
            behind.add(step.key)
        elif step.seq > at.seq and _same_turn(step, at) and step.state == StepState.SUCCEEDED:
            work = works.get(step.pk)
            if work is not None and (mine is None or not _after(work, mine.began)):
                stay.add(step.pk)
    return frozenset(stay)


def _first_of(step: Step, again: Collection[str], steps: Sequence[Step]) -> bool:
    """Does it need a step that succeeded and runs again?"""
    return any(one.key in step.needs and one.key in again and one.state == StepState.SUCCEEDED for one in steps)


def _after(work: Work, number: int) -> bool:
    return work.ended is None or work.ended > number


def _same_turn(step: Step, at: Step) -> bool:
    return step.proposed_by_id == at.proposed_by_id


def _refuse_older(job: Job, steps: Sequence[Step], at: Step, kept: Collection[UUID]) -> None:
    older = [step.key for step in steps if step.pk not in kept and copied(step) and writes(step)]
    if older:
        raise NotNow(
            f"{', '.join(older[:10])} ran in the job {job.forked_from_id}, not in this one: fork that one at {at.key}."
        )


def _refuse_twice(others: Sequence[Step], works: Mapping[UUID, Work], number: int) -> None:
    """Of what runs again, nothing that must not run twice may stand in the snapshot."""
    twice = [
        step.key
        for step in others
        if step.effect == Effect.ONCE
        and step.state not in _OVER
        and (work := works.get(step.pk)) is not None
        and work.began < number
    ]
    if twice:
        raise NotNow(
            f"{', '.join(twice[:10])} must not run twice, and had begun by then: fork at {twice[0]}, or at a step "
            "after these."
        )


def _untold(steps: Sequence[Step], at: Step, kept: Collection[UUID], works: Mapping[UUID, Work]) -> bool:
    """Did one of them run before the history begins?"""

    def dark(step: Step) -> bool:
        return writes(step) and step.started_at is not None and step.pk not in works and not copied(step)

    return dark(at) or (any(dark(step) for step in steps if step.pk in kept) and not any(pk in works for pk in kept))


def _works(job: Job, history: History) -> dict[UUID, Work]:
    """By the job's own steps: a chunk counts for its map, a job that a step started for that step."""
    names = {*history.began, *(one.step for one in history.snapshots.values() if one.step)}
    rows = Step.objects.filter(pk__in=names).values_list("pk", "job_id", "parent_id")
    found: dict[UUID, list[tuple[int, int | None]]] = {}
    starters: dict[UUID, UUID | None] = {}
    for pk, job_id, parent_id in rows:
        top = _top(job.pk, pk, job_id, parent_id, starters)
        if top is not None:
            ended = history.end_of(str(pk))
            began = history.began.get(str(pk))
            found.setdefault(top, []).append((min(history.snapshots, default=0) if began is None else began, ended))
    return {
        top: Work(
            began=min(began for began, _ in parts),
            ended=None if any(end is None for _, end in parts) else max(end or 0 for _, end in parts),
        )
        for top, parts in found.items()
    }


def _top(
    job_id: UUID, step_id: UUID, of_job: UUID, parent_id: UUID | None, starters: dict[UUID, UUID | None]
) -> UUID | None:
    """The step of the job that it counts for; None for another job's."""
    while of_job != job_id:
        if of_job not in starters:
            starters[of_job] = Job.objects.values_list("parent_step_id", flat=True).filter(pk=of_job).first()
        starter = starters[of_job]
        if starter is None:
            return None
        step_id, of_job, parent_id = Step.objects.values_list("pk", "job_id", "parent_id").get(pk=starter)
    return parent_id or step_id
