"""Versions of prompts: drafted, tested, published for good, retired; and which of them a job gets.

A prompt has at most one draft. What is published has passed its own tests.
"""

import hashlib
from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.db.models import QuerySet

from agents.errors import InvalidInput, InvalidPrompt, NotVisible
from agents.models import Prompt, PromptVersion
from agents.prompts import testing
from agents.prompts.definition import check
from agents.versioned import Kind
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

Status = PromptVersion.Status


def may_edit(user: User | AnonymousUser, prompt: Prompt | None = None) -> bool:
    """Its owner, and who holds `agents.change_prompt`; to add one: `agents.add_prompt`."""
    if not user.is_authenticated or not user.is_active:
        return False
    if prompt is None:
        return user.has_perm("agents.add_prompt")
    return prompt.owner_id == user.pk or user.has_perm("agents.change_prompt")


KIND = Kind(
    noun="prompt",
    texts=Prompt,
    versions=PromptVersion,
    drafted=Event.PROMPT_DRAFTED,
    published=Event.PROMPT_PUBLISHED,
    retired=Event.PROMPT_RETIRED,
    refused=InvalidPrompt,
    check=check,
    may_edit=may_edit,
)
save_draft = KIND.save_draft
version_of = KIND.version_of


def publish(version_id: UUID, *, by: User | None, now: datetime, seen: str | None = None) -> PromptVersion:
    """As `Kind.publish`. Raises also InvalidPrompt: one of its own tests fails."""
    return KIND.publish(version_id, by=by, now=now, seen=seen, holds=_tested)


@transaction.atomic
def retire(version_id: UUID, *, by: User | None) -> PromptVersion:
    """As `Kind.retire`; a candidate is none any more."""
    version = KIND.retire(version_id, by=by)
    Prompt.objects.filter(candidate=version).update(candidate=None, candidate_share=0)
    return version


@transaction.atomic
def share_out(prompt: Prompt, candidate: PromptVersion | None, share: int, *, by: User) -> Prompt:
    """That percent of the jobs that name no version get the candidate; None: all get the newest again.

    Raises:
        InvalidInput: the candidate is not published, or the share is no percent.
        NotAllowed
    """
    prompt = Prompt.objects.select_for_update().get(pk=prompt.pk)
    KIND.allowed(by, prompt)
    if candidate is not None:
        candidate.refresh_from_db()
    if candidate is None:
        share = 0
    elif candidate.prompt_id != prompt.pk or candidate.status != Status.PUBLISHED:
        raise InvalidInput("Only a published version of this prompt can be a candidate.", field="candidate")
    elif not 1 <= share <= 100:
        raise InvalidInput("A share is 1 to 100 percent.", field="share")
    prompt.candidate, prompt.candidate_share = candidate, share
    prompt.save(update_fields=["candidate", "candidate_share"])
    record(
        Event.PROMPT_SHARED,
        actor=Actor.user(by.pk),
        target=Target(type="prompt", id=str(prompt.pk)),
        context={"prompt": prompt.name, "candidate": candidate.number if candidate else None, "percent": share},
    )
    return prompt


def in_force(prompt: Prompt) -> PromptVersion | None:
    """What a job gets that names no version and does not get the candidate."""
    rows = PromptVersion.objects.filter(prompt=prompt, status=Status.PUBLISHED).select_related("prompt")
    if prompt.candidate_id is not None:
        rows = rows.exclude(pk=prompt.candidate_id)
    return rows.order_by("-number").first()


def chosen(name: str, number: int | None, *, key: str) -> PromptVersion:
    """The version that a job gets: the one that it names, a draft too; else the candidate, by the candidate's share of
    the keys; else the one in force. The same for the same key.

    Raises:
        InvalidInput: there is none.
    """
    versions = PromptVersion.objects.select_related("prompt").filter(prompt__name=name)
    if number is not None:
        found = versions.exclude(status=Status.RETIRED).filter(number=number).first()
        if found is None:
            raise InvalidInput(f"There is no prompt '{name}@{number}' that can be used.", field="arguments.version")
        return found
    prompt = Prompt.objects.select_related("candidate").filter(name=name).first()
    newest = in_force(prompt) if prompt is not None else None
    if prompt is not None and prompt.candidate is not None:
        place = int(hashlib.sha256(f"{prompt.pk}:{key}".encode()).hexdigest()[:8], 16) % 100
        if newest is None or place < prompt.candidate_share:
            prompt.candidate.prompt = prompt
            return prompt.candidate
    if newest is None:
        raise InvalidInput(f"There is no published prompt {name!r}.", field="arguments.prompt")
    return newest


def prompts(user: User | AnonymousUser) -> QuerySet[Prompt]:
    """Every prompt, by name: whoever may submit jobs may use and read them."""
    found = Prompt.objects.select_related("owner", "candidate")
    return found if user.is_authenticated and user.is_active else found.none()


def prompt_of(user: User | AnonymousUser, name: str) -> Prompt:
    """Raises NotVisible."""
    found = prompts(user).filter(name=name).first()
    if found is None:
        raise NotVisible("There is no such prompt.")
    return found


def _tested(version: PromptVersion) -> None:
    failed = [one for one in testing.run(version.definition) if not one.ok]
    if failed:
        problems = [(f"cases.{one.case}", one.why) for one in failed]
        raise InvalidPrompt(f"{len(failed)} of its tests fail: {failed[0].case}: {failed[0].why}", problems=problems)
