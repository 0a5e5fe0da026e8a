"""Versions of prompts: drafted, tested, published for good, retired; and which of them a job gets.

A prompt has at most one draft. What is published has passed its own tests.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.db.models import Max, QuerySet

from agents.errors import InvalidInput, InvalidPrompt, NotADraft, NotAllowed, NotVisible
from agents.models import Prompt, PromptVersion
from agents.prompts import testing
from agents.prompts.definition import check
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event
from tools.yamltext.places import Problem

Status = PromptVersion.Status
SETUP = Actor.system("setup")
NOTE_MAX_CHARS = 500


def save_draft(source: str, *, note: str = "", by: User | None, now: datetime) -> PromptVersion:
    """Makes or replaces the draft of the prompt that `source` names; a name that is new makes a prompt.

    by None: the server itself. Where the text is that of the newest version already, that one is given back.

    Raises:
        InvalidPrompt: with every problem and its line.
        NotAllowed
    """
    found = check(source)
    if found.problems or found.data is None:
        raise _invalid(found.problems)
    if len(note) > NOTE_MAX_CHARS:
        raise InvalidPrompt(f"Must have at most {NOTE_MAX_CHARS} characters.", field="note")
    with transaction.atomic():
        prompt = _locked(found.data["name"], by=by, now=now)
        digest = hashlib.sha256(source.encode()).hexdigest()
        newest = prompt.versions.order_by("-number").first()
        if newest is not None and newest.sha256 == digest and newest.status != Status.RETIRED:
            return newest
        fields: dict[str, Any] = {
            "source": source,
            "definition": found.data,
            "sha256": digest,
            "note": note,
            "created_by": by,
            "created_at": now,
        }
        draft = prompt.versions.filter(status=Status.DRAFT).first()
        if draft is not None:
            PromptVersion.objects.filter(pk=draft.pk, status=Status.DRAFT).update(**fields)
            draft.refresh_from_db()
        else:
            number = (prompt.versions.aggregate(highest=Max("number"))["highest"] or 0) + 1
            draft = PromptVersion.objects.create(prompt=prompt, number=number, **fields)
        _record(Event.PROMPT_DRAFTED, draft, by=by, payload={"source": source})
        return draft


@transaction.atomic
def publish(version_id: UUID, *, by: User | None, now: datetime) -> PromptVersion:
    """From the commit on jobs may use this version, and it never changes again.

    Raises:
        InvalidPrompt: one of its own tests fails.
        NotADraft, NotAllowed, PromptVersion.DoesNotExist
    """
    version = _for_change(version_id, by=by)
    if version.status != Status.DRAFT:
        raise NotADraft(f"{version} is {version.status}; save a new draft.")
    failed = [one for one in testing.run(version.definition) if not one.ok]
    if failed:
        problems = [(f"cases.{one.case}", one.why) for one in failed]
        raise InvalidPrompt(f"{len(failed)} of its tests fail: {failed[0].case}: {failed[0].why}", problems=problems)
    PromptVersion.objects.filter(pk=version.pk, status=Status.DRAFT).update(
        status=Status.PUBLISHED, published_by=by, published_at=now
    )
    version.refresh_from_db()
    _record(Event.PROMPT_PUBLISHED, version, by=by, payload={"source": version.source, "note": version.note})
    return version


@transaction.atomic
def retire(version_id: UUID, *, by: User | None) -> PromptVersion:
    """No further step uses it. Raises NotADraft: it is not published. NotAllowed, PromptVersion.DoesNotExist."""
    version = _for_change(version_id, by=by)
    if version.status != Status.PUBLISHED:
        raise NotADraft(f"{version} is {version.status}, not published.")
    PromptVersion.objects.filter(pk=version.pk, status=Status.PUBLISHED).update(status=Status.RETIRED)
    Prompt.objects.filter(pk=version.prompt_id, candidate=version).update(candidate=None, candidate_share=0)
    version.refresh_from_db()
    _record(Event.PROMPT_RETIRED, version, by=by)
    return version


@transaction.atomic
def share_out(prompt: Prompt, candidate: PromptVersion | None, share: int, *, by: User) -> Prompt:
    """That percent of the jobs that name no version get the candidate; None: all get the newest again.

    Raises:
        InvalidInput: the candidate is not published, or the share is no percent.
        NotAllowed
    """
    prompt = Prompt.objects.select_for_update().get(pk=prompt.pk)
    _allowed(by, prompt)
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


def chosen(name: str, number: int | None, *, key: str) -> PromptVersion:
    """The version that a job gets: the one that it names, a draft too; else the candidate, by the candidate's share of the keys;
    else the newest published one. The same for the same key.

    Raises:
        InvalidInput: there is none.
    """
    versions = PromptVersion.objects.select_related("prompt").filter(prompt__name=name)
    if number is not None:
        found = versions.exclude(status=Status.RETIRED).filter(number=number).first()
        if found is None:
            raise InvalidInput(f"There is no prompt '{name}@{number}' that can be used.", field="arguments.version")
        return found
    published = versions.filter(status=Status.PUBLISHED)
    prompt = Prompt.objects.select_related("candidate").filter(name=name).first()
    candidate = prompt.candidate if prompt is not None else None
    rest = published.exclude(pk=candidate.pk) if candidate is not None else published
    newest = rest.order_by("-number").first()
    if prompt is not None and candidate is not None and candidate.status == Status.PUBLISHED:
        place = int(hashlib.sha256(f"{prompt.pk}:{key}".encode()).hexdigest()[:8], 16) % 100
        if newest is None or place < prompt.candidate_share:
            candidate.prompt = prompt
            return candidate
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


def version_of(prompt: Prompt, number: int) -> PromptVersion:
    """Raises NotVisible."""
    found = prompt.versions.select_related("prompt", "created_by", "published_by").filter(number=number).first()
    if found is None:
        raise NotVisible("There is no such version.")
    return found


def may_edit(user: User | AnonymousUser, prompt: Prompt | None = None) -> bool:
    """Its owner, and who holds `agents.change_prompt`; to add one: `agents.add_prompt`."""
    if not user.is_authenticated or not user.is_active:
        return False
    if prompt is None:
        return user.has_perm("agents.add_prompt")
    return user.is_superuser or prompt.owner_id == user.pk or user.has_perm("agents.change_prompt")


def _invalid(problems: Sequence[Problem]) -> InvalidPrompt:
    first = problems[0]
    more = f" And {len(problems) - 1} more." if len(problems) > 1 else ""
    pairs = [(one.path or "source", f"line {one.line}, column {one.column}: {one.message}") for one in problems]
    return InvalidPrompt(f"{first}{more}", problems=pairs)


def _locked(name: str, *, by: User | None, now: datetime) -> Prompt:
    if not Prompt.objects.filter(name=name).exists():
        _allowed(by, None)
        Prompt.objects.get_or_create(name=name, defaults={"owner": by, "created_at": now})
    prompt = Prompt.objects.select_for_update().get(name=name)
    _allowed(by, prompt)  # another may have made it in the meantime
    return prompt


def _for_change(version_id: UUID, *, by: User | None) -> PromptVersion:
    version = PromptVersion.objects.get(pk=version_id)
    _allowed(by, Prompt.objects.select_for_update().get(pk=version.prompt_id))
    return PromptVersion.objects.select_for_update(of=("self",)).select_related("prompt").get(pk=version_id)


def _allowed(by: User | None, prompt: Prompt | None) -> None:
    if by is not None and not may_edit(by, prompt):
        raise NotAllowed("You may not add prompts." if prompt is None else "You may not change this prompt.")


def _record(event: Event, version: PromptVersion, *, by: User | None, payload: dict[str, Any] | None = None) -> None:
    record(
        event,
        actor=SETUP if by is None else Actor.user(by.pk),
        target=Target(type="prompt_version", id=str(version.pk)),
        context={"prompt": version.prompt.name, "version": version.number, "sha256": version.sha256},
        payload=payload,
    )
