"""What people say: a conversation begins, goes on, and starts jobs."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction

from agents.chat import selectors, texts
from agents.chat.payload import ChatChange, ChatInput, MessageInput
from agents.chat.tools import SUMMARISE, TITLE
from agents.engine.cancel import cancel_job
from agents.engine.intake import PREPARE, SUMMARY, NewJob, NewStep, create_job
from agents.errors import InvalidInput, NotNow, TurnRunning
from agents.llm.talk import PROPOSE
from agents.models import Conversation, Job, Step
from agents.once import once
from agents.payload import JobInput, parse
from agents.selectors import agent_named, repository_named, visible_repositories
from agents.states import JOB_DONE, StepState
from agents.submit import DEFAULT_AGENT, request_sha256, submit
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


def begin(
    payload: Mapping[str, Any], *, user: User, now: datetime, key: str = "", took_part: Mapping[str, str] | None = None
) -> tuple[Job, bool]:
    """A new conversation and its first turn (see `agents.chat.payload.ChatInput`); False: it was there before.

    key: of idempotency, as `agents.submit.submit` has it; took_part: as there.

    Raises:
        InvalidInput (UnknownAgent, UnknownRepository, UnknownTenant), IdempotencyConflict, QueueFull
    """
    given = parse(ChatInput, payload)
    message = _message(given.message)
    title = texts.one_line(given.title, 200)
    digest = request_sha256({"chat": dict(payload)})

    def make() -> Job:
        talk = Conversation.objects.create(
            owner=user,
            agent=agent_named(given.agent or DEFAULT_AGENT),
            repository=repository_named(given.repository, user) if given.repository is not None else None,
            tenant=tenant_for(user, given.tenant),
            title=title or texts.one_line(message, TITLE_WORDS_CHARS),
            titled_by=Conversation.Titled.PERSON if title else Conversation.Titled.WORDS,
            created_at=now,
            said_at=now,
        )
        steps = [] if title else [NewStep(key="title", tool=TITLE, arguments={})]
        return _turn(talk, message, steps, now=now, key=key, digest=digest, took_part=took_part)

    return once(make, user=user, key=key, digest=digest)


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
        NotVisible, NotAllowed: it is somebody else's, or deleted.
        TurnRunning: the agent has not answered the last message yet.
        NotNow: its agent is switched off, or its repository is no longer the person's to use.
        InvalidInput, IdempotencyConflict, QueueFull
    """
    talk = selectors.own_conversation(user, talk_id, locked=True)
    message = _message(parse(MessageInput, payload).message)
    digest = request_sha256({"chat": str(talk.pk), **payload})

    def make() -> Job:
        if talk.running is not None:  # type: ignore[attr-defined]
            raise TurnRunning("The agent has not answered the last message yet: wait for it, or stop it.")
        if not talk.agent.enabled:
            raise NotNow(f"The agent {talk.agent.name} is switched off.")
        if talk.repository_id is not None and not visible_repositories(user).filter(pk=talk.repository_id).exists():
            raise NotNow("The repository of this conversation is no longer yours to use.")
        Conversation.objects.filter(pk=talk.pk).update(said_at=now, archived_at=None)
        return _turn(talk, message, _summary(talk), now=now, key=key, digest=digest, took_part=took_part)

    return once(make, user=user, key=key, digest=digest)


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
        NotVisible, NotAllowed: it is somebody else's conversation, or deleted; and what `agents.submit.submit` raises.
    """
    talk = selectors.own_conversation(user, talk_id, locked=True)
    given = parse(JobInput, payload)
    whole = dict(payload)
    if given.goal is not None and not (given.agent or given.team or given.capabilities):
        whole["agent"] = talk.agent.name
    if talk.repository is not None and given.workflow is None:
        whole.setdefault("repository", talk.repository.name)
    trigger = _offered(talk, given.goal)
    job, new = submit(
        whole, user=user, idempotency_key=key, trigger=trigger, took_part=took_part, conversation=talk, now=now
    )
    if new:
        Conversation.objects.filter(pk=talk.pk).update(said_at=now)
    return job, new


@transaction.atomic
def change(talk_id: UUID, payload: Mapping[str, Any], *, user: User, now: datetime) -> Conversation:
    """With its record. Raises InvalidInput, NotVisible, NotAllowed."""
    given = parse(ChatChange, payload)
    talk = selectors.own_conversation(user, talk_id, locked=True)
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


def stop(talk_id: UUID, *, user: User, now: datetime) -> None:
    """Cancels the turn that the agent is at, if there is one. Raises NotVisible, NotAllowed."""
    _stop(selectors.own_conversation(user, talk_id), user, now)


def delete(talk_id: UUID, *, user: User, now: datetime) -> None:
    """Nobody finds the conversation any more, by whatever way, and its links end; the turn that runs is cancelled. Its
    turns and jobs stay as jobs, and so do their memories.

    Raises:
        NotVisible, NotAllowed
    """
    with transaction.atomic():
        talk = selectors.own_conversation(user, talk_id, locked=True)
        stays = selectors.kept(talk, now=now)
        Conversation.objects.filter(pk=talk.pk).update(deleted_at=now, title="", summary="")
        target = Target(type="conversation", id=str(talk.pk))
        record(Event.CHAT_DELETED, actor=Actor.user(user.pk), target=target, context=asdict(stays))
    # not while the conversation is locked: who retries a turn locks its job first. No turn begins any more
    _stop(talk, user, now)


def _stop(talk: Conversation, user: User, now: datetime) -> None:
    for job in talk.jobs.filter(kind=Job.Kind.CHAT).exclude(state__in=JOB_DONE):
        cancel_job(job.pk, by=Actor.user(user.pk), now=now)


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


def _offered(talk: Conversation, goal: str | None) -> str:
    """What stands in the job where the agent offered it in these very words, or as they are shown: they are not the
    person's."""
    steps = Step.objects.filter(job__conversation=talk, tool=PROPOSE, state=StepState.SUCCEEDED)
    offers = {_flat(str(said)) for said in steps.values_list("arguments__goal", flat=True)}
    return OFFERED if goal is not None and _flat(goal) in offers else ""


def _flat(text: str) -> str:
    return " ".join(texts.shown(text).split())


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
