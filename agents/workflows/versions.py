"""Versions of workflows: drafted, checked, published for good, retired.

A workflow has at most one draft. Several of its versions may be published at once: a job names one, or gets the highest.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.db.models import Max, QuerySet

from agents.errors import InvalidWorkflow, NotADraft, NotAllowed, NotVisible
from agents.models import Workflow, WorkflowVersion
from agents.workflows.check import Checked, check
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event
from tools.yamltext.places import Problem

Status = WorkflowVersion.Status
SETUP = Actor.system("setup")
NOTE_MAX_CHARS = 500


def checked(source: str) -> Checked:
    """Reads and checks a definition; the workflows that its steps name must be published."""
    return check(source, known=_published)


def save_draft(source: str, *, note: str = "", by: User | None, now: datetime) -> WorkflowVersion:
    """Makes or replaces the draft of the workflow that `source` names; a name that is new makes a workflow.

    `by` None: the server itself. Where the text is that of the newest version already, that one is given back.

    Raises:
        InvalidWorkflow: with every problem and its line.
        NotAllowed: the user may not change this workflow, or may not add one.
    """
    found = checked(source)
    if found.problems or found.data is None:
        raise invalid(found.problems)
    if len(note) > NOTE_MAX_CHARS:
        raise InvalidWorkflow(f"Must have at most {NOTE_MAX_CHARS} characters.", field="note")
    name: str = found.data["name"]
    with transaction.atomic():
        workflow = _locked(name, by=by, now=now)
        digest = hashlib.sha256(source.encode()).hexdigest()
        newest = workflow.versions.order_by("-number").first()
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
        draft = workflow.versions.filter(status=Status.DRAFT).first()
        if draft is not None:
            WorkflowVersion.objects.filter(pk=draft.pk, status=Status.DRAFT).update(**fields)
            draft.refresh_from_db()
        else:
            number = (workflow.versions.aggregate(highest=Max("number"))["highest"] or 0) + 1
            draft = WorkflowVersion.objects.create(workflow=workflow, number=number, **fields)
        _record(Event.WORKFLOW_DRAFTED, draft, by=by, payload={"source": source})
        return draft


@transaction.atomic
def publish(version_id: UUID, *, by: User | None, now: datetime) -> WorkflowVersion:
    """From the commit on jobs may run on this version, and it never changes again.

    Raises:
        NotADraft: it was published before.
        InvalidWorkflow: since it was saved something that it names has gone.
        NotAllowed, WorkflowVersion.DoesNotExist
    """
    version = _for_change(version_id, by=by)
    if version.status != Status.DRAFT:
        raise NotADraft(f"{version} is {version.status}; save a new draft.")
    found = checked(version.source)
    if found.problems:
        raise invalid(found.problems)
    WorkflowVersion.objects.filter(pk=version.pk, status=Status.DRAFT).update(
        status=Status.PUBLISHED, published_by=by, published_at=now
    )
    version.refresh_from_db()
    _record(Event.WORKFLOW_PUBLISHED, version, by=by, payload={"source": version.source, "note": version.note})
    return version


@transaction.atomic
def retire(version_id: UUID, *, by: User | None) -> WorkflowVersion:
    """No new job starts on this version; those that run end on it.

    Raises:
        NotADraft: it is not published.
        NotAllowed, WorkflowVersion.DoesNotExist
    """
    version = _for_change(version_id, by=by)
    if version.status != Status.PUBLISHED:
        raise NotADraft(f"{version} is {version.status}, not published.")
    WorkflowVersion.objects.filter(pk=version.pk, status=Status.PUBLISHED).update(status=Status.RETIRED)
    version.refresh_from_db()
    _record(Event.WORKFLOW_RETIRED, version, by=by)
    return version


def workflows(user: User | AnonymousUser) -> QuerySet[Workflow]:
    """Every workflow, by name: whoever may submit jobs may run and read them."""
    found = Workflow.objects.select_related("owner")
    return found if user.is_authenticated and user.is_active else found.none()


def workflow_of(user: User | AnonymousUser, name: str) -> Workflow:
    """Raises NotVisible."""
    found = None if "\x00" in name else workflows(user).filter(name=name).first()
    if found is None:
        raise NotVisible("There is no such workflow.")
    return found


def version_of(workflow: Workflow, number: int) -> WorkflowVersion:
    """Raises NotVisible."""
    found = workflow.versions.select_related("workflow", "created_by", "published_by").filter(number=number).first()
    if found is None:
        raise NotVisible("There is no such version.")
    return found


def current(name: str, number: int | None = None) -> WorkflowVersion | None:
    """The published version `number`, or the highest published; None where there is none."""
    if "\x00" in name or (number is not None and number >= 2**31):
        return None
    found = WorkflowVersion.objects.select_related("workflow").filter(workflow__name=name, status=Status.PUBLISHED)
    return (found.filter(number=number) if number is not None else found.order_by("-number")).first()


def may_edit(user: User | AnonymousUser, workflow: Workflow | None = None) -> bool:
    """Its owner, who holds `agents.change_workflow` (for it or for all), and superusers; to add one: `add_workflow`."""
    if not user.is_authenticated or not user.is_active:
        return False
    if workflow is None:
        return user.has_perm("agents.add_workflow")
    return (
        user.is_superuser
        or workflow.owner_id == user.pk
        or user.has_perm("agents.change_workflow")
        or user.has_perm("agents.change_workflow", workflow)
    )


def invalid(problems: Sequence[Problem]) -> InvalidWorkflow:
    """The error that tells all of them."""
    first = problems[0]
    more = f" And {len(problems) - 1} more." if len(problems) > 1 else ""
    told = [(one.path or "source", f"line {one.line}, column {one.column}: {one.message}") for one in problems]
    return InvalidWorkflow(f"{first}{more}", problems=told)


def _locked(name: str, *, by: User | None, now: datetime) -> Workflow:
    workflow = Workflow.objects.select_for_update().filter(name=name).first()
    if workflow is not None:
        _allowed(by, workflow)
        return workflow
    _allowed(by, None)
    Workflow.objects.get_or_create(name=name, defaults={"owner": by, "created_at": now})
    workflow = Workflow.objects.select_for_update().get(name=name)
    _allowed(by, workflow)  # another may have made it in the meantime
    return workflow


def _for_change(version_id: UUID, *, by: User | None) -> WorkflowVersion:
    version = WorkflowVersion.objects.select_related("workflow").get(pk=version_id)
    _allowed(by, Workflow.objects.select_for_update().get(pk=version.workflow_id))
    return (
        WorkflowVersion.objects.select_for_update(of=("self",))
        .select_related("workflow", "created_by", "published_by")
        .get(pk=version_id)
    )


def _allowed(by: User | None, workflow: Workflow | None) -> None:
    if by is not None and not may_edit(by, workflow):
        raise NotAllowed("You may not add workflows." if workflow is None else "You may not change this workflow.")


def _published(name: str, number: int | None) -> bool:
    return current(name, number) is not None


def _record(event: Event, version: WorkflowVersion, *, by: User | None, payload: dict[str, Any] | None = None) -> None:
    record(
        event,
        actor=SETUP if by is None else Actor.user(by.pk),
        target=Target(type="workflow_version", id=str(version.pk)),
        context={"workflow": version.workflow.name, "version": version.number, "sha256": version.sha256},
        payload=payload,
    )
