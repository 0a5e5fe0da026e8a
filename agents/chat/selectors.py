"""Which conversations a user sees, and what is found in them."""

import re
from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import AnonymousUser, User
from django.contrib.postgres.search import SearchQuery, SearchVector
from django.db.models import Exists, OuterRef, Q, QuerySet

from agents.errors import NotAllowed, NotVisible
from agents.models import Conversation, Job

_WORD = re.compile(r"\w+")
WORDS_MOST = 12


def visible_conversations(user: User | AnonymousUser) -> QuerySet[Conversation]:
    """The user's own, the one that was last written in first; superusers, and who may view conversations, see all."""
    talks = Conversation.objects.select_related("agent", "repository", "owner")
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


def own_conversation(user: User | AnonymousUser, talk_id: UUID) -> Conversation:
    """Raises NotVisible, NotAllowed."""
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


def turns(talk: Conversation, *, until: datetime | None = None) -> QuerySet[Job]:
    """What stands in the conversation, in order: its turns, and the jobs that were started from it."""
    jobs = Job.objects.filter(conversation=talk).select_related("agent", "repository", "owner", "conversation")
    if until is not None:
        jobs = jobs.filter(created_at__lte=until)
    return jobs.order_by("created_at", "pk")
