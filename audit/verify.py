"""Is the log whole? Reads all of it, believes the database nothing, and names what does not fit.

What is believed is outside the database: the checkpoint key's public half, the enrolment keys, the published file and
the signer's memory (`audit.checking.trust`).
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import ProgrammingError, connection, transaction

from audit import sequence
from audit.attestation import guards_digest
from audit.checking.archives import check_holds, load_archived
from audit.checking.checkpoints import Claims, load_claims
from audit.checking.database import check_guards, check_rows
from audit.checking.files import check_files
from audit.checking.findings import Report, Verdict
from audit.checking.keys import load_keys
from audit.checking.records import Known
from audit.checking.trust import Trust
from audit.checking.walk import Walk
from audit.checking.witnesses import check_quorum
from audit.errors import CannotVerify
from audit.kinds import Event
from audit.merkle import Edge
from audit.status import STALE_AFTER_S

UNSIGNED_AFTER = timedelta(seconds=60)


def verify(
    *,
    since: int | None = None,
    trust: Trust | None = None,
    now: datetime | None = None,
    signatures: bool = True,
    processes: int | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Report:
    """Checks the log as one snapshot of the database shows it.

    since: the size of a checkpoint up to which the log was checked before; records below it are only hashed, by the
    table of leaves. trust: what to believe, by default what the settings point to. signatures: False leaves out those of
    the writers, which take most of the time. processes: how many check a long log, by default one a core. progress: is
    called with (records behind, records in all).

    Raises:
        CannotVerify: the tables are missing, a transaction is open, there is no key, or no checkpoint at `since`.
        KeyUnsafe, SignerRefused: a key or state file is damaged.
    """
    if connection.in_atomic_block:
        raise CannotVerify("A check needs a snapshot of its own; do not call it inside atomic().")
    began = time.monotonic()
    trust = trust or Trust.from_settings()  # before the snapshot: the log is never behind what was published of it
    report = Report()
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            _verify(report, trust, since, now or datetime.now(UTC), signatures, processes, progress)
    except ProgrammingError as error:
        raise CannotVerify(f"The audit tables cannot be read: {str(error).splitlines()[0]}") from None
    report.seconds = time.monotonic() - began
    return report


def _verify(
    report: Report,
    trust: Trust,
    since: int | None,
    now: datetime,
    signatures: bool,
    processes: int | None,
    progress: Callable[[int, int], None],
) -> None:
    check_guards(report)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT max(size) FROM audit_head), (SELECT coalesce(max(index) + 1, 0) FROM audit_leaf)"
        )
        head, report.size = cursor.fetchone()
        cursor.execute("SELECT count(*), min(e.created_at) FROM audit_pending JOIN audit_event e ON e.id = event_id")
        report.pending, waiting_since = cursor.fetchone()
    if head != report.size:
        report.add("head_differs", f"The head says {head} records, the log holds {report.size}.")
    claims = load_claims(report, trust)
    archived = load_archived(report)
    known = Known(
        keys={
            kid: (key.public.public_bytes_raw(), key.ends_at)
            for kid, key in load_keys(report, trust.enrolment_keys).items()
        },
        vkeys=frozenset({claims.opened_with} if claims.opened_with else ()),
        beats=_beats(),
        archived=[(part.lower, part.upper) for part in archived],
        unsigned_from=report.checkpoint_size or 0,
        signatures=signatures,
    )
    if not signatures:
        report.notes.append("The writers' signatures were not checked.")
    walk = Walk(report, claims, _edge_at(since or 0, claims), known, archived, processes)
    walk.run(lambda done: progress(done, report.size))
    _check_end(report, claims)
    check_rows(report, known.archived)
    check_holds(report)
    _check_attested(report, walk)
    _check_freshness(report, walk, now, waiting_since)
    check_quorum(report, trust, claims, now)
    check_files(report, trust.folder)


def _edge_at(since: int, claims: Claims) -> Edge:
    """The tree of the first `since` leaves, which a checkpoint vouches for."""
    edge = Edge()
    if since == 0:
        return edge
    if since not in claims.roots:
        raise CannotVerify(f"There is no checkpoint at {since}.")
    for value in sequence.stored_hashes(0, since):
        edge.append(value)
    if edge.size != since or set(claims.roots[since]) != {edge.root()}:
        raise CannotVerify(f"The log does not agree with its checkpoint at {since}: check all of it, without --since.")
    claims.good = since
    return edge


def _beats() -> list[tuple[int, datetime]]:
    """Place and time of every heartbeat."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT l.index, e.created_at FROM audit_event e JOIN audit_leaf l ON l.event_id = e.id "
            "WHERE e.event = %s ORDER BY l.index",
            (Event.LOG_HEARTBEAT,),
        )
        return cursor.fetchall()


def _check_attested(report: Report, walk: Walk) -> None:
    """The guards are what the log says of them, and never changed without its saying so, before or after."""
    declared = {guards for _, _, guards, meant in walk.guards if meant}
    attested: str | None = None
    for index, record, guards, _ in walk.guards:
        if attested is not None and guards != attested and guards not in declared:
            report.add(
                "guards_touched",
                "A trigger, function or column that guards the log was dropped, disabled or changed before this heartbeat.",
                index=index,
                record=UUID(record),
                event=Event.LOG_HEARTBEAT,
            )
        attested = guards
    if attested is not None and guards_digest() != attested:
        report.add(
            "guards_touched",
            "A trigger, function or column that guards the log was dropped, disabled or changed since the last "
            "heartbeat, even if it was put back. After maintenance of yours, `manage.py audit_attest` declares it.",
        )


def _check_end(report: Report, claims: Claims) -> None:
    if claims.largest > report.size:
        where = next(iter(claims.roots[claims.largest].values()))
        report.add(
            "log_cut",
            f"The records from index {report.size} to {claims.largest - 1} are gone: {where} was signed over "
            f"{claims.largest} records, the log holds {report.size}.",
            index=report.size,
        )


def _check_freshness(report: Report, walk: Walk, now: datetime, waiting_since: datetime | None) -> None:
    def stale(code: str, message: str) -> None:
        report.add(code, message, level=Verdict.STALE)

    if waiting_since is not None and now - waiting_since > UNSIGNED_AFTER:
        stale("pending_waits", f"{report.pending} records wait for their place since {waiting_since:%F %T} UTC.")
    if report.size == 0:
        return
    if report.checkpoint_size is None:
        stale("never_signed", "No checkpoint was signed yet: audit_sequencer has not run.")
    elif walk.oldest_unsigned is not None and now - walk.oldest_unsigned > UNSIGNED_AFTER:
        stale("tail_unsigned", f"{report.size - report.checkpoint_size} records are in the log but not signed.")
    beat = walk.known.beats[-1][1] if walk.known.beats else None
    if report.checked and (beat is None or now - beat > timedelta(seconds=STALE_AFTER_S)):
        since = f"since {beat:%F %T} UTC" if beat else "yet"
        stale("no_heartbeat", f"The log has had no heartbeat {since}: audit_sequencer does not run.")
