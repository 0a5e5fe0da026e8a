"""Texts that are kept in versions: drafted, checked, published for good, retired. Workflows and prompts are such texts.

A text has at most one draft; several of its versions may be published at once. What differs between the kinds, such as
what makes a text right and who may change it, is given with the kind.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.db.models import Max

from agents.errors import ChangedMeanwhile, InvalidInput, NotADraft, NotAllowed, NotVisible
from agents.models import Prompt, PromptVersion, Workflow, WorkflowVersion
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event
from tools.yamltext.places import Problem

SETUP = Actor.system("setup")
NOTE_MAX_CHARS = 500

TextT = TypeVar("TextT", Workflow, Prompt)
VersionT = TypeVar("VersionT", WorkflowVersion, PromptVersion)


class Checked(Protocol):
    """What a source says, and what is wrong with it."""

    @property
    def data(self) -> dict[str, Any] | None: ...
    @property
    def problems(self) -> tuple[Problem, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[TextT, VersionT]):
    """A kind of text. noun: its name, that of its versions' foreign key, and in their audit records.

    check: reads a source; may_edit: with None, may they add one?
    """

    noun: str
    texts: type[TextT]
    versions: type[VersionT]
    drafted: Event
    published: Event
    retired: Event
    refused: type[InvalidInput]
    check: Callable[[str], Checked]
    may_edit: Callable[[User | AnonymousUser, TextT | None], bool]

    def save_draft(
        self, source: str, *, note: str = "", by: User | None, now: datetime, seen: str | None = None
    ) -> VersionT:
        """Makes or replaces the draft of the text that `source` names; a name that is new makes a text.

        by None: the server itself. Where the source is that of the newest version already, that one is given back.
        seen: the SHA-256 of the newest version that the writer began from, "" where there was none.

        Raises:
            `refused`: with every problem and its line.
            NotAllowed: they may not change this one, or may not add one.
            ChangedMeanwhile: the newest version is not the one that was seen.
        """
        found = self.check(source)
        if found.problems or found.data is None:
            raise self.invalid(found.problems)
        if len(note) > NOTE_MAX_CHARS:
            raise self.refused(f"Must have at most {NOTE_MAX_CHARS} characters.", field="note")
        digest = hashlib.sha256(source.encode()).hexdigest()
        with transaction.atomic():
            text = self._locked(found.data["name"], by=by, now=now)
            rows = self._rows().filter(**{self.noun: text})
            newest = rows.order_by("-number").first()
            if newest is not None and newest.sha256 == digest and newest.status != "retired":
                return newest
            if seen is not None and seen != (newest.sha256 if newest is not None else ""):
                raise ChangedMeanwhile(_whose(newest))
            fields: dict[str, Any] = {
                "source": source,
                "definition": found.data,
                "sha256": digest,
                "note": note,
                "created_by": by,
                "created_at": now,
            }
            draft = rows.filter(status="draft").first()
            if draft is not None:
                rows.filter(pk=draft.pk, status="draft").update(**fields)
                draft.refresh_from_db()
            else:
                number = (rows.aggregate(highest=Max("number"))["highest"] or 0) + 1
                draft = self.versions.objects.create(**{self.noun: text}, number=number, **fields)
            self._record(self.drafted, draft, by=by, payload={"source": source})
            return draft

    @transaction.atomic
    def publish(
        self,
        version_id: UUID,
        *,
        by: User | None,
        now: datetime,
        holds: Callable[[VersionT], None],
        seen: str | None = None,
    ) -> VersionT:
        """From the commit on jobs may use this version, and it never changes again.

        holds: raises where something is wrong with it; seen: the SHA-256 of what was looked at.

        Raises:
            NotADraft: it was published before.
            ChangedMeanwhile: the draft is not the one that was seen.
            NotAllowed, DoesNotExist
        """
        version = self._for_change(version_id, by=by)
        if version.status != "draft":
            raise NotADraft(f"{version} is {version.status}; save a new draft.")
        if seen is not None and seen != version.sha256:
            raise ChangedMeanwhile(_whose(version))
        holds(version)
        self.versions.objects.filter(pk=version.pk, status="draft").update(
            status="published", published_by=by, published_at=now
        )
        version.refresh_from_db()
        self._record(self.published, version, by=by, payload={"source": version.source, "note": version.note})
        return version

    @transaction.atomic
    def retire(self, version_id: UUID, *, by: User | None) -> VersionT:
        """Nothing new uses this version.

        Raises:
            NotADraft: it is not published.
            NotAllowed, DoesNotExist
        """
        version = self._for_change(version_id, by=by)
        if version.status != "published":
            raise NotADraft(f"{version} is {version.status}, not published.")
        self.versions.objects.filter(pk=version.pk, status="published").update(status="retired")
        version.refresh_from_db()
        self._record(self.retired, version, by=by)
        return version

    def version_of(self, text: TextT, number: int) -> VersionT:
        """Raises NotVisible."""
        rows = self._rows().select_related("created_by", "published_by")
        found = rows.filter(**{self.noun: text, "number": number}).first() if number < 2**31 else None
        if found is None:
            raise NotVisible("There is no such version.")
        return found

    def invalid(self, problems: Sequence[Problem]) -> InvalidInput:
        """The error that tells all of them."""
        more = f" And {len(problems) - 1} more." if len(problems) > 1 else ""
        told = [(one.path or "source", f"line {one.line}, column {one.column}: {one.message}") for one in problems]
        return self.refused(f"{problems[0]}{more}", problems=told)

    def allowed(self, by: User | None, text: TextT | None) -> None:
        """Raises NotAllowed. None: to add one."""
        if by is not None and not self.may_edit(by, text):
            raise NotAllowed(
                f"You may not add {self.noun}s." if text is None else f"You may not change this {self.noun}."
            )

    def _rows(self) -> Any:
        return self.versions.objects.select_related(self.noun)

    def _locked(self, name: str, *, by: User | None, now: datetime) -> TextT:
        if not self.texts.objects.filter(name=name).exists():
            self.allowed(by, None)
            self.texts.objects.get_or_create(name=name, defaults={"owner": by, "created_at": now})
        text = self.texts.objects.select_for_update().get(name=name)
        self.allowed(by, text)  # another may have made it in the meantime
        return text

    def _for_change(self, version_id: UUID, *, by: User | None) -> VersionT:
        version = self._rows().get(pk=version_id)
        self.allowed(by, self.texts.objects.select_for_update().get(pk=getattr(version, f"{self.noun}_id")))
        locked = self._rows().select_for_update(of=("self",)).select_related("created_by", "published_by")
        found: VersionT = locked.get(pk=version_id)
        return found

    def _record(
        self, event: Event, version: VersionT, *, by: User | None, payload: dict[str, Any] | None = None
    ) -> None:
        record(
            event,
            actor=SETUP if by is None else Actor.user(by.pk),
            target=Target(type=f"{self.noun}_version", id=str(version.pk)),
            context={
                self.noun: getattr(version, self.noun).name,
                "version": version.number,
                "sha256": version.sha256,
            },
            payload=payload,
        )


def _whose(newest: WorkflowVersion | PromptVersion | None) -> str:
    if newest is None:
        return "It is gone meanwhile."
    who = newest.created_by.get_username() if newest.created_by else "the server"
    return f"Meanwhile {who} saved {newest}: look at it before you go on."
