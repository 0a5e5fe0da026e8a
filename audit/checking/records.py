"""Every record in the order of the log: its bytes, its signature, its columns, its payloads, its time.

A stretch of the log is checked by itself, in this process or in another one of the same snapshot (`audit.checking.walk`).
"""

import base64
import json
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.db import connection

from audit.canonical import MAX_INTEGER, facts_json
from audit.checking.findings import Finding
from audit.entries import commitment, entry_text, row_message
from audit.errors import NotCanonical
from audit.kinds import Event
from audit.merkle import leaf_hash
from audit.schema import PROJECTED

# A transaction may commit late and clocks differ a little: only what lies further off is a finding.
BACKDATED = timedelta(minutes=15)
POSTDATED = timedelta(minutes=5)
_EVER, _NEVER = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
FINDINGS_MAX = 1_000  # of one stretch

_COLUMNS = [name for name in PROJECTED if name not in ("id", "created_at")]
_PROJECTION = ", ".join(f"e.{name}" for name in _COLUMNS)
# One text of all columns is compared with one made from the body; only where they differ, columns are looked at singly.
_ROWS = f"""
SELECT l.index, l.event_id::text, l.hash, coalesce(e.body, k.body), coalesce(e.signature, k.signature),
       coalesce(e.kid, k.kid), coalesce(e.prev, k.prev)::text, coalesce(e.event, k.event), e.id IS NULL,
       concat_ws('|', e.id, to_char(e.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                 coalesce(e.actor_for, ''), {", ".join(f"e.{name}" for name in _COLUMNS if name != "actor_for")})
  FROM audit_leaf l LEFT JOIN audit_event e ON e.id = l.event_id LEFT JOIN audit_kept k ON k.id = l.event_id
  WHERE l.index >= %s AND l.index < %s ORDER BY l.index
"""  # noqa: S608  the names are constants
_SINGLE = f"SELECT created_at, {_PROJECTION} FROM audit_event e WHERE id = %s"  # noqa: S608
_PAYLOADS = """
SELECT p.event_id::text, p.slot, p.salt, p.value FROM audit_leaf l JOIN audit_payload p ON p.event_id = l.event_id
  WHERE l.index >= %s AND l.index < %s
"""
# Whatever the planner thinks of a long log's statistics: a stretch is looked up by its keys.
_BY_KEYS = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of the whole log before a stretch of it is read.

    keys: kid -> (raw public key, index from which on it signs nothing); vkeys: checkpoint keys with which the log may
    have been opened; beats: (index, time) of its heartbeats, in order; archived: id ranges (from, below) whose records
    are not in the database any more; unsigned_from: the size of the latest checkpoint; signatures: check those of rows.
    """

    keys: dict[str, tuple[bytes, int | None]]
    vkeys: frozenset[str]
    beats: list[tuple[int, datetime]]
    archived: list[tuple[str, str]]
    unsigned_from: int
    signatures: bool = True


@dataclass(slots=True)
class Stretch:
    """What a check of some places of the log gives.

    leaves: runs of places without a gap, as (first index, their hashes one after the other); beats: (index, record,
    digest of the guards, was it declared) of records that say how the database's guards are; archived: records of each
    archived range that are not here; oldest_unsigned: the earliest time of a record that no checkpoint covers.
    """

    findings: list[Finding] = field(default_factory=list)
    leaves: list[tuple[int, bytearray]] = field(default_factory=list)
    guards: list[tuple[int, str, str, bool]] = field(default_factory=list)
    checked: int = 0
    erased: dict[str, set[str]] = field(default_factory=dict)
    erasures: dict[str, set[str]] = field(default_factory=dict)
    archived: dict[int, int] = field(default_factory=dict)
    oldest_unsigned: datetime | None = None


class StretchCheck:
    """Checks records from one index up to another."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self.found = Stretch()
        self._public: dict[str, Ed25519PublicKey] = {}
        self._beats_at = [index for index, _ in known.beats]
        self._after, self._before, self._until = _EVER, _NEVER, -1
        self.index, self.record, self.event = 0, "", ""

    def run(self, start: int, stop: int) -> Stretch:
        self.found = Stretch()
        self._until = -1
        with connection.cursor() as cursor:
            cursor.execute(_BY_KEYS)
            cursor.execute(_ROWS, (start, stop))
            rows = cursor.fetchall()
            cursor.execute(_PAYLOADS, (start, stop))
            payloads = cursor.fetchall()
            cursor.execute("SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on")
        committed: dict[str, tuple[int, dict[str, str]]] = {}
        for row in rows:
            self._record(row, committed)
        self._payloads(payloads, committed)
        return self.found

    def _record(self, row: tuple[Any, ...], committed: dict[str, tuple[int, dict[str, str]]]) -> None:
        index, identifier, stored, body, signature, kid, prev, event, kept, columns = row
        self.index, self.record, self.event = index, identifier, event
        self._leaf(index, stored)
        if body is None:
            self._absent()
            return
        self.found.checked += 1
        text = entry_text(body, kid, signature, prev).encode()
        if leaf_hash(text) != stored:
            self._add("leaf_differs", "The record is not the one that has this place: its row or its hash was changed.")
        self._signature(body, signature, kid)
        facts = self._facts(body)
        if facts is None:
            return
        try:
            at = parse_time(facts["ts"])
            expected = _columns_text(facts)
        except (ValueError, KeyError, TypeError, AttributeError):
            self._add("body_malformed", "The record's body lacks what every record has.")
            return
        if kept:
            if (facts["id"], facts["event"]) != (identifier, event):
                self._add("column_differs", "The columns of the kept record disagree with its signed body.")
        else:
            if columns != expected:
                self._columns(facts, at)
            committed[identifier] = (index, facts["commit"])
        self._special(facts)
        self._time(at)

    def _leaf(self, index: int, stored: bytes) -> None:
        runs = self.found.leaves
        if not runs or runs[-1][0] + len(runs[-1][1]) // 32 != index:
            runs.append((index, bytearray()))
        runs[-1][1].extend(stored)

    def _absent(self) -> None:
        """The leaf is there, the record is not."""
        for number, (lower, upper) in enumerate(self.known.archived):
            if lower <= self.record < upper:
                self.found.archived[number] = self.found.archived.get(number, 0) + 1
                return
        self._add("record_gone", "The record was deleted.")

    def _signature(self, body: str, signature: bytes, kid: str) -> None:
        known = self.known.keys.get(kid)
        if known is None:
            self._add("key_unknown", f"The record is signed with a key that was never enrolled, {kid}: it was forged.")
            return
        raw, ends_at = known
        if self.known.signatures:
            public = self._public.get(kid)
            if public is None:
                public = self._public[kid] = Ed25519PublicKey.from_public_bytes(raw)
            try:
                public.verify(signature, row_message(body.encode()))
            except InvalidSignature:
                self._add("signature_wrong", "The record's signature is wrong: the record was changed.")
        if ends_at is not None and self.index >= ends_at:
            self._add("key_ended", f"The record is signed with the key {kid}, which ended at index {ends_at}.")

    def _facts(self, body: str) -> dict[str, Any] | None:
        """The body, where it is canonical."""
        try:
            facts = _DECODE(body)
            if not isinstance(facts, dict) or not _is_canonical(facts, body):
                raise NotCanonical("another spelling")
        except (ValueError, RecursionError):
            self._add("body_not_canonical", "The record's body is not canonical JSON.")
            return None
        return facts

    def _columns(self, facts: dict[str, Any], at: datetime) -> None:
        """Names the columns that differ."""
        with connection.cursor() as cursor:
            cursor.execute(_SINGLE, (self.record,))
            actual = dict(zip(("created_at", *_COLUMNS), cursor.fetchone(), strict=True)) | {"id": UUID(self.record)}
        for name, value in (projected(facts) | {"created_at": at}).items():
            if actual[name] != value:
                self._add("column_differs", f"The column {name} says {actual[name]!s}, the signed body {value!s}.")

    def _special(self, facts: dict[str, Any]) -> None:
        """Records that speak of the log itself."""
        event, context = facts["event"], facts["context"]
        try:
            if event == Event.PAYLOAD_ERASED:
                self.found.erasures.setdefault(facts["target"]["id"], set()).update(context["slots"])
            elif event == Event.LOG_OPENED and self.known.vkeys and context.get("vkey") not in self.known.vkeys:
                self._add(
                    "log_foreign", "The log was opened with another checkpoint key than the one it is checked with."
                )
            elif event in (Event.LOG_HEARTBEAT, Event.LOG_SCHEMA) and "guards" in context:
                declared = event == Event.LOG_SCHEMA
                self.found.guards.append((self.index, self.record, str(context["guards"]), declared))
        except (ValueError, KeyError, TypeError, AttributeError):
            self._add("body_malformed", "The record does not say what a record of its kind says.")

    def _time(self, at: datetime) -> None:
        """A record fits between the heartbeats before and after it."""
        if self.index > self._until:
            self._between_beats()
        if at < self._after:
            self._add("backdated", f"The record says {at:%F %T}, long before the heartbeat ahead of it.")
        elif at > self._before:
            self._add("postdated", f"The record says {at:%F %T}, long after the heartbeat behind it.")
        if self.index >= self.known.unsigned_from:
            oldest = self.found.oldest_unsigned
            self.found.oldest_unsigned = at if oldest is None else min(oldest, at)

    def _between_beats(self) -> None:
        place = bisect_left(self._beats_at, self.index)
        beats = self.known.beats
        self._after = beats[place - 1][1] - BACKDATED if place else _EVER
        if place < len(beats):
            self._until = beats[place][0]
            self._before = beats[place][1] + POSTDATED
        else:
            self._until = 1 << 62
            self._before = _NEVER

    def _payloads(self, rows: Iterable[tuple[Any, ...]], committed: dict[str, tuple[int, dict[str, str]]]) -> None:
        kept: set[tuple[str, str]] = set()
        for identifier, slot, salt, value in rows:
            if identifier not in committed:
                continue  # the record itself was reported
            self.index, commits = committed[identifier]
            self.record, self.event = identifier, ""
            kept.add((identifier, slot))
            if slot not in commits:
                self._add("payload_added", f"The payload {slot} was added.")
            elif salt is None:
                self.found.erased.setdefault(identifier, set()).add(slot)
            elif base64.b64encode(commitment(salt, slot, value)).decode() != commits[slot]:
                self._add("payload_differs", f"The payload {slot} is not the one that was recorded.")
        for identifier, (index, commits) in committed.items():
            for slot in commits:
                if (identifier, slot) not in kept:
                    self.index, self.record, self.event = index, identifier, ""
                    self._add("payload_gone", f"The payload {slot} was deleted.")

    def _add(self, code: str, message: str) -> None:
        if len(self.found.findings) < FINDINGS_MAX:
            self.found.findings.append(
                Finding(
                    code=code,
                    message=message,
                    index=self.index,
                    record=UUID(self.record),
                    event=self.event or None,
                )
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


def _columns_text(facts: dict[str, Any]) -> str:
    """The columns as `_ROWS` joins them."""
    actor, target = facts["actor"], facts["target"]
    return "|".join(
        (
            facts["id"],
            facts["ts"],
            actor["on_behalf_of"] or "",
            facts["event"],
            facts["outcome"],
            actor["type"],
            actor["id"],
            target["type"],
            target["id"],
        )
    )


def parse_time(text: str) -> datetime:
    """The time of a body, RFC 3339 in UTC with microseconds.

    Raises:
        ValueError
    """
    if len(text) != 27 or text[-1] != "Z":
        raise ValueError(text)
    return datetime.fromisoformat(text[:-1]).replace(tzinfo=UTC)


def _refuse(text: str) -> None:
    raise NotCanonical(f"Audit records hold no such number: {text}.")


def _integer(text: str) -> int:
    value = int(text)
    if len(text) > 15 and not -MAX_INTEGER <= value <= MAX_INTEGER:
        _refuse(text)
    return value


_DECODE = json.JSONDecoder(parse_float=_refuse, parse_int=_integer, parse_constant=_refuse).decode
_ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def _is_canonical(facts: dict[str, Any], body: str) -> bool:
    """As `facts_json(facts) == body`; the library's encoder answers for the plain case, which nearly all are."""
    if body.isascii() and "\\u0000" not in body:
        return _ENCODE(facts) == body
    return facts_json(facts) == body.encode()
