"""What a job's page shows, read once."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User

from agents import feed
from agents.chat.selectors import visible_conversations
from agents.engine.control.edit import EDITABLE, why_not
from agents.engine.doubt import NEEDS_PERSON
from agents.engine.saga import undoing
from agents.models import Job, LlmCall
from agents.provenance import labels as provenance
from agents.selectors import may_change
from agents.states import STEP_DONE, JobState, StepState
from agents.web import curl, kept
from agents.web.exposure import seen_words
from agents.web.family import Family, Relative, child_of, family, given
from agents.web.labels import JOB_LABELS
from agents.web.loglines import Block, blocks, line
from agents.web.maps import MapView, map_view
from agents.web.planlink import plan_link
from agents.web.sentence import Sentence, sentence
from agents.web.steps import Panel, Row, Work, panel_of, rows_of
from agents.web.stream import step_names
from agents.web.timeline import Tick
from agents.web.words import ago, between, count, money, readable
from approvals.models import ApprovalRequest
from approvals.selectors import visible
from approvals.web.deciders import Deciders, deciders

LOG_ENTRIES = 500
_PAUSABLE = {JobState.QUEUED, JobState.RUNNING, JobState.WAITING}
_RETRIABLE = {JobState.FAILED, JobState.CANCELLED}
DECIDERS_OF = 5  # requests, of which the page says where nobody may decide


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much of a limit is used; tone: "" up to 80 %, `high` above, `full` at the limit."""

    name: str
    text: str
    percent: int
    tone: str

    @classmethod
    def of(cls, name: str, used: int, limit: int) -> "Budget":
        percent = min(100, round(100 * used / limit)) if limit else 100
        tone = "full" if percent >= 100 else "high" if percent > 80 else ""
        return cls(name=name, text=f"{used:,} of {limit:,}", percent=percent, tone=tone)


def _cost(job: Job) -> list[Budget]:
    """What models cost: of the limit, where there is one."""
    if job.max_cost is None:
        return (
            [Budget(name="Cost", text=f"{money(job.cost_used)}, no limit", percent=0, tone="")] if job.cost_used else []
        )
    percent = min(100, round(100 * job.cost_used / job.max_cost)) if job.max_cost else 100
    tone = "full" if percent >= 100 else "high" if percent > 80 else ""
    text = f"{money(job.cost_used)} of {money(job.max_cost)}"
    return [Budget(name="Cost", text=text, percent=percent, tone=tone)]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    job: Job
    label: str
    sentence: Sentence
    openable: set[UUID]
    stuck: Deciders | None
    others: str
    title: str
    goal: str
    outcome: str
    budgets: list[Budget]
    facts: list[tuple[str, str]]
    scripted: bool
    rows: list[Row]
    ticks: list[Tick]
    done_steps: str
    panel: Panel | None
    chosen: str
    may_cancel: bool
    may_stop: bool
    may_pause: bool
    may_resume: bool
    may_retry: bool
    may_fork: bool
    may_edit: bool
    may_settle: bool
    family: Family
    map: MapView | None
    child: Relative | None
    conversation: str
    artifacts: list[kept.Line]
    pictures: list[kept.Line]  # of the chosen step
    plan: str = ""  # the address of its plan's page
    search: str = ""  # of its candidates'


def job_page(job: Job, user: User, *, chosen: str, now: datetime) -> JobPage:
    """chosen: the key of the step to show, "" for the one that matters most now."""
    work = Work.of(job, chosen=chosen)
    rows, ticks = rows_of(job, work, now)
    step = (work.step(chosen) if chosen else None) or work.focus()
    allowed = may_change(user, job)
    people = _deciders(work, user, now)
    openable = set(visible(user).filter(parent_id=str(job.pk)).values_list("pk", flat=True))
    kin = family(job, user, now)
    undoes = undoing(job)
    artifacts = kept.lines(job)
    return JobPage(
        job=job,
        label=JOB_LABELS[JobState(job.state)],
        sentence=sentence(
            job, work.steps, work.requests, now, openable=openable | {one.job.pk for one in kin.below}, maps=work.maps
        ),
        openable=openable,
        stuck=next((one for one in people if one.stuck), None),
        others=next((one.others for one in people if one.others), ""),
        title=readable(job.goal).strip().split("\n", 1)[0],
        goal=readable(job.goal),
        outcome=readable(job.outcome),
        budgets=[
            Budget.of("Steps", work.total, job.max_steps),
            Budget.of("Tokens", job.tokens_used, job.max_tokens),
            *_cost(job),
        ],
        facts=_facts(job, now),
        scripted=_scripted(job),
        rows=rows,
        ticks=ticks,
        done_steps=f"{sum(one.state in STEP_DONE for one in work.own)} of {count(len(work.own), 'step')} done",
        panel=panel_of(step, work, now) if step is not None else None,
        chosen=chosen if step is not None and step.key == chosen else "",
        may_cancel=allowed and not (job.done or job.cancel_requested or undoes),
        may_stop=allowed and undoes,
        may_pause=allowed
        and (job.state == JobState.COMPENSATING or (not job.cancel_requested and job.state in _PAUSABLE)),
        may_resume=allowed and job.state == JobState.PAUSED and (undoes or not job.cancel_requested),
        may_retry=allowed and job.state in _RETRIABLE,
        may_fork=step is not None
        and step.parent_id is None
        and step.compensates_id is None
        and job.kind != Job.Kind.CHAT,
        may_edit=allowed and step is not None and step.state in EDITABLE and not why_not(job, step),
        may_settle=allowed
        and step is not None
        and step.state == StepState.IN_DOUBT
        and step.error_code == NEEDS_PERSON,
        family=kin,
        map=map_view(step, work.maps[step.pk]) if step is not None and step.pk in work.maps else None,
        child=child_of(step, user, now) if step is not None else None,
        conversation=_conversation(job, user),
        artifacts=artifacts,
        pictures=kept.pictures(artifacts, step) if step is not None else [],
        plan=plan_link(job),
        search=f"/jobs/{job.pk}/search" if any(one.tool == "evolve.begin" for one in work.steps) else "",
    )


def _conversation(job: Job, user: User) -> str:
    """The address of the conversation that it is a part of, for who reads that."""
    talk = visible_conversations(user).filter(pk=job.conversation_id).first() if job.conversation_id else None
    return talk.get_absolute_url() if talk is not None else ""


def _deciders(work: Work, user: User, now: datetime) -> list[Deciders]:
    """Who decides the first requests that wait."""
    waiting = [
        request
        for step in work.steps
        for request in work.requests.get(str(step.pk), [])
        if request.state == ApprovalRequest.State.PENDING and request.expires_at > now
    ]
    return [deciders(request, user) for request in waiting[:DECIDERS_OF]]


def _facts(job: Job, now: datetime) -> list[tuple[str, str]]:
    facts = [
        ("Agent", job.agent.name if job.agent else ""),
        ("Repository", job.repository.name if job.repository else ""),
        ("Submitted", f"{ago(job.created_at, now)} by {job.owner.get_username()}"),
        ("Took" if job.done else "Since", between(job.started_at or job.created_at, job.finished_at or now)),
        *given(job),
        ("Forked from", str(job.forked_from_id or "")),
        ("Priority", "" if job.priority == 5 else str(job.priority)),
        ("Labels", ", ".join(f"{name}={value}" for name, value in sorted(job.labels.items()))),
        ("Exposed to", seen_words(provenance.seen(job.pk))),
    ]
    return [(name, readable(value)) for name, value in facts if value]


def _scripted(job: Job) -> bool:
    """Does (or did) the scripted stand-in speak here, and no model?"""
    if not job.led:
        return False
    calls = LlmCall.objects.filter(step__job=job)
    return calls.filter(scripted=True).exists() or (settings.LLM_SCRIPTED and not job.done)


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The end of the log. earlier: entries before it that are not shown; last_seq: where the stream goes on;
    archived: is it read from a file."""

    blocks: list[Block]
    earlier: int
    last_seq: int
    archived: bool = False


def log_tail(job: Job) -> Log:
    entries = feed.tail(job.pk, limit=LOG_ENTRIES)
    names = step_names({entry.step_id for entry in entries if entry.step_id is not None})
    return Log(
        blocks=blocks(line(entry, names) for entry in entries),
        earlier=entries[0].seq - 1 if entries else 0,
        last_seq=entries[-1].seq if entries else 0,
        archived=job.log_archived_at is not None,
    )


def context(job: Job, user: User, *, chosen: str, now: datetime) -> dict[str, Any]:
    """The template's context of the parts that change while the job runs."""
    return {"page": job_page(job, user, chosen=chosen, now=now), "job": job}


def commands(job: Job) -> dict[str, str]:
    """The job as `curl` commands."""
    steps = Work.of(job).own if job.kind == Job.Kind.PLAN else []
    return {"read": curl.read_command(job), "submit": curl.submit_command(job, steps)}
