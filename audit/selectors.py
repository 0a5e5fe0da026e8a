"""Reading the log."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.db.models import F, QuerySet

from audit.models import Record

_EXACT = {
    "event": "event",
    "outcome": "outcome",
    "actor_type": "actor_type",
    "actor": "actor_id",
    "target_type": "target_type",
    "target": "target_id",
}


def records(
    filters: Mapping[str, Any] | None = None, *, after: datetime | None = None, before: datetime | None = None
) -> QuerySet[Record]:
    """Records, newest first, each with `index`: its place in the log, None while it waits.

    filters: exact values of event, outcome, actor_type, actor, target_type, target.
    """
    found = Record.objects.annotate(index=F("leaf__index"))
    if filters:
        found = found.filter(**{_EXACT[name]: value for name, value in filters.items()})
    if after is not None:
        found = found.filter(created_at__gte=after)
    if before is not None:
        found = found.filter(created_at__lt=before)
    return found.order_by("-id")


def about(target_ids: Iterable[object]) -> QuerySet[Record]:
    """Records whose target is one of the ids (as text), oldest first."""
    return records().filter(target_id__in=[str(identifier) for identifier in target_ids]).order_by("id")
