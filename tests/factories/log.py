"""Reading the audit log in tests."""

import json
from typing import Any

from audit.models import Record


def events(target_id: object, *, prefix: str = "") -> list[tuple[str, str]]:
    """(event, outcome) of every record about a target, in the order of writing."""
    rows = Record.objects.filter(target_id=str(target_id), event__startswith=prefix).order_by("created_at")
    return [(row.event, row.outcome) for row in rows]


def bodies(target_id: object, event: str) -> list[dict[str, Any]]:
    return [
        json.loads(row.body)
        for row in Record.objects.filter(target_id=str(target_id), event=event).order_by("created_at")
    ]
