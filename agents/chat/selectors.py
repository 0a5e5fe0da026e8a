"""Which conversations a user sees, and what is found in them."""

import re
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import AnonymousUser, User
from django.contrib.postgres.search import SearchQuery, SearchVector
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery

from agents.errors import NotAllowed, NotVisible
from agents.models import Conversation, ConversationLink, Job, Memory
from agents.states import JOB_DONE

_WORD = re.compile(r"\w+")
WORDS_MOST = 12


def visible_conversations(user: User | AnonymousUser) -> QuerySet[Conversation]:
    """The user's own, the one that was last written in first; superusers, and who may view conversations, see all.
    Deleted ones are seen by nobody. `running`: the turn that the agent is at."""
    at_it = Job.objects.filter(conversation=OuterRef("pk"), kind=Job.Kind.CHAT).exclude(state__in=JOB_DONE)
    talks = (
        Conversation.objects.filter(deleted_at=None)
        .select_related("agent", "repository", "owner")
        .annotate(running=Subquery(at_it.order_by().values("pk")[:1]))
    )
    if not user.is_authenticated or not user.is_active:
        return talks.none()
    if user.is_superuser or user.has_perm("agents.view_conversation"):
        return talks
    return talks.filter(owner=user)


def visible_conversation(user: User | AnonymousUser, talk_id: UUID) -> Conversation:
    """Raises NotVisible."""
    talk = visible_conversations(user).filter(pk=talk_id).first()
    if talk is None:
        raise NotVisible("There is no such conversation.")
    return talk


def own_conversation(user: User | AnonymousUser, talk_id: UUID, *, locked: bool = False) -> Conversation:
    """locked: until the transaction's end no other message is said in it, and nobody changes or deletes it.

    Raises:
        NotVisible, NotAllowed
    """
    if locked:
        Conversation.objects.select_for_update(of=("self",)).filter(pk=talk_id).only("pk").first()
    talk = visible_conversation(user, talk_id)
    if talk.owner_id != user.pk:
        raise NotAllowed("This is somebody else's conversation.")
    return talk


def search(talks: QuerySet[Conversation], text: str) -> QuerySet[Conversation]:
    """Those in whose title, messages or answers every word stands, or a word that begins so."""
    words = _WORD.findall(text)[:WORDS_MOST]
    if not words:
        return talks
    said = said_with(words)
    titled = Q()
    for word in words:
        titled &= Q(title__icontains=word)
    return talks.filter(titled | Exists(said.filter(conversation=OuterRef("pk"))))


def said_with(words: list[str]) -> QuerySet[Job]:
    """The turns and jobs of conversations in which all these words stand. By the index `job_said`."""
    query = SearchQuery(" & ".join(f"{word}:*" for word in words), config="simple", search_type="raw")
    return Job.objects.annotate(said=SearchVector("goal", "outcome", config="simple")).filter(
        said=query, conversation__isnull=False
    )


def excerpt(talk: Conversation, text: str) -> str:
    """Where the words were said, with what stands around; "" where only the title has them."""
    words = _WORD.findall(text)[:WORDS_MOST]
    if not words:
        return ""
    job = said_with(words).filter(conversation=talk).order_by("-created_at").only("goal", "outcome").first()
    if job is None:
        return ""
    whole = " ".join(f"{job.goal} · {job.outcome}".split())
    at = whole.lower().find(words[0].lower())
    start = max(0, at - 60)
    return f"{'…' if start else ''}{whole[start : start + 200]}{'…' if len(whole) > start + 200 else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What stays of a conversation that is deleted: how many turns, jobs that were started from it (those of them that
    have not ended), memories of these; and the links that end."""

    turns: int
    jobs: int
    unfinished: int
    memories: int
    links: int


def kept(talk: Conversation, *, now: datetime) -> Kept:
    """What deleting it would leave, and end."""
    is_turn = Q(kind=Job.Kind.CHAT)
    jobs = Job.objects.filter(conversation=talk).aggregate(
        turns=Count("pk", filter=is_turn),
        jobs=Count("pk", filter=~is_turn),
        unfinished=Count("pk", filter=~is_turn & ~Q(state__in=JOB_DONE)),
    )
    memories = Memory.objects.filter(job__conversation=talk).exclude(state=Memory.State.FORGOTTEN)
    return Kept(**jobs, memories=memories.count(), links=holding(now).filter(conversation=talk).count())


def holding(now: datetime) -> QuerySet[ConversationLink]:
    """The links that have not ended: neither by their time, nor by their owner, nor with their conversation."""
    lasts = Q(expires_at=None) | Q(expires_at__gt=now)
    return ConversationLink.objects.filter(lasts, revoked_at=None, conversation__deleted_at=None)


def turns(talk: Conversation, *, until: datetime | None = None) -> QuerySet[Job]:
    """What stands in the conversation, in order: its turns, and the jobs that were started from it."""
    jobs = Job.objects.filter(conversation=talk).select_related("agent", "repository", "owner", "conversation")
    if until is not None:
        jobs = jobs.filter(created_at__lte=until)
    return jobs.order_by("created_at", "pk")
