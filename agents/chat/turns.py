"""What people say: a conversation begins, goes on, and starts jobs."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction

from agents.chat import texts
from agents.chat.payload import ChatChange, ChatInput, MessageInput
from agents.chat.tools import SUMMARISE, TITLE
from agents.engine.intake import PREPARE, SUMMARY, NewJob, NewStep, create_job
from agents.errors import (
    IdempotencyConflict,
    InvalidInput,
    NotAllowed,
    NotNow,
    TurnRunning,
    UnknownAgent,
    UnknownRepository,
)
from agents.llm.talk import PROPOSE
from agents.models import Agent, Conversation, Job, Repository, Step
from agents.payload import parse
from agents.selectors import usable_agents, visible_repositories
from agents.states import JOB_DONE, StepState
from agents.submit import DEFAULT_AGENT, new_job, request_sha256
from agents.tenants import tenant_for
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event
from tools import workspaces

TITLE_WORDS_CHARS = 60
SUMMARISE_CHARS = 48_000  # of what an agent is told of earlier turns: then the older ones are summed up
SUMMARISE_TURNS = 40
OFFERED = "offer:chat"  # the trigger of a job whose goal its agent wrote, and the person started
KEPT_TURNS = 4  # the newest, which are always told as they are


@transaction.atomic
def begin(
    payload: Mapping[str, Any], *, user: User, now: datetime, key: str = "", took_part: Mapping[str, str] | None = None
) -> tuple[Job, bool]:
    """A new conversation and its first turn (see `agents.chat.payload.ChatInput`); False: it was there before.

    key: of idempotency, as `agents.submit.submit` has it; took_part: as there.

    Raises:
        InvalidInput (UnknownAgent, UnknownRepository, UnknownTenant), IdempotencyConflict, QueueFull
    """
    given = parse(ChatInput, payload)
    digest = request_sha256({"chat": dict(payload)})
    earlier = _earlier(user, key, digest)
    if earlier is not None:
        return earlier, False
    message = _message(given.message)
    title = texts.one_line(given.title, 200)
    talk = Conversation.objects.create(
        owner=user,
        agent=_agent(given.agent or DEFAULT_AGENT),
        repository=_repository(given.repository, user),
        tenant=tenant_for(user, given.tenant),
        title=title or texts.one_line(message, TITLE_WORDS_CHARS),
        titled_by=Conversation.Titled.PERSON if title else Conversation.Titled.WORDS,
        created_at=now,
        said_at=now,
    )
    steps = [] if title else [NewStep(key="title", tool=TITLE, arguments={})]
    return _turn(talk, message, steps, now=now, key=key, digest=digest, took_part=took_part), True


@transaction.atomic
def say(
    talk_id: UUID,
    payload: Mapping[str, Any],
    *,
    user: User,
    now: datetime,
    key: str = "",
    took_part: Mapping[str, str] | None = None,
) -> tuple[Job, bool]:
    """The next turn; False: it was there before.

    Raises:
        NotAllowed: it is somebody else's.
        TurnRunning: the agent has not answered the last message yet.
        NotNow: its agent is switched off, or its repository is no longer the person's to use.
        InvalidInput, IdempotencyConflict, QueueFull
    """
    talk = Conversation.objects.select_for_update(of=("self",)).get(pk=talk_id)
    if talk.owner_id != user.pk:
        raise NotAllowed("Only who began the conversation goes on with it.")
    message = _message(parse(MessageInput, payload).message)
    digest = request_sha256({"chat": str(talk.pk), **payload})
    earlier = _earlier(user, key, digest)
    if earlier is not None:
        return earlier, False
    if talk.jobs.filter(kind=Job.Kind.CHAT).exclude(state__in=JOB_DONE).exists():
        raise TurnRunning("The agent has not answered the last message yet: wait for it, or stop it.")
    if not talk.agent.enabled:
        raise NotNow(f"The agent {talk.agent.name} is switched off.")
    if talk.repository_id is not None and not visible_repositories(user).filter(pk=talk.repository_id).exists():
        raise NotNow("The repository of this conversation is no longer yours to use.")
    job = _turn(talk, message, _summary(talk), now=now, key=key, digest=digest, took_part=took_part)
    Conversation.objects.filter(pk=talk.pk).update(said_at=now, archived_at=None)
    return job, True


@transaction.atomic
def start_job(
    talk_id: UUID,
    payload: Mapping[str, Any],
    *,
    user: User,
    now: datetime,
    key: str = "",
    took_part: Mapping[str, str] | None = None,
) -> tuple[Job, bool]:
    """Submits a job (see `agents.payload.JobInput`) that stands in the conversation, and asks there; False: it was there
    before. Its agent and repository are the conversation's where it names none.

    Raises:
        NotAllowed: it is somebody else's conversation; and what `agents.submit.submit` raises.
    """
    talk = Conversation.objects.select_related("agent", "repository").get(pk=talk_id)
    if talk.owner_id != user.pk:
        raise NotAllowed("Only who began the conversation starts jobs from it.")
    whole = dict(payload)
    if "goal" in whole:
        whole.setdefault("agent", talk.agent.name)
    if talk.repository is not None and "workflow" not in whole:
        whole.setdefault("repository", talk.repository.name)
    digest = request_sha256({"chat": str(talk.pk), "job": whole})
    earlier = _earlier(user, key, digest)
    if earlier is not None:
        return earlier, False
    new = new_job(whole, user=user, idempotency_key=key, digest=digest)
    new = replace(new, conversation=talk, took_part=dict(took_part or {}), trigger=_offered(talk, whole.get("goal")))
    job = create_job(new, now=now, actor=Actor.user(user.pk))
    Conversation.objects.filter(pk=talk.pk).update(said_at=now)
    return job, True


@transaction.atomic
def change(talk_id: UUID, payload: Mapping[str, Any], *, user: User, now: datetime) -> Conversation:
    """With its record. Raises InvalidInput, NotAllowed."""
    given = parse(ChatChange, payload)
    talk = Conversation.objects.select_for_update(of=("self",)).get(pk=talk_id)
    if talk.owner_id != user.pk:
        raise NotAllowed("Only who began the conversation changes it.")
    if given.title is not None:
        talk.title = texts.one_line(given.title, 200)
        talk.titled_by = Conversation.Titled.PERSON
        if not talk.title:
            raise InvalidInput("Must not be empty.", field="title")
    if given.archived is not None:
        talk.archived_at = now if given.archived else None
    talk.save(update_fields=["title", "titled_by", "archived_at"])
    changed = sorted(given.model_fields_set)
    if changed:
        record(
            Event.CHAT_CHANGED,
            actor=Actor.user(user.pk),
            target=Target(type="conversation", id=str(talk.pk)),
            context={"changed": changed, "archived": talk.archived_at is not None},
            payload={"title": talk.title},
        )
    return talk


def _turn(
    talk: Conversation,
    message: str,
    steps: list[NewStep],
    *,
    now: datetime,
    key: str,
    digest: str,
    took_part: Mapping[str, str] | None,
) -> Job:
    new = NewJob(
        owner=talk.owner,
        kind=Job.Kind.CHAT,
        goal=message,
        agent=talk.agent,
        repository=talk.repository,
        tenant=talk.tenant,
        conversation=talk,
        workspace_of=_workspace(talk),
        steps=steps,
        idempotency_key=key,
        request_sha256=digest,
        took_part=dict(took_part or {}),
    )
    return create_job(new, now=now, actor=Actor.user(talk.owner_id))


def _offered(talk: Conversation, goal: object) -> str:
    """What stands in the job where the agent offered it in these very words: they are not the person's."""
    steps = Step.objects.filter(job__conversation=talk, tool=PROPOSE, state=StepState.SUCCEEDED)
    offers = {" ".join(str(said).split()) for said in steps.values_list("arguments__goal", flat=True)}
    return OFFERED if isinstance(goal, str) and " ".join(goal.split()) in offers else ""


def _workspace(talk: Conversation) -> UUID | None:
    """The workspace of the last turn, with what was made in it, where it is still there and whole."""
    last = talk.jobs.filter(kind=Job.Kind.CHAT).order_by("-created_at", "-pk").first()
    if last is None:
        return None
    place = last.workspace_of or last.pk
    if talk.repository_id is not None:
        prepared = Step.objects.filter(job=place, key=PREPARE, state=StepState.SUCCEEDED)
        if not prepared.exists():
            return None
    return place if workspaces.holds(str(place)) else None


def _summary(talk: Conversation) -> list[NewStep]:
    """The step that sums up the older turns, where it is time."""
    jobs = talk.jobs.order_by("created_at", "pk")
    if talk.summarised_to is not None:
        jobs = jobs.filter(created_at__gt=talk.summarised_to)
    since = list(jobs.only("goal", "outcome", "created_at"))
    older = since[:-KEPT_TURNS]
    long = sum(len(one.goal) + len(one.outcome) for one in since) > SUMMARISE_CHARS or len(since) > SUMMARISE_TURNS
    if not older or not long:
        return []
    return [NewStep(key=SUMMARY, tool=SUMMARISE, arguments={"to": older[-1].created_at.isoformat()})]


def _message(text: str) -> str:
    if not text.strip():
        raise InvalidInput("Must not be empty.", field="message")
    if "\x00" in text:
        raise InvalidInput("Must not hold a NUL character.", field="message")
    return text.strip()


def _agent(name: str) -> Agent:
    agent = usable_agents().filter(name=name).first()
    if agent is None:
        raise UnknownAgent(f"There is no enabled agent {name!r}.", field="agent")
    return agent


def _repository(name: str | None, user: User) -> Repository | None:
    if name is None:
        return None
    found = visible_repositories(user).filter(name=name).first()
    if found is None:
        raise UnknownRepository(f"There is no repository {name!r} that you may use.", field="repository")
    return found


def _earlier(user: User, key: str, digest: str) -> Job | None:
    """Raises IdempotencyConflict."""
    if not key:
        return None
    job = Job.objects.select_related("conversation").filter(owner=user, idempotency_key=key).first()
    if job is not None and job.request_sha256 != digest:
        raise IdempotencyConflict("This Idempotency-Key was used with another body.", job=str(job.pk))
    return job
