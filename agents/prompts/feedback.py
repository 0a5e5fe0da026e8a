"""What people thought of the work: thumbs that they gave, and the calls that they edited and denied."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Count, F, Q, QuerySet, Sum

from agents.engine.control.edited import EDITORS
from agents.errors import InvalidInput
from agents.models import Feedback, Job, LlmCall, PromptUse, PromptVersion, Step
from agents.states import StepState
from approvals.models import ApprovalRequest
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

COMMENT_MAX = 2000
JOBS_MAX = 5000  # the newest of which are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """Of some jobs: thumbs, calls that people denied, and calls whose arguments they changed before they let them run."""

    jobs: int = 0
    up: int = 0
    down: int = 0
    edits: int = 0
    denials: int = 0

    @property
    def said(self) -> bool:
        return bool(self.up or self.down or self.edits or self.denials)


@transaction.atomic
def give(
    job: Job, *, by: User, thumb: str, comment: str = "", step: Step | None = None, now: datetime
) -> Feedback | None:
    """A person's thumb on a job, or on a step of it; another one takes its place, and "" takes it away.

    The caller has seen to it that the user may see the job.

    Raises:
        InvalidInput
    """
    if thumb not in ("", *Feedback.Thumb.values):
        raise InvalidInput("A thumb is up or down.", field="thumb")
    if len(comment) > COMMENT_MAX or "\0" in comment:
        raise InvalidInput(f"A comment is text of at most {COMMENT_MAX} characters.", field="comment")
    Job.objects.select_for_update(no_key=True).get(pk=job.pk)
    rows = Feedback.objects.filter(job=job, step=step, by=by)
    before = rows.first()
    if (before.thumb if before else "") == thumb and (before.comment if before else "") == comment:
        return before
    made = None
    rows.delete()
    if thumb:
        made = Feedback.objects.create(job=job, step=step, by=by, thumb=thumb, comment=comment, at=now)
    record(
        Event.FEEDBACK_GIVEN,
        actor=Actor.user(by.pk),
        target=Target(type="step", id=str(step.pk)) if step else Target(type="job", id=str(job.pk)),
        context={"thumb": thumb or "none", "job": str(job.pk), "step": step.key if step else None},
        payload={"comment": comment} if comment else None,
    )
    return made


def of_jobs(jobs: QuerySet[Job]) -> Opinion:
    """Of the newest of these jobs, with the jobs that they started."""
    ids = list(jobs.order_by("-created_at").values_list("pk", flat=True)[:JOBS_MAX])
    all_ids = [*ids, *Job.objects.filter(parent__in=ids).values_list("pk", flat=True)]
    thumbs = Counter(Feedback.objects.filter(job__in=all_ids).values_list("thumb", flat=True))
    denied = ApprovalRequest.objects.filter(parent_id__in=[str(one) for one in all_ids])
    return Opinion(
        jobs=len(ids),
        up=thumbs["up"],
        down=thumbs["down"],
        edits=Step.objects.filter(job__in=all_ids, spec__has_key=EDITORS).count(),
        denials=denied.filter(state=ApprovalRequest.State.DENIED).count(),
    )


def of_version(version: PromptVersion) -> Opinion:
    """Of the jobs in which this version was used. Thumbs on a step count for the version that this step used alone."""
    uses = PromptUse.objects.filter(version=version)
    found = of_jobs(Job.objects.filter(pk__in=uses.values("job")))
    on_others = Feedback.objects.filter(job__in=uses.values("job"), step__isnull=False).exclude(
        step__in=uses.values("step")
    )
    gone = Counter(on_others.values_list("thumb", flat=True))
    return Opinion(
        jobs=found.jobs,
        up=found.up - gone["up"],
        down=found.down - gone["down"],
        edits=found.edits,
        denials=found.denials,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a version did on live jobs. failed: of the steps that asked by it; tokens, cost: means a step that asked a
    model, cost in US dollars."""

    version: PromptVersion
    steps: int
    failed: int
    tokens: float
    cost: Decimal
    opinion: Opinion


def records(versions: Sequence[PromptVersion]) -> list[Record]:
    """Of the versions that were used at all, in their order. Trials of evaluations are live jobs too."""
    used = PromptUse.objects.filter(version__in=versions).order_by()
    counted = {
        row["version"]: row
        for row in used.values("version").annotate(
            steps=Count("pk"), failed=Count("pk", filter=Q(step__state=StepState.FAILED))
        )
    }
    made = []
    for version in versions:
        if (row := counted.get(version.pk)) is None:
            continue
        spent = LlmCall.objects.filter(step__in=used.filter(version=version).values("step")).aggregate(
            tokens=Sum(F("prompt_tokens") + F("completion_tokens")),
            cost=Sum("cost"),
            steps=Count("step", distinct=True),
        )
        asked = spent["steps"] or 1
        made.append(
            Record(
                version=version,
                steps=row["steps"],
                failed=row["failed"],
                tokens=(spent["tokens"] or 0) / asked,
                cost=(spent["cost"] or Decimal(0)) / asked,
                opinion=of_version(version),
            )
        )
    return made
