"""The end of artifacts: by age, by size, by a person's word. The row stays, and says when and why."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet, Sum, Window

from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event
from tools.artifacts import store
from tools.models import Artifact
from tools.quota import MIB

SWEEPER = Actor.system("artifacts")
BATCH = 200
UNFINISHED_S = 6 * 3600.0


@dataclass(slots=True)
class Purged:
    """How many artifacts are no longer kept, by why; how many contents were removed, and how many were nobody's."""

    by_age: int = 0
    by_size: int = 0
    contents: int = 0
    strays: int = 0

    def as_json(self) -> dict[str, int]:
        return asdict(self)


def sweep(*, now: datetime) -> Purged:
    """Purges what is over its time, then the oldest until all together are within their bound; then removes contents
    that no artifact has, also those that a crash left. May be broken off and run again, and beside itself."""
    done = Purged()
    if settings.ARTIFACT_KEEP_DAYS:
        before = now - timedelta(days=settings.ARTIFACT_KEEP_DAYS)
        why = f"kept for {settings.ARTIFACT_KEEP_DAYS} days"
        while some := list(
            _live().filter(created_at__lt=before).order_by("created_at").values_list("pk", flat=True)[:BATCH]
        ):
            done.by_age += purge(some, actor=SWEEPER, why=why, now=now)
    if settings.ARTIFACTS_TOTAL_MB:
        while some := _too_many(settings.ARTIFACTS_TOTAL_MB * MIB):
            done.by_size += purge(some, actor=SWEEPER, why="room was needed", now=now)
    done.contents = remove_unused(sha for sha, _ in store.contents())
    done.strays = store.remove_unfinished(older_than_s=UNFINISHED_S)
    return done


def purge(ids: Iterable[UUID], *, actor: Actor, why: str, now: datetime) -> int:
    """The artifacts are no longer kept, each with a record; those that were not are left. How many there were.

    Their contents are still there: `remove_unused` takes them.
    """
    with transaction.atomic():
        found = list(_live().filter(pk__in=list(ids)).select_for_update(skip_locked=True))
        for one in found:
            record(
                Event.ARTIFACT_PURGED,
                actor=actor,
                target=Target(type="artifact", id=str(one.pk)),
                context={
                    "job": str(one.workspace_id),
                    "step": one.subject,
                    "sha256": one.sha256,
                    "size_bytes": one.size_bytes,
                },
                payload={"why": why},
            )
        return _live().filter(pk__in=[one.pk for one in found]).update(purged_at=now, purged_why=why)


def remove_unused(sha256s: Iterable[str]) -> int:
    """Removes those of the contents that no artifact has any more. How many it removed."""
    removed, batch = 0, list[str]()
    for sha in sha256s:
        batch.append(sha)
        if len(batch) >= BATCH:
            removed += _remove(batch)
            batch = []
    return removed + (_remove(batch) if batch else 0)


def _remove(sha256s: list[str]) -> int:
    if set(sha256s) <= set(_live().filter(sha256__in=sha256s).values_list("sha256", flat=True)):
        return 0
    with transaction.atomic():
        store.lock(shared=False)
        used = set(_live().filter(sha256__in=sha256s).values_list("sha256", flat=True))
        return sum(store.remove(sha) for sha in sha256s if sha not in used)


def _live() -> QuerySet[Artifact]:
    return Artifact.objects.filter(purged_at=None)


def _too_many(most_bytes: int) -> list[UUID]:
    """The oldest of those beyond the bound, counted from the youngest."""
    if (_live().aggregate(size=Sum("size_bytes"))["size"] or 0) <= most_bytes:
        return []
    summed = _live().annotate(upto=Window(Sum("size_bytes"), order_by=[F("created_at").desc(), F("pk").desc()]))
    beyond = summed.filter(upto__gt=most_bytes).order_by("created_at", "pk")
    return list(beyond.values_list("pk", flat=True)[:BATCH])
