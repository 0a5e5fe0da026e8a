"""The workflows that come with the server."""

import hashlib
from datetime import datetime
from pathlib import Path

from django.db import transaction

from agents.errors import InvalidWorkflow
from agents.models import Workflow, WorkflowVersion
from agents.workflows import versions

LIBRARY = Path(__file__).parent / "library"


def sources() -> dict[str, str]:
    """Name -> text of each."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(LIBRARY.glob("*.yaml"))}


def ensure_workflows(*, now: datetime) -> list[WorkflowVersion]:
    """Publishes what is missing or has changed since, each as a new version; gives what it published.

    What people have made their own, by a name of theirs or a version of theirs, is left alone.

    Raises:
        InvalidWorkflow: a shipped text is wrong.
    """
    made: list[WorkflowVersion] = []
    waiting = sources()
    while waiting:
        later: dict[str, str] = {}
        refused: InvalidWorkflow | None = None
        for name, source in waiting.items():
            try:
                made += _publish(name, source, now=now)
            except InvalidWorkflow as error:  # it may name one that comes after it
                later[name], refused = source, error
        if refused is not None and len(later) == len(waiting):
            raise refused
        waiting = later
    return made


@transaction.atomic
def _publish(name: str, source: str, *, now: datetime) -> list[WorkflowVersion]:
    if _kept(name, source):
        return []
    version = versions.save_draft(source, note="Came with the server.", by=None, now=now)
    if version.status != WorkflowVersion.Status.DRAFT:
        return []
    return [versions.publish(version.pk, by=None, now=now)]


def _kept(name: str, source: str) -> bool:
    """Is it people's by now, or has this text had its version, even if that was retired since?"""
    workflow = Workflow.objects.filter(name=name).first()
    if workflow is None:
        return False
    newest = workflow.versions.first()
    digest = hashlib.sha256(source.encode()).hexdigest()
    return workflow.owner_id is not None or (
        newest is not None and (newest.created_by_id is not None or newest.sha256 == digest)
    )
