"""Reading sequenced records in the order of the log, from a place on."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from audit.checking.records import parse_time

BATCH = 1_000
_ROWS = """
SELECT l.index, e.body, e.signature, e.kid, e.prev::text FROM audit_leaf l JOIN audit_event e ON e.id = l.event_id
  WHERE l.index >= %s AND (%s::bigint IS NULL OR l.index < %s) ORDER BY l.index LIMIT %s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequenced:
    """A record in its place. facts: its body, parsed; signature: base64."""

    index: int
    body: str
    signature: str
    kid: str
    prev: str | None
    facts: dict[str, Any]

    @property
    def at(self) -> datetime:
        return parse_time(self.facts["ts"])

    @property
    def time_ms(self) -> int:
        return int(self.at.timestamp() * 1000)


def read(start: int, end: int | None = None) -> Iterator[Sequenced]:
    """Records from index `start` up to `end` (not included), or to where the log ends now."""
    while True:
        with connection.cursor() as cursor:
            cursor.execute(_ROWS, (start, end, end, BATCH))
            rows = cursor.fetchall()
        for index, body, signature, kid, prev in rows:
            text = base64.b64encode(bytes(signature)).decode()
            yield Sequenced(index=index, body=body, signature=text, kid=kid, prev=prev, facts=json.loads(body))
        if len(rows) < BATCH:
            return
        start = rows[-1][0] + 1
