"""Versions of workflows: drafted, checked, published for good, retired.

A workflow has at most one draft. Several of its versions may be published at once: a job names one, or gets the highest.
"""

from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import QuerySet

from agents.errors import InvalidWorkflow, NotVisible
from agents.models import Workflow, WorkflowVersion
from agents.versioned import Kind
from agents.workflows.check import Checked, check
from audit.kinds import Event

Status = WorkflowVersion.Status


def checked(source: str) -> Checked:
    """Reads and checks a definition; the workflows that its steps name must be published."""
    return check(source, known=_published)


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


KIND = Kind(
    noun="workflow",
    texts=Workflow,
    versions=WorkflowVersion,
    drafted=Event.WORKFLOW_DRAFTED,
    published=Event.WORKFLOW_PUBLISHED,
    retired=Event.WORKFLOW_RETIRED,
    refused=InvalidWorkflow,
    check=checked,
    may_edit=may_edit,
)
save_draft = KIND.save_draft
version_of = KIND.version_of
retire = KIND.retire  # jobs that run on it end on it; no new one starts


def publish(version_id: UUID, *, by: User | None, now: datetime, seen: str | None = None) -> WorkflowVersion:
    """As `Kind.publish`. Raises also InvalidWorkflow: since it was saved something that it names has gone."""
    return KIND.publish(version_id, by=by, now=now, seen=seen, holds=_right)


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


def current(name: str, number: int | None = None) -> WorkflowVersion | None:
    """The published version `number`, or the highest published; None where there is none."""
    if "\x00" in name or (number is not None and number >= 2**31):
        return None
    found = WorkflowVersion.objects.select_related("workflow").filter(workflow__name=name, status=Status.PUBLISHED)
    return (found.filter(number=number) if number is not None else found.order_by("-number")).first()


def _published(name: str, number: int | None) -> bool:
    return current(name, number) is not None


def _right(version: WorkflowVersion) -> None:
    found = checked(version.source)
    if found.problems:
        raise KIND.invalid(found.problems)
