"""Every record in the order of the log: its bytes, its signature, its columns, its payloads, its time."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from django.db import connection

from audit.canonical import facts_json
from audit.checking.checkpoints import Claims
from audit.checking.findings import Report
from audit.checking.keys import RowKey
from audit.entries import commitment, entry, row_message
from audit.errors import NotCanonical
from audit.kinds import Event
from audit.merkle import Edge, leaf_hash
from audit.schema import PROJECTED

BATCH = 2_000
# A transaction may commit late and clocks differ a little: only what lies further off is a finding.
BACKDATED = timedelta(minutes=15)
POSTDATED = timedelta(minutes=5)

_COLUMNS = [name for name in PROJECTED if name != "id"]
_ROWS = f"""
SELECT l.index, l.event_id, l.hash, e.body, e.signature, e.kid, e.prev, {", ".join(f"e.{name}" for name in _COLUMNS)}
  FROM audit_leaf l LEFT JOIN audit_event e ON e.id = l.event_id
  WHERE l.index >= %s ORDER BY l.index LIMIT %s
"""  # noqa: S608  the names are constants
_PAYLOADS = "SELECT event_id, slot, salt, value FROM audit_payload WHERE event_id = ANY(%s)"


class RecordCheck:
    """Walks the log from `edge` on. `claims` are compared with the root at each size that they speak of."""

    def __init__(self, report: Report, keys: dict[str, RowKey], claims: Claims, edge: Edge, vkey: str | None) -> None:
        self.report = report
        self.keys = keys
        self.claims = claims
        self.edge = edge
        self.vkey = vkey
        self.last_heartbeat: datetime | None = None
        self.oldest_unsigned: datetime | None = None  # after the latest checkpoint
        self._latest: tuple[datetime, int, UUID, str] | None = None  # the latest time since the last heartbeat
        self._erased: dict[UUID, set[str]] = {}
        self._erasures: dict[UUID, set[str]] = {}
        self._root_reported = False

    def run(self, progress: Callable[[int], None]) -> None:
        """Reads every record from the edge's size on; `progress` gets the number of records behind it."""
        start = self.edge.size
        while True:
            with connection.cursor() as cursor:
                cursor.execute(_ROWS, (start, BATCH))
                rows = cursor.fetchall()
            if not rows:
                break
            committed: dict[UUID, tuple[int, dict[str, str]]] = {}
            for row in rows:
                self._leaf(row, committed)
            self._payloads(committed)
            start = rows[-1][0] + 1
            progress(start)
        self._compare_erasures()

    def compare_root(self) -> None:
        """Does the root at the present size agree with all that was signed about it?"""
        size = self.edge.size
        said = self.claims.roots.get(size)
        if said is None:
            return
        root = self.edge.root()
        wrong = [where for value, where in said.items() if value != root]
        if not wrong:
            self.claims.good = size
        elif not self._root_reported:
            self._root_reported = True  # every later root is wrong as well
            first = self.claims.good
            self.report.add(
                "root_differs",
                f"The records from index {first} to {size - 1} are not, or not in the order, that were signed: "
                f"{wrong[0]} has another root.",
                index=first,
                record=_record_at(first),
            )

    def _leaf(self, row: tuple, committed: dict[UUID, tuple[int, dict[str, str]]]) -> None:
        index, identifier, stored, body, signature, kid, prev, *columns = row
        if index != self.edge.size:
            self.report.add(
                "leaf_gone", f"The log has no record from index {self.edge.size} to {index - 1}.", index=self.edge.size
            )
            self.edge.size = index  # roots are wrong from here on, indexes are right
            self.edge.hashes = [bytes(32)] * index.bit_count()
        self.edge.append(bytes(stored))
        self.compare_root()
        self.report.checked += 1
        if body is None:
            self.report.add("record_gone", "The record was deleted.", index=index, record=identifier)
            return
        where = {"index": index, "record": identifier, "event": columns[_COLUMNS.index("event")]}
        if leaf_hash(entry(body, kid, bytes(signature), prev)) != bytes(stored):
            self.report.add(
                "leaf_differs",
                "The record is not the one that has this place: its row or its hash was changed.",
                **where,
            )
        self._signature(body, bytes(signature), kid, index, where)
        facts = self._facts(body, where)
        if facts is None:
            return
        self._columns(facts, identifier, columns, where)
        committed[identifier] = (index, facts.get("commit") or {})
        self._special(facts, where)
        self._time(facts, where)

    def _signature(self, body: str, signature: bytes, kid: str, index: int, where: dict[str, Any]) -> None:
        key = self.keys.get(kid)
        if key is None:
            self.report.add(
                "key_unknown",
                f"The record is signed with a key that was never enrolled, {kid}: it was forged.",
                **where,
            )
            return
        try:
            key.public.verify(signature, row_message(body.encode()))
        except InvalidSignature:
            self.report.add("signature_wrong", "The record's signature is wrong: the record was changed.", **where)
        if key.ends_at is not None and index >= key.ends_at:
            self.report.add(
                "key_ended", f"The record is signed with the key {kid}, which ended at index {key.ends_at}.", **where
            )

    def _facts(self, body: str, where: dict[str, Any]) -> dict[str, Any] | None:
        """The body, where it is canonical."""
        try:
            facts = json.loads(body)
            if not isinstance(facts, dict) or facts_json(facts) != body.encode():
                raise NotCanonical("another spelling")
        except (ValueError, RecursionError):
            self.report.add("body_not_canonical", "The record's body is not canonical JSON.", **where)
            return None
        return facts

    def _columns(self, facts: dict[str, Any], identifier: UUID, columns: list[Any], where: dict[str, Any]) -> None:
        try:
            expected = projected(facts)
        except (ValueError, KeyError, TypeError, AttributeError):
            self.report.add("body_malformed", "The record's body lacks what every record has.", **where)
            return
        actual = dict(zip(_COLUMNS, columns, strict=True)) | {"id": identifier}
        for name, value in expected.items():
            if actual[name] != value:
                self.report.add(
                    "column_differs", f"The column {name} says {actual[name]!s}, the signed body {value!s}.", **where
                )

    def _special(self, facts: dict[str, Any], where: dict[str, Any]) -> None:
        """Records that speak of the log itself."""
        event, context = facts.get("event"), facts.get("context") or {}
        if event == Event.PAYLOAD_ERASED:
            try:
                self._erasures.setdefault(UUID(facts["target"]["id"]), set()).update(context["slots"])
            except (ValueError, KeyError, TypeError):
                self.report.add("body_malformed", "The record does not say what was erased.", **where)
        elif event == Event.LOG_OPENED and self.vkey is not None and context.get("vkey") != self.vkey:
            self.report.add(
                "log_foreign",
                "The log was opened with another checkpoint key than the one it is checked with.",
                **where,
            )

    def _time(self, facts: dict[str, Any], where: dict[str, Any]) -> None:
        """A record fits between the heartbeats before and after it."""
        try:
            at = parse_time(facts["ts"])
        except (ValueError, KeyError, TypeError):
            return  # reported as malformed
        if self.last_heartbeat is not None and at < self.last_heartbeat - BACKDATED:
            self.report.add("backdated", f"The record says {at:%F %T}, long before the heartbeat ahead of it.", **where)
        if where["index"] >= (self.report.checkpoint_size or 0):
            self.oldest_unsigned = min(self.oldest_unsigned or at, at)
        if facts.get("event") != Event.LOG_HEARTBEAT:
            if self._latest is None or at > self._latest[0]:
                self._latest = (at, where["index"], where["record"], where["event"])
            return
        if self._latest is not None and self._latest[0] > at + POSTDATED:
            late, index, identifier, event = self._latest
            self.report.add(
                "postdated",
                f"The record says {late:%F %T}, long after the heartbeat behind it.",
                index=index,
                record=identifier,
                event=event,
            )
        self.last_heartbeat, self._latest = at, None

    def _payloads(self, committed: dict[UUID, tuple[int, dict[str, str]]]) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_PAYLOADS, (list(committed),))
            rows = cursor.fetchall()
        kept: set[tuple[UUID, str]] = set()
        for identifier, slot, salt, value in rows:
            index, commits = committed[identifier]
            kept.add((identifier, slot))
            if slot not in commits:
                self.report.add("payload_added", f"The payload {slot} was added.", index=index, record=identifier)
            elif salt is None:
                self._erased.setdefault(identifier, set()).add(slot)
            elif base64.b64encode(commitment(bytes(salt), slot, value)).decode() != commits[slot]:
                self.report.add(
                    "payload_differs",
                    f"The payload {slot} is not the one that was recorded.",
                    index=index,
                    record=identifier,
                )
        for identifier, (index, commits) in committed.items():
            for slot in commits:
                if (identifier, slot) not in kept:
                    self.report.add("payload_gone", f"The payload {slot} was deleted.", index=index, record=identifier)

    def _compare_erasures(self) -> None:
        for identifier, slots in self._erased.items():
            unrecorded = slots - self._erasures.get(identifier, set())
            if unrecorded:
                self.report.add(
                    "payload_erased_silently",
                    f"The payload {', '.join(sorted(unrecorded))} was erased without a record of it.",
                    record=identifier,
                )


def projected(facts: dict[str, Any]) -> dict[str, Any]:
    """What the projected columns must hold (see `audit.schema.PROJECTED`).

    Raises:
        ValueError, KeyError, TypeError: the body lacks a part.
    """
    actor, target = facts["actor"], facts["target"]
    return {
        "id": UUID(facts["id"]),
        "created_at": parse_time(facts["ts"]),
        "event": facts["event"],
        "outcome": facts["outcome"],
        "actor_type": actor["type"],
        "actor_id": actor["id"],
        "actor_for": actor["on_behalf_of"],
        "target_type": target["type"],
        "target_id": target["id"],
    }


def parse_time(text: str) -> datetime:
    """The time of a body, RFC 3339 in UTC with microseconds.

    Raises:
        ValueError
    """
    if len(text) != 27 or text[-1] != "Z":
        raise ValueError(text)
    return datetime.fromisoformat(text[:-1]).replace(tzinfo=UTC)


def _record_at(index: int) -> UUID | None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT event_id FROM audit_leaf WHERE index = %s", (index,))
        row = cursor.fetchone()
    return row and row[0]
