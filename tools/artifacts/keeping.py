"""A job keeps files: within its bounds, on record, each content once."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Sum
from django.db.models.functions import Now

from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event
from tools.artifacts import store
from tools.artifacts.copying import Copied, copy
from tools.artifacts.kinds import PICTURES
from tools.builtin.beneath import Beneath
from tools.errors import OverQuota, ServerFull
from tools.models import Artifact
from tools.quota import MIB, disk
from tools.spec import Workspace

KEEPER = Actor.system("artifacts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """path: in the work tree; name: as people will see it; content_type: "" to go by what it holds. That something is a
    picture is never believed: its first bytes say so."""

    path: str
    name: str
    content_type: str = ""


def keep(workspace: Workspace, wanted: Sequence[Wanted], *, subject: str, folder: Path | None = None) -> list[Artifact]:
    """Keeps the files, all or none. The same name of the same step again takes the place of the one before.

    folder: in which their paths are, the work tree where none is given.

    Raises:
        ToolRefused, ToolFailed: a file cannot be kept (`tools.artifacts.copying`).
        OverQuota: one is too large, or the job keeps too much.
        ServerFull: the disk is full.
    """
    with ExitStack() as stack:
        settings.ARTIFACT_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
        if why := disk.full(settings.ARTIFACT_DIR):
            raise ServerFull(f"Nothing can be kept now: {why}.")
        tree = stack.enter_context(Beneath(folder or workspace.tree))
        copies = []
        for one in wanted:
            path = stack.enter_context(store.incoming())
            copies.append((one, path, copy(tree, one.path, path, most_bytes=settings.ARTIFACT_MAX_MB * MIB)))
        with transaction.atomic():
            _check(workspace.id, subject, [(one.name, copied) for one, _, copied in copies])
            store.lock(shared=True)
            made = []
            for one, path, copied in copies:
                store.put(path, copied.sha256)
                made.append(_row(workspace.id, subject, one, copied))
            return made


def kept(workspace_id: UUID | str) -> list[Artifact]:
    """What the job keeps, and what it kept: in the order of time."""
    return list(Artifact.objects.filter(workspace_id=workspace_id).order_by("created_at", "pk"))


def shown(artifact: Artifact) -> dict[str, Any]:
    """As results of tools name it."""
    return {
        "id": str(artifact.pk),
        "name": artifact.name,
        "path": artifact.path,
        "content_type": artifact.content_type,
        "size_bytes": artifact.size_bytes,
        "sha256": artifact.sha256,
        "redacted": artifact.redacted,
    }


def _check(workspace_id: str, subject: str, wanted: list[tuple[str, Copied]]) -> None:
    """Raises OverQuota. Until the transaction's end no other step of the job keeps anything."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"artifacts/{workspace_id}"])
    there = Artifact.objects.filter(workspace_id=workspace_id, purged_at=None).exclude(
        subject=subject, name__in=[name for name, _ in wanted]
    )
    count = there.count() + len(wanted)
    if count > settings.ARTIFACTS_JOB_COUNT:
        raise OverQuota(f"A job keeps {settings.ARTIFACTS_JOB_COUNT} artifacts at most; these would make {count}.")
    size = (there.aggregate(size=Sum("size_bytes"))["size"] or 0) + sum(copied.size_bytes for _, copied in wanted)
    if size > settings.ARTIFACTS_JOB_MB * MIB:
        raise OverQuota(
            f"A job's artifacts have {settings.ARTIFACTS_JOB_MB} MiB together at most; "
            f"these would make {size / MIB:.1f} MiB."
        )


def _row(workspace_id: str, subject: str, wanted: Wanted, copied: Copied) -> Artifact:
    content_type = wanted.content_type
    if copied.kind in PICTURES:
        content_type = copied.kind
    elif not content_type or content_type in PICTURES:
        content_type = copied.kind or ("text/plain" if copied.text else "application/octet-stream")
    facts = {
        "path": wanted.path,
        "content_type": content_type,
        "size_bytes": copied.size_bytes,
        "sha256": copied.sha256,
        "redacted": copied.redacted,
    }
    made, _ = Artifact.objects.update_or_create(
        workspace_id=workspace_id,
        subject=subject,
        name=wanted.name,
        defaults={**facts, "created_at": Now(), "purged_at": None, "purged_why": ""},
        create_defaults=facts,
    )
    record(
        Event.ARTIFACT_KEPT,
        actor=KEEPER,
        target=Target(type="artifact", id=str(made.pk)),
        context={
            "job": workspace_id,
            "step": subject,
            "sha256": copied.sha256,
            "size_bytes": copied.size_bytes,
            "redacted": copied.redacted,
        },
        payload={"name": wanted.name, "path": wanted.path},
    )
    return made
