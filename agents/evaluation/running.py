"""An evaluation from its start to its end: each trial is a job like any other, by who started it; then it is judged.

The sweeper starts what is not started and judges what has ended, whether anybody looks or not.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AnonymousUser, User
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from agents.engine import expressions
from agents.engine.cancel import cancel_job
from agents.engine.expressions import ExpressionFailed, Scope
from agents.errors import AgentsError, AlreadyDone, NotAllowed, NotVisible, QueueFull
from agents.evaluation.suite import Arm, arm, fits, read
from agents.models import Evaluation, Job, LlmCall, Trial
from agents.states import JOB_DONE, JobState
from agents.submit import submit
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

ASK, WORK, CHECK = "ask", "work", "check"  # keys of the steps of a trial
WHY_MAX = 1000
AT_ONCE = 100  # trials of one person that are under way: others' jobs find room beside them
SWEPT_MAX = 10  # evaluations a pass of the sweeper
BATCH = 25  # jobs that one call starts, so that nobody waits long for it
CANCELLED = "It was cancelled."
OPEN = Q(ok=None, why="")  # trials of which nothing is known yet; those that were cancelled are never judged

log = logging.getLogger(__name__)


def start(source: str, arms: Sequence[str], *, repeats: int = 1, by: User, now: datetime) -> Evaluation:
    """Writes the evaluation and its trials; `go_on` starts their jobs.

    source: the suite, YAML; arms: as `suite.arm` reads them.

    Raises:
        InvalidPrompt: the suite. InvalidInput: the arms do not fit it.
    """
    definition = read(source)
    named = [arm(one) for one in arms]
    fits(definition, named, repeats)
    with transaction.atomic():
        made = Evaluation.objects.create(
            suite=definition["name"],
            source=source,
            definition=definition,
            sha256=hashlib.sha256(source.encode()).hexdigest(),
            arms=[str(one) for one in named],
            repeats=repeats,
            created_by=by,
            created_at=now,
        )
        Trial.objects.bulk_create(
            Trial(evaluation=made, case=case["name"], arm=str(one), repeat=number)
            for number in range(1, repeats + 1)
            for case in definition["cases"]
            for one in named
            if one.takes(case)
        )
        record(
            Event.EVALUATION_STARTED,
            actor=Actor.user(by.pk),
            target=_target(made),
            context={"suite": made.suite, "sha256": made.sha256, "arms": made.arms, "trials": made.trials.count()},
        )
    return made


def go_on(evaluation: Evaluation, *, now: datetime) -> bool:
    """Judges what ended, and starts what is not started, as far as the queue and `AT_ONCE` have room. True: it is over.

    It may run as often as one likes, and in several places at once: the same trial gets the same job.
    """
    if evaluation.finished_at is not None:
        return True
    for trial in evaluation.trials.filter(OPEN, job__state__in=JOB_DONE).select_related("job")[: 4 * BATCH]:
        _settle(evaluation, trial)
    under_way = Trial.objects.filter(OPEN, evaluation__created_by=evaluation.created_by_id, job__isnull=False).count()
    for trial in evaluation.trials.filter(OPEN, job=None)[: max(0, min(BATCH, AT_ONCE - under_way))]:
        try:
            _submit(evaluation, trial, now=now)
        except QueueFull:
            break
    return not evaluation.trials.filter(OPEN).exists() and _finish(evaluation, now=now)


def go_on_all(now: datetime) -> int:
    """The sweeper's part: goes on with each evaluation where something can be done; how many it looked at.

    One that cannot go on is logged and does not stop the others.
    """
    opened = Trial.objects.filter(OPEN, evaluation=OuterRef("pk"))
    due = (
        Evaluation.objects.select_related("created_by")
        .filter(finished_at=None)
        .filter(Exists(opened.filter(Q(job=None) | Q(job__state__in=JOB_DONE))) | ~Exists(opened))
    )
    found = list(due.order_by("?")[:SWEPT_MAX])  # by chance: nobody's many stand before another's one
    for one in found:
        try:
            go_on(one, now=now)
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            log.exception("evaluation.failed", extra={"evaluation": str(one.pk)})
    return len(found)


def cancel(evaluation: Evaluation, *, by: User, now: datetime) -> None:
    """Starts no further trial and cancels the jobs of those that run; what was judged stays.

    Raises:
        NotAllowed: it is another person's.
        AlreadyDone
    """
    if not may_cancel(by, evaluation):
        raise NotAllowed("Only who started it may cancel it.")
    with transaction.atomic():
        locked = Evaluation.objects.select_for_update().get(pk=evaluation.pk)
        if locked.finished_at is not None:
            raise AlreadyDone("The evaluation has ended already.")
        evaluation.trials.filter(OPEN, job=None).update(why=CANCELLED)
        record(
            Event.EVALUATION_CANCELLED,
            actor=Actor.user(by.pk),
            target=_target(evaluation),
            context={"suite": evaluation.suite, "trials": evaluation.trials.filter(why=CANCELLED).count()},
        )
    for pk in evaluation.trials.filter(OPEN).exclude(job__state__in=JOB_DONE).values_list("job", flat=True):
        cancel_job(pk, by=Actor.user(by.pk), now=now)
    go_on(evaluation, now=now)


def may_cancel(user: User, evaluation: Evaluation) -> bool:
    return user.is_superuser or evaluation.created_by_id == user.pk


def visible(user: User | AnonymousUser) -> QuerySet[Evaluation]:
    """One's own, and all for who holds `agents.view_evaluation`."""
    found = Evaluation.objects.select_related("created_by")
    if not user.is_authenticated or not user.is_active:
        return found.none()
    return found if user.has_perm("agents.view_evaluation") else found.filter(Q(created_by=user))


def evaluation_of(user: User | AnonymousUser, pk: UUID) -> Evaluation:
    """Raises NotVisible."""
    found = visible(user).filter(pk=pk).first()
    if found is None:
        raise NotVisible("There is no such evaluation.")
    return found


def payload(definition: Mapping[str, Any], case: Mapping[str, Any], who: Arm) -> dict[str, Any]:
    """The submission of one trial."""
    made: dict[str, Any] = {"title": f"{definition['name']}: {case['name']} by {who}"[:200]}
    if "max_tokens" in definition:
        made["max_tokens"] = definition["max_tokens"]
    if who.kind == "prompt":
        asked = {"prompt": who.name, "version": who.number, "inputs": case["inputs"], "fresh": True}
        return {**made, "steps": [{"key": ASK, "tool": "llm.prompt", "arguments": asked}]}
    repository = case.get("repository") or definition.get("repository")
    if repository:
        made["repository"] = repository
    steps: list[dict[str, Any]] = [
        {"key": WORK, "tool": "job.delegate", "arguments": {"goal": case["goal"], "agent": who.name}}
    ]
    if "check" in case:
        steps.append({"key": CHECK, "tool": "shell.exec", "arguments": {"argv": case["check"]}, "needs": [WORK]})
    return {**made, "steps": steps}


def _submit(evaluation: Evaluation, trial: Trial, *, now: datetime) -> None:
    """Raises QueueFull. Where the job is refused the trial has failed."""
    case = _case(evaluation, trial)
    try:
        job, _ = submit(
            payload(evaluation.definition, case, arm(trial.arm)),
            user=evaluation.created_by,
            idempotency_key=f"trial-{trial.pk}",
            trigger=f"evaluation:{evaluation.suite}",
            now=now,
        )
    except QueueFull:
        raise
    except AgentsError as error:
        Trial.objects.filter(pk=trial.pk, job=None).update(ok=False, why=error.message[:WHY_MAX])
        return
    if not Trial.objects.filter(OPEN, pk=trial.pk, job=None).update(job=job):
        trial.refresh_from_db()
        if trial.job_id is None:  # it was cancelled in between
            cancel_job(job.pk, by=Actor.user(evaluation.created_by_id), now=now)


def _settle(evaluation: Evaluation, trial: Trial) -> None:
    job = trial.job
    assert job is not None
    dropped = job.state == JobState.CANCELLED  # says nothing about who tried it
    why = CANCELLED if dropped else _why_not(job, _case(evaluation, trial), trial.arm)
    children = Job.objects.filter(Q(pk=job.pk) | Q(parent=job))
    took = job.finished_at - job.started_at if job.finished_at and job.started_at else None
    Trial.objects.filter(OPEN, pk=trial.pk).update(
        ok=None if dropped else not why,
        why=why[:WHY_MAX],
        tokens=job.tokens_used,
        cost=job.cost_used,
        latency_ms=int(took.total_seconds() * 1000) if took else 0,
        scripted=LlmCall.objects.filter(job__in=children)
        .filter(Q(scripted=True) | Q(model__startswith="scripted-"))
        .exists(),
    )


def _why_not(job: Job, case: Mapping[str, Any], who: str) -> str:
    """Why a trial has failed, or ""."""
    if job.state != JobState.SUCCEEDED:
        failed = job.steps.exclude(error="").order_by("seq").first()
        return f"{failed.key}: {failed.error}" if failed else job.outcome or f"The job is {job.state}."
    key = ASK if who.startswith("prompt:") else WORK
    step = job.steps.filter(key=key).first()
    result = (step.result if step is not None else None) or {}
    answer = (result.get("data") or {}).get("answer")
    job.inputs = dict(case.get("inputs", {}))  # what the expectations see; nothing is saved
    seen = Scope(
        job, extra={"answer": answer if isinstance(answer, dict) else {}, "text": str(result.get("text") or "")}
    )
    for text in case.get("expect", ()):
        try:
            if not expressions.holds(text, seen):
                return f"This does not hold: {text}"
        except ExpressionFailed as error:
            return f"{text}: {error.message}"
    return ""


@transaction.atomic
def _finish(evaluation: Evaluation, *, now: datetime) -> bool:
    if Evaluation.objects.filter(pk=evaluation.pk, finished_at=None).update(finished_at=now):
        passed = {one: evaluation.trials.filter(arm=one, ok=True).count() for one in evaluation.arms}
        record(
            Event.EVALUATION_FINISHED,
            actor=Actor.user(evaluation.created_by_id),
            target=_target(evaluation),
            context={"suite": evaluation.suite, "passed": passed, "trials": evaluation.trials.count()},
        )
    evaluation.refresh_from_db()
    return True


def _case(evaluation: Evaluation, trial: Trial) -> dict[str, Any]:
    return next(one for one in evaluation.definition["cases"] if one["name"] == trial.case)


def _target(evaluation: Evaluation) -> Target:
    return Target(type="evaluation", id=str(evaluation.pk))
