"""The workflows that come with the server."""

import hashlib
from datetime import datetime
from pathlib import Path

from django.db import transaction

from agents.models import Workflow, WorkflowVersion
from agents.workflows import versions

LIBRARY = Path(__file__).parent / "library"


def sources() -> dict[str, str]:
    """Name -> text of each."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(LIBRARY.glob("*.yaml"))}


def ensure_workflows(*, now: datetime) -> list[WorkflowVersion]:
    """Publishes what is missing or has changed since, each as a new version; gives what it published.

    What people have made their own, by a name of theirs or a version of theirs, is left alone.
    """
    made = []
    for name, source in sources().items():
        with transaction.atomic():
            if _kept(name, source):
                continue
            version = versions.save_draft(source, note="Came with the server.", by=None, now=now)
            if version.status == WorkflowVersion.Status.DRAFT:
                made.append(versions.publish(version.pk, by=None, now=now))
    return made


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
