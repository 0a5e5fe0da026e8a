"""What may happen to a memory: proposed, admitted or rejected, forgotten. Each with its record in the same transaction.

The record names the memory and holds a digest of its words, never the words: what is forgotten is gone.
"""

import hashlib
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import connection, transaction

from agents.errors import InvalidInput, NotAllowed, NotNow
from agents.memory import recall, vectors
from agents.memory.seen import may_decide
from agents.models import Agent, Job, Memory, Repository, Step
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event
from tools import redact

TEXT_MAX = 2000
EXPIRES_MAX_DAYS = 3650
WHY_MAX = 300
EXPIRY = Actor.system("memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Whose memory it is: a repository's, one person's, or everybody's where both are None; of one agent, or of any."""

    repository: Repository | None = None
    owner: User | None = None
    agent: Agent | None = None

    @property
    def scope(self) -> str:
        if self.repository is not None:
            return recall.repository(self.repository.pk)
        return recall.person(self.owner.pk) if self.owner is not None else recall.ALL


@dataclass(frozen=True, slots=True, kw_only=True)
class New:
    """key: what it was learned from, so that the same is never learned twice; by: whose words they are, if a person's."""

    kind: str
    text: str
    place: Place
    origin: str
    key: str
    untrusted: bool = True
    job: Job | None = None
    step: Step | None = None
    by: User | None = None
    expires_at: datetime | None = field(default=None)


def place_of(job: Job, *, for_agent: bool = False) -> Place:
    """Where what a job learns belongs: to its repository, or to its owner where it has none."""
    agent = job.agent if for_agent else None
    if job.repository is not None:
        return Place(repository=job.repository, agent=agent)
    return Place(owner=job.owner, agent=agent)


def clean_text(text: str) -> str:
    """Without control and format characters, which people would not see; secrets taken out.

    Raises:
        InvalidInput: nothing is left, or it is too long.
    """
    kept = "".join(one for one in text if one in "\n\t" or unicodedata.category(one) not in {"Cc", "Cf", "Cs", "Co"})
    kept = redact.text(kept).strip()
    if not kept:
        raise InvalidInput("Must not be empty.", field="text")
    if len(kept) > TEXT_MAX:
        raise InvalidInput(f"Must be at most {TEXT_MAX} characters.", field="text")
    return kept


def key_of(place: Place, text: str) -> str:
    """The same words for the same jobs are learned once, and not again when they were rejected or forgotten.

    Raises:
        InvalidInput: see `clean_text`.
    """
    words = " ".join(clean_text(text).casefold().split())
    return (
        f"text:{place.scope}:{place.agent.pk if place.agent else ''}:{hashlib.sha256(words.encode()).hexdigest()[:40]}"
    )


def shorten(text: str, most: int) -> str:
    """On one line."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


@transaction.atomic
def propose(new: New, *, actor: Actor, now: datetime) -> tuple[Memory, bool]:
    """Writes it down for somebody to decide on; (the one that is there, False) where this was learned before.

    Raises:
        InvalidInput: see `clean_text`.
    """
    made, is_new = _write(new, Memory.State.PROPOSED, now=now)
    if is_new:
        _recorded(Event.MEMORY_PROPOSED, made, actor)
    return made, is_new


@transaction.atomic
def write(new: New, *, by: User, now: datetime, only_propose: bool = False) -> Memory:
    """A person's own words: admitted at once where they may decide so, else (or where they `only_propose`) proposed. Whoever
    may decide brings back what was rejected or forgotten.

    Raises:
        InvalidInput
    """
    made, is_new = _write(new, Memory.State.PROPOSED, now=now)
    decides = may_decide(by, made) and not only_propose
    if decides and made.state == Memory.State.FORGOTTEN:  # its row stays empty, and gives its place to another
        Memory.objects.filter(pk=made.pk).update(key=f"forgotten:{made.pk}")
        made, is_new = _write(new, Memory.State.PROPOSED, now=now)
    if is_new:
        _recorded(Event.MEMORY_PROPOSED, made, Actor.user(by.pk))
    if decides and made.state != Memory.State.ADMITTED:
        admit(made, actor=Actor.user(by.pk), by=by, why="", now=now)
    return made


@transaction.atomic
def note_episode(new: New, *, now: datetime) -> None:
    """The server's own note of what happened: admitted as it is."""
    made, is_new = _write(new, Memory.State.ADMITTED, now=now)
    if is_new:
        Memory.objects.filter(pk=made.pk).update(decided_at=now, decided_why="the server's own note")


@transaction.atomic
def admit(memory: Memory, *, actor: Actor, why: str, now: datetime, by: User | None = None, **context: Any) -> None:
    """Jobs may recall it from now on. by: the person who decided, None where a policy did.

    Raises:
        NotNow: it is not proposed or rejected (any more).
    """
    _move(memory, {Memory.State.PROPOSED, Memory.State.REJECTED}, Memory.State.ADMITTED, by=by, why=why, now=now)
    _recorded(Event.MEMORY_ADMITTED, memory, actor, why=why, **context)


@transaction.atomic
def decide(memory: Memory, verdict: str, *, by: User, why: str = "", now: datetime) -> None:
    """A person's word on it: `admit`, `reject` or `forget`.

    Raises:
        NotAllowed: it is not theirs to decide.
        NotNow: it is in no state for that (any more).
        InvalidInput: there is no such verdict.
    """
    if not may_decide(by, memory):
        raise NotAllowed("Who owns the repository decides on its memories, and who may admit memories.")
    actor = Actor.user(by.pk)
    if verdict == "admit":
        admit(memory, actor=actor, by=by, why=why, now=now)
    elif verdict == "reject":
        _move(memory, {Memory.State.PROPOSED}, Memory.State.REJECTED, by=by, why=why, now=now)
        _recorded(Event.MEMORY_REJECTED, memory, actor, why=why)
    elif verdict == "forget":
        forget(memory, actor=actor, by=by, why=why, now=now)
    else:
        raise InvalidInput("Must be admit, reject or forget.", field="verdict")


@transaction.atomic
def forget(memory: Memory, *, actor: Actor, why: str, now: datetime, by: User | None = None) -> None:
    """Takes its words and its vector away for good. That it was there stays, so that nothing learns it again by itself.

    Raises:
        NotNow: it is forgotten already.
    """
    states = set(Memory.State) - {Memory.State.FORGOTTEN}
    _move(
        memory,
        states,
        Memory.State.FORGOTTEN,
        by=by,
        why=why,
        now=now,
        text="",
        embedding_model="",
        dimensions=None,
        expires_at=None,
    )
    if vectors.available():
        with connection.cursor() as cursor:
            cursor.execute("UPDATE agents_memory SET embedding = NULL WHERE id = %s", [memory.pk])
    _recorded(Event.MEMORY_FORGOTTEN, memory, actor, why=why)


def expire(now: datetime, *, most: int = 500) -> int:
    """Forgets those whose time is over; they were not recalled since. Gives how many."""
    done = 0
    for memory in Memory.objects.filter(expires_at__lte=now).order_by("expires_at")[:most]:
        try:
            forget(memory, actor=EXPIRY, why="its time was over", now=now)
        except NotNow:
            continue
        done += 1
    return done


@transaction.atomic
def keep_until(memory: Memory, days: int | None, *, by: User, now: datetime) -> None:
    """Sets when it expires, or that it does not.

    Raises:
        NotAllowed, InvalidInput, NotNow
    """
    if not may_decide(by, memory):
        raise NotAllowed("Who owns the repository decides on its memories, and who may admit memories.")
    until = expiry(days, now=now)
    if not Memory.objects.filter(pk=memory.pk).exclude(state=Memory.State.FORGOTTEN).update(expires_at=until):
        raise NotNow("It is forgotten.")
    memory.expires_at = until
    record(
        Event.ADMIN_CHANGED,
        actor=Actor.user(by.pk),
        target=_target(memory),
        context={"action": "set the time of", "until": until.isoformat() if until else "never"},
    )


def expiry(days: int | None, *, now: datetime) -> datetime | None:
    """Raises InvalidInput."""
    if days is None:
        return None
    if not 1 <= days <= EXPIRES_MAX_DAYS:
        raise InvalidInput(f"Must be from 1 to {EXPIRES_MAX_DAYS} days.", field="expires_days")
    return now + timedelta(days=days)


def note_used(found: list[UUID], *, now: datetime) -> None:
    """They were recalled by a job."""
    if found:
        with connection.cursor() as cursor:
            # locked in one order: two searches that find the same do not wait for each other in a circle
            cursor.execute(
                "WITH mine AS (SELECT id FROM agents_memory WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE)"
                " UPDATE agents_memory m SET used = m.used + 1, used_at = %s FROM mine WHERE m.id = mine.id",
                [found, now],
            )


def _write(new: New, state: str, *, now: datetime) -> tuple[Memory, bool]:
    made = Memory(
        kind=new.kind,
        state=state,
        origin=new.origin,
        scope=new.place.scope,
        repository=new.place.repository,
        owner=None if new.place.repository else new.place.owner,
        agent=new.place.agent,
        text=clean_text(new.text),
        untrusted=new.untrusted,
        key=new.key[:160],
        job=new.job,
        step_id=new.step.pk if new.step else None,
        by=new.by,
        expires_at=new.expires_at,
        created_at=now,
    )
    Memory.objects.bulk_create([made], ignore_conflicts=True)
    there = Memory.objects.get(key=made.key)
    if there.pk != made.pk:
        return there, False
    if vectors.available():
        vectors.keep([(made.pk, vectors.lexical(made.text))], model=vectors.LEXICAL)
        there.embedding_model, there.dimensions = vectors.LEXICAL, vectors.LEXICAL_DIMENSIONS
    return there, True


def _move(
    memory: Memory, seen: Collection[str], to: str, *, by: User | None, why: str, now: datetime, **changes: Any
) -> None:
    changes |= {"state": to, "decided_by": by, "decided_at": now, "decided_why": why[:WHY_MAX]}
    if not Memory.objects.filter(pk=memory.pk, state__in=seen).update(**changes):
        memory.refresh_from_db()
        raise NotNow(f"It is {memory.get_state_display()} already.")
    for name, value in changes.items():
        setattr(memory, name, value)


def _recorded(event: Event, memory: Memory, actor: Actor, why: str = "", **context: Any) -> None:
    if memory.text:
        context["text_sha256"] = hashlib.sha256(memory.text.encode()).hexdigest()
    record(
        event,
        actor=actor,
        target=_target(memory),
        context={"kind": str(memory.kind), "origin": str(memory.origin), "scope": memory.scope, **context},
        payload={"why": why[:WHY_MAX]} if why else None,
    )


def _target(memory: Memory) -> Target:
    return Target(type="memory", id=str(memory.pk))
