"""What the dashboard shows, read once."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import redis
from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Aggregate, Count, DurationField, F, Min, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from agents import feed, workers
from agents.engine import duty
from agents.models import Job, Step, WorkerProcess
from agents.selectors import of_kinds, visible_jobs
from agents.states import JOB_DONE, STEP_DONE, STEP_OPEN, JobState, StepState
from agents.web.chart import Chart, ended_by_day
from agents.web.labels import JOB_LABELS
from agents.web.maps import progress_of
from agents.web.sentence import Sentence, sentence
from agents.web.words import ago, between, duration, first_line, money, readable
from approvals import selectors as approval_selectors
from approvals.models import ApprovalRequest
from approvals.visible import visible_line
from audit.status import status

log = logging.getLogger(__name__)

STUCK_AFTER = timedelta(minutes=2)
STATS_DAYS = 7
# kombu's Redis transport keeps a list a priority band: the queue's own name is the first
_BANDS = ("", "\x06\x163", "\x06\x166", "\x06\x169")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLine:
    """A job in a list."""

    job: Job
    title: str
    label: str
    done: int
    total: int
    percent: int
    sentence: Sentence
    age: str
    took: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request that waits for this reader; title and command are cut, with hidden characters shown."""

    request: ApprovalRequest
    title: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLine:
    """depth: messages in Redis, None where Redis does not answer; queued and running: steps by their rows."""

    name: str
    depth: int | None
    queued: int
    running: int
    workers: int
    oldest: str
    late: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLine:
    """state: as `agents.workers.state_of` tells it; steps: how many it holds; memory: as people read it, or nothing."""

    worker: WorkerProcess
    state: str
    seen: str
    steps: int
    memory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The last days, over what the reader may see. Jobs and turns of conversations are counted apart; tokens are of both."""

    days: int
    finished: int
    succeeded: int
    turns: int
    tokens: int
    spent: str
    median_wait: str
    decided: int
    denied: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    needs_you: list[Ask]
    needs_you_count: int
    active: list[JobLine]
    active_count: int
    turns_count: int
    recent: list[JobLine]
    queues: list[QueueLine]
    workers: list[WorkerLine]
    healthy_workers: int
    swept: bool
    redis_up: bool
    audit: dict[str, Any]
    audit_age: str
    figures: Figures
    chart: Chart
    in_doubt: list[Step]


class Median(Aggregate):
    """PostgreSQL's percentile_cont(0.5)."""

    function = "PERCENTILE_CONT"
    template = "%(function)s(0.5) WITHIN GROUP (ORDER BY %(expressions)s)"


def overview(user: User, now: datetime) -> Overview:
    jobs = visible_jobs(user)
    work = of_kinds(jobs, ())
    active = with_progress(work.exclude(state__in=JOB_DONE))
    inbox = approval_selectors.inbox(user)
    depths = queue_depths()
    processes = worker_lines(now)
    log_state = audit_state()
    return Overview(
        needs_you=[
            Ask(request=one, title=visible_line(one.title, 200), command=visible_line(one.command, 240))
            for one in approval_selectors.lines(inbox)[:5]
        ],
        needs_you_count=inbox.count(),
        active=job_lines(active.order_by("-created_at")[:8], user, now),
        active_count=active.count(),
        turns_count=of_kinds(jobs, {Job.Kind.CHAT}).exclude(state__in=JOB_DONE).count(),
        recent=job_lines(with_progress(work.filter(finished_at__isnull=False)).order_by("-finished_at")[:8], user, now),
        queues=queue_lines(depths, processes, now),
        workers=processes,
        healthy_workers=sum(one.state == "healthy" for one in processes),
        swept=duty.somebody_has("sweeper", now),
        redis_up=all(depth is not None for depth in depths.values()),
        audit=log_state,
        audit_age=ago(_time(log_state.get("checkpoint_at")), now),
        figures=figures(user, jobs, now),
        chart=ended_by_day(work, now, days=STATS_DAYS),
        in_doubt=list(
            Step.objects.filter(state=StepState.IN_DOUBT, job__in=jobs.order_by().values("pk"))
            .select_related("job")
            .order_by("started_at")[:5]
        ),
    )


def with_progress(jobs: QuerySet[Job]) -> QuerySet[Job]:
    """Jobs with `steps_total` and `steps_done`, counted for those alone that a page takes of them."""
    steps = Step.objects.filter(job=OuterRef("pk")).order_by().values("job")
    done = steps.filter(state__in=list(STEP_DONE))
    return jobs.annotate(
        steps_total=Coalesce(Subquery(steps.annotate(number=Count("pk")).values("number")), 0),
        steps_done=Coalesce(Subquery(done.annotate(number=Count("pk")).values("number")), 0),
    )


def job_lines(jobs: Iterable[Job], user: User, now: datetime) -> list[JobLine]:
    """Lists jobs made by `with_progress`, each with its sentence; six queries whatever their number."""
    rows = list(jobs)
    open_ids = [job.pk for job in rows if not job.done]
    steps: dict[Any, list[Step]] = {}
    planned_chunks = Q(parent__isnull=False, state=StepState.PENDING)
    for step in (
        Step.objects.filter(job__in=open_ids, state__in=list(STEP_OPEN)).exclude(planned_chunks).order_by("seq")
    ):
        steps.setdefault(step.job_id, []).append(step)
    maps = progress_of([one for some in steps.values() for one in some if one.kind == Step.Kind.MAP])
    requests: dict[str, list[ApprovalRequest]] = {}
    pending = ApprovalRequest.objects.filter(
        parent_id__in=[str(pk) for pk in open_ids], state=ApprovalRequest.State.PENDING
    )
    for request in approval_selectors.lines(pending.select_related("approvers")):
        requests.setdefault(request.subject_id, []).append(request)
    openable = set(approval_selectors.visible(user).filter(pk__in=pending.values("pk")).values_list("pk", flat=True))
    return [
        _job_line(job, sentence(job, steps.get(job.pk, []), requests, now, openable=openable, maps=maps), now)
        for job in rows
    ]


def _job_line(job: Job, now_does: Sentence, now: datetime) -> JobLine:
    total, done = job.steps_total, job.steps_done  # type: ignore[attr-defined]
    return JobLine(
        job=job,
        title=first_line(readable(job.goal), 200),
        label=JOB_LABELS[JobState(job.state)],
        done=done,
        total=total,
        percent=round(100 * done / total) if total else 0,
        sentence=Sentence(first_line(readable(job.outcome), 240), job.state) if job.done else now_does,
        age=ago(job.finished_at or job.created_at, now),
        took=between(job.started_at or job.created_at, job.finished_at),
    )


def queue_depths() -> dict[str, int | None]:
    """Messages that lie in Redis, by queue; None for each where Redis does not answer."""
    try:
        with feed.client().pipeline(transaction=False) as pipe:
            for queue in settings.QUEUES:
                for band in _BANDS:
                    pipe.llen(queue + band)
            lengths = pipe.execute()
    except redis.RedisError as error:
        log.warning("overview.redis_away", extra={"error": type(error).__name__})
        return dict.fromkeys(settings.QUEUES)
    width = len(_BANDS)
    return {queue: sum(lengths[n * width : (n + 1) * width]) for n, queue in enumerate(settings.QUEUES)}


def queue_lines(depths: dict[str, int | None], processes: Sequence[WorkerLine], now: datetime) -> list[QueueLine]:
    """The queues in the order of the settings."""
    # two queries, since each has its index
    due = Q(not_before=None) | Q(not_before__lte=now)
    waiting = Step.objects.filter(state__in=[StepState.QUEUED, StepState.READY]).order_by().values("queue")
    running = Step.objects.filter(state=StepState.RUNNING).order_by().values("queue")
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for row in waiting.annotate(queued=Count("pk"), oldest=Min("ready_at", filter=due)):
        found[row["queue"]].update(row)
    for held in running.annotate(running=Count("pk")):
        found[held["queue"]].update(held)
    lines = []
    for name in settings.QUEUES:
        of_it = found.get(name, {})
        oldest = of_it.get("oldest")
        lines.append(
            QueueLine(
                name=name,
                depth=depths.get(name),
                queued=of_it.get("queued", 0),
                running=of_it.get("running", 0),
                workers=sum(one.state == "healthy" and name in one.worker.queues for one in processes),
                oldest=duration(now - oldest) if oldest else "",
                late=bool(oldest and now - oldest > STUCK_AFTER),
            )
        )
    return lines


def worker_lines(now: datetime) -> list[WorkerLine]:
    """Processes seen of late that have not stopped in order."""
    recent = WorkerProcess.objects.filter(seen_at__gt=now - workers.FORGET_AFTER, stopped_at=None)
    rows = list(recent.order_by("group", "name"))
    held = workers.held_by([row.name for row in rows])
    return [
        WorkerLine(
            worker=row,
            state=workers.state_of(row, now),
            seen=ago(row.seen_at, now),
            steps=len(held[row.name]),
            memory=f"{row.rss_bytes // 1_048_576} MiB" if row.rss_bytes else "",
        )
        for row in rows
    ]


def audit_state() -> dict[str, Any]:
    """`audit.status.status()`; where that fails the page still shows everything else, and says so."""
    try:
        return status()
    except Exception as error:  # whatever the reason: the dashboard must not hide behind it
        log.exception("overview.audit_failed")
        return {"healthy": False, "message": f"The state of the log cannot be read: {type(error).__name__}."}


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def figures(user: User, jobs: QuerySet[Job], now: datetime) -> Figures:
    since = now - timedelta(days=STATS_DAYS)
    ended = jobs.order_by().filter(finished_at__gte=since)
    turn = Q(kind=Job.Kind.CHAT)
    totals = ended.aggregate(
        finished=Count("pk", filter=~turn),
        succeeded=Count("pk", filter=~turn & Q(state=JobState.SUCCEEDED)),
        turns=Count("pk", filter=turn),
        tokens=Sum("tokens_used"),
        spent=Sum("cost_used"),
    )
    mine = approval_selectors.visible(user).order_by().values("pk")
    decided = ApprovalRequest.objects.filter(
        pk__in=mine, decided_at__gte=since, state__in=["approved", "denied", "void"]
    )
    asked = decided.aggregate(
        decided=Count("pk"),
        denied=Count("pk", filter=Q(state=ApprovalRequest.State.DENIED)),
        median=Median(F("decided_at") - F("created_at"), output_field=DurationField()),
    )
    return Figures(
        days=STATS_DAYS,
        finished=totals["finished"],
        succeeded=totals["succeeded"],
        turns=totals["turns"],
        tokens=totals["tokens"] or 0,
        spent=money(totals["spent"] or 0),
        median_wait=duration(asked["median"]),
        decided=asked["decided"],
        denied=asked["denied"],
    )
