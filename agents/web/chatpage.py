"""What a conversation's page shows, read once."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import User
from django.db.models import Max
from django.utils.safestring import SafeString

from agents.chat import selectors, texts
from agents.engine.intake import PREPARE
from agents.llm.talk import PROPOSE
from agents.models import Conversation, FeedEntry, Job, LlmCall, Step
from agents.states import STEP_DONE, JobState, StepState
from agents.web.labels import JOB_LABELS, describe, step_badge, step_label
from agents.web.marking import as_html
from agents.web.words import ago, money, readable
from approvals.models import ApprovalRequest
from approvals.selectors import visible
from approvals.visible import visible_line

TURNS = 40  # on a page; the earlier ones are one press away
DEPTH = 5
TITLE_CHARS = 300  # of a request
_BESIDE = frozenset({"llm.think", "llm.title", "llm.summarise", "human.ask", PROPOSE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A call that the turn made, on one line."""

    tool: str
    text: str
    label: str
    badge: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What a job may not do before people decide on it."""

    request: ApprovalRequest
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a job asks; answer: "" while it waits."""

    request: ApprovalRequest
    text: str
    answer: str
    open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A job that the agent offers; started: the one that the person made of it."""

    step: UUID
    goal: str
    agent: str
    repository: str
    started: Job | None


@dataclass(slots=True, kw_only=True)
class Turn:
    """A turn, or a job that was started from the conversation (`chat` False). later: its answer came after the moment
    up to which a link shows what was said."""

    job: Job
    chat: bool
    said: str
    label: str
    age: str
    answer: SafeString | str
    failed: str
    running: bool
    later: bool
    scripted: bool
    cost: str
    after: int = 0  # the last number of the job's feed, where the stream goes on
    live: str = ""  # what the model has written since its last call
    calls: list[Done] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    approvals: list[Waiting] = field(default_factory=list)
    offers: list[Offer] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class TalkPage:
    """running: the turn that the agent is at; open: does anything in it still go on; earlier: turns not shown."""

    talk: Conversation
    title: str
    summary: str
    turns: list[Turn]
    running: UUID | None
    open: bool
    earlier: int
    own: bool


def page_of(
    talk: Conversation, user: User, *, now: datetime, everything: bool = False, since: UUID | None = None
) -> TalkPage:
    """since: only this turn and later ones."""
    said = selectors.turns(talk)
    jobs = list(said.filter(created_at__gte=said.filter(pk=since).values("created_at"))) if since is not None else []
    if not jobs:  # also where there is no such turn
        most = 1 if since is not None else None if everything else TURNS
        jobs = list(reversed(said.reverse()[:most]))
    return TalkPage(
        talk=talk,
        title=readable(talk.title) or "A conversation",
        summary=readable(talk.summary),
        turns=_turns(jobs, user, now),
        running=said.filter(kind=Job.Kind.CHAT, finished_at=None).values_list("pk", flat=True).first(),
        open=said.filter(finished_at=None).exists(),
        earlier=0 if since is not None else said.count() - len(jobs),
        own=talk.owner_id == user.pk,
    )


def shared_turns(talk: Conversation, *, until: datetime | None, now: datetime) -> list[Turn]:
    """What readers of a link see: what was said, and that jobs were started; nothing of what they did, and nothing that
    was said after `until`."""
    jobs = list(selectors.turns(talk, until=until))
    scripted = _scripted(jobs)
    return [_turn(job, now, scripted, until=until) for job in jobs]


def _turns(jobs: Sequence[Job], user: User, now: datetime) -> list[Turn]:
    ids = [job.pk for job in jobs]
    scripted = _scripted(jobs)
    latest = dict(FeedEntry.objects.filter(job__in=ids).order_by().values_list("job").annotate(seq=Max("seq")))
    turns = [_turn(job, now, scripted) for job in jobs]
    steps: dict[UUID, list[Step]] = defaultdict(list)
    for step in Step.objects.filter(job__in=ids, parent=None).exclude(tool="llm.think").order_by("seq"):
        steps[step.job_id].append(step)
    asked = _requests(jobs, user)
    started = {
        job.idempotency_key: job
        for job in Job.objects.filter(conversation_id__in={job.conversation_id for job in jobs}).exclude(
            kind=Job.Kind.CHAT
        )
        if job.idempotency_key
    }
    for turn in turns:
        job = turn.job
        turn.after = latest.get(job.pk, 0)
        turn.live = _live(job, turn.after) if turn.running else ""
        turn.calls = [_done(step) for step in steps[job.pk] if turn.chat and not _beside(step)]
        turn.offers = [_offer(step, job, started) for step in steps[job.pk] if _offered(step)]
        for request in asked[job.pk]:
            if request.kind == ApprovalRequest.Kind.QUESTION:
                turn.questions.append(_question(request))
            elif request.state == ApprovalRequest.State.PENDING:
                turn.approvals.append(Waiting(request=request, title=visible_line(request.title, TITLE_CHARS)))
    return turns


def _scripted(jobs: Iterable[Job]) -> set[UUID]:
    """Those whose words are a stand-in's."""
    calls = LlmCall.objects.filter(job__in=[job.pk for job in jobs], scripted=True)
    return set(calls.values_list("job_id", flat=True))


def _turn(job: Job, now: datetime, scripted: set[UUID], *, until: datetime | None = None) -> Turn:
    later = until is not None and (job.finished_at is None or job.finished_at > until)
    good = job.state == JobState.SUCCEEDED and not later
    return Turn(
        job=job,
        chat=job.kind == Job.Kind.CHAT,
        said=readable(job.goal),
        label=JOB_LABELS[JobState(job.state)],
        age=ago(job.created_at, now),
        answer=as_html(job.outcome) if good else "",
        failed=readable(job.outcome) if job.done and not good and not later else "",
        running=not job.done and not later,
        later=later,
        scripted=job.pk in scripted,
        cost=money(job.cost_used) if job.cost_used else "",
    )


def _beside(step: Step) -> bool:
    """Is it told otherwise, or of no interest as long as it goes well?"""
    return step.tool in _BESIDE or (step.key == PREPARE and step.state == StepState.SUCCEEDED)


def offer_key(step: UUID) -> str:
    """Of the job that is made of an offer: one, however often it is pressed."""
    return f"offer-{step}"


def _offered(step: Step) -> bool:
    return step.tool == PROPOSE and step.state == StepState.SUCCEEDED


def _offer(step: Step, job: Job, started: dict[str, Job]) -> Offer:
    talk = job.conversation
    assert talk is not None
    return Offer(
        step=step.pk,
        goal=texts.shown(str(step.arguments.get("goal", ""))),
        agent=str(step.arguments.get("agent") or talk.agent.name),
        repository=str(step.arguments.get("repository") or (job.repository.name if job.repository else "")),
        started=started.get(offer_key(step.pk)),
    )


def _done(step: Step) -> Done:
    return Done(tool=step.tool, text=describe(step), label=step_label(step, short=True), badge=step_badge(step))


def _question(request: ApprovalRequest) -> Question:
    is_open = request.state == ApprovalRequest.State.PENDING
    words = {"expired": "Nobody answered in time.", "cancelled": "It was taken back."}
    return Question(
        request=request,
        text=readable(request.command),
        answer="" if is_open else readable(request.answer) or words.get(request.state, request.state),
        open=is_open,
    )


def _requests(jobs: Iterable[Job], user: User) -> dict[UUID, list[ApprovalRequest]]:
    """What each job, or one that it started, asks people, as far as the reader may see it; by the job in the list."""
    top = {job.pk: job.pk for job in jobs}
    level = list(top)
    for _ in range(DEPTH):
        level = []
        for child, parent in (
            Job.objects.filter(parent__in=list(top)).exclude(pk__in=top).values_list("pk", "parent_id")
        ):
            if parent is not None:
                top[child] = top[parent]
                level.append(child)
        if not level:
            break
    found: dict[UUID, list[ApprovalRequest]] = defaultdict(list)
    for request in visible(user).filter(parent_id__in=[str(pk) for pk in top]).order_by("created_at", "pk"):
        found[top[UUID(request.parent_id)]].append(request)
    return found


def _live(job: Job, after: int) -> str:
    """What the model has written in the step that runs now, up to this number of the feed."""
    step = Step.objects.filter(job=job, tool="llm.think").exclude(state__in=STEP_DONE).order_by("seq").first()
    if step is None or not step.attempt:
        return ""
    said = FeedEntry.objects.filter(job=job, step=step, kind="token", seq__lte=after).order_by("seq")
    return readable("".join(str(one.data.get("text", "")) for one in said if one.data.get("attempt") == step.attempt))
