"""What a job keeps, for the people who see the job."""

from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from uuid import UUID

from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.utils.http import content_disposition_header

from agents.errors import Gone, NotVisible
from agents.models import Job
from agents.selectors import changeable_job, visible_job
from audit.actor import Actor
from tools.artifacts import purging, store
from tools.models import Artifact

# What a browser may be told that it is; it saves all of it, and shows none.
_TOLD = frozenset(
    {
        "application/gzip", "application/json", "application/pdf", "application/zip", "image/gif", "image/jpeg",
        "image/png", "image/webp", "text/csv", "text/markdown", "text/plain",
    }
)  # fmt: skip


def artifacts_of(job: Job) -> QuerySet[Artifact]:
    """What the job keeps and kept."""
    return Artifact.objects.filter(workspace_id=job.pk)


def visible_artifact(user: User | AnonymousUser, job_id: UUID, artifact_id: UUID) -> Artifact:
    """Raises NotVisible."""
    found = artifacts_of(visible_job(user, job_id)).filter(pk=artifact_id).first()
    if found is None:
        raise NotVisible("This job keeps no such artifact.")
    return found


def download(artifact: Artifact) -> StreamingHttpResponse:
    """The content as a file to save: no browser shows it, guesses what it is, or runs anything in it.

    Raises:
        Gone: it is no longer kept, or its content is missing or damaged.
    """
    if artifact.purged_at is not None:
        raise Gone(f"It is no longer kept: {artifact.purged_why}.")
    try:
        parts = store.read(artifact.sha256, artifact.size_bytes)
    except store.Missing as error:
        raise Gone(str(error)) from None
    told = artifact.content_type if artifact.content_type in _TOLD else "application/octet-stream"
    response = StreamingHttpResponse(_in_parts(parts), content_type=told)
    response["Content-Length"] = str(artifact.size_bytes)
    response["Content-Disposition"] = content_disposition_header(True, artifact.name) or "attachment"
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response["Cross-Origin-Resource-Policy"] = "same-origin"
    response["Cache-Control"] = "private, no-store"
    response["ETag"] = f'"{artifact.sha256}"'
    return response


async def _in_parts(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    following = sync_to_async(lambda: next(parts, b""), thread_sensitive=False)
    while part := await following():
        yield part


def take_away(user: User, job_id: UUID, artifact_id: UUID, *, now: datetime) -> None:
    """Somebody who may change the job no longer wants it kept. Taking away what is gone changes nothing.

    Raises:
        NotVisible, NotAllowed
    """
    changeable_job(user, job_id)
    artifact = visible_artifact(user, job_id, artifact_id)
    with transaction.atomic():
        purging.purge([artifact.pk], actor=Actor.user(user.pk), why="taken away by a person", now=now)
    purging.remove_unused([artifact.sha256])
