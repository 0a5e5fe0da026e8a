"""All that the log says of one job, as a ZIP that an auditor opens offline: records, proofs, checkpoint.

    bundle.json       what it is: format, job, index of each record, how many
    checkpoint        the signed note (C2SP tlog-checkpoint) that the proofs lead to
    log.vkey          the log's public key; compare it with the one that you were given in person
    records.jsonl     {"index", "entry", "proof": [base64, …]}, in the order of the log
    keys.jsonl        the same for the records by which the keys were enrolled that signed those
    payloads.jsonl    {"record", "slot", "salt": base64, "value": canonical JSON as text}, but for what was erased

An entry is the text of `audit.entries`; its leaf hash and proof are those of RFC 6962. Whoever has the checkpoint's key
needs nothing else.
"""

import base64
import io
import json
import zipfile
from collections.abc import Iterable
from functools import cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from audit import related, sequence
from audit.actor import Actor, Target
from audit.append import record
from audit.checking.trust import Trust
from audit.entries import entry
from audit.errors import CannotVerify, InvalidProof
from audit.kinds import Event
from audit.merkle import check_inclusion, leaf_hash, node_hash
from audit.notes import CheckpointText, text_of
from audit.proofs import Node, inclusion
from audit.prove import latest_note
from audit.tiles import folder_reader

FORMAT = "countersign-bundle/v1"
RECORDS_MAX = 100_000
_ABOUT = """
SELECT l.index, e.id, e.body, e.kid, e.signature, e.prev FROM audit_event e JOIN audit_leaf l ON l.event_id = e.id
  WHERE e.target_id = ANY(%s) AND l.index < %s ORDER BY l.index LIMIT %s
"""
_KEYS = """
SELECT l.index, e.id, e.body, e.kid, e.signature, e.prev FROM audit_event e JOIN audit_leaf l ON l.event_id = e.id
  WHERE e.event = 'key.add' AND e.target_id = ANY(%s) AND l.index < %s ORDER BY l.index
"""
_PAYLOADS = "SELECT event_id, slot, salt, value FROM audit_payload WHERE event_id = ANY(%s) ORDER BY event_id, slot"
_README = """This is what the audit log of a Countersign server says of one job.

Check it without the server, with the program that comes with Countersign in one file (Python 3.9 or later and the
library `cryptography`):

    python countersign_verify.py bundle {name}

Compare log.vkey with the public key that you were given in person: a bundle that brings its own key proves nothing
about who made it. {unsigned}
"""

_Row = tuple[int, UUID, str, str, bytes, UUID | None]


def of_job(job_id: str, *, actor: Actor) -> bytes:
    """The ZIP's bytes. Leaves the record `log.exported`.

    Raises:
        CannotVerify: the log says nothing of the job, nothing is signed yet, or there are too many records.
        InvalidProof: the log is not the one that was signed: run audit_verify.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT size, note FROM audit_checkpoint ORDER BY size DESC, id DESC LIMIT 1")
            latest = cursor.fetchone()
            if latest is None:
                raise CannotVerify("Nothing is signed yet: is audit_sequencer running?")
            size, note = latest
            targets = related.ids("job", job_id)
            rows = _rows(cursor, _ABOUT, targets, size, RECORDS_MAX + 1)
            if not rows:
                raise CannotVerify(f"The signed log says nothing of the job {job_id}.")
            if len(rows) > RECORDS_MAX:
                raise CannotVerify(f"The job has more than {RECORDS_MAX:,} records: use audit_export.")
            keys = _rows(cursor, _KEYS, sorted({row[3] for row in rows}), size)
            cursor.execute("SELECT count(*) FROM audit_event WHERE target_id = ANY(%s)", (targets,))
            (written,) = cursor.fetchone()
            cursor.execute(_PAYLOADS, ([row[1] for row in rows],))
            payloads = cursor.fetchall()
        note = latest_note(above=max(row[0] for row in (*rows, *keys))) or note  # a cosigned one, if it holds them all
        checkpoint = CheckpointText.parse(text_of(note))
        size, signed_root = checkpoint.size, checkpoint.root
        try:  # the published files, where they are here and say what was signed
            node: Node = folder_reader(settings.AUDIT_PUBLISH_DIR, size).node
            records, enrolments = _proved(rows, size, signed_root, node), _proved(keys, size, signed_root, node)
        except (InvalidProof, OSError):
            node = _stored_node(size)
            records, enrolments = _proved(rows, size, signed_root, node), _proved(keys, size, signed_root, node)
        record(
            Event.LOG_EXPORTED,
            actor=actor,
            target=Target(type="job", id=job_id),
            context={"format": FORMAT, "records": len(rows), "size": size},
        )
    verifier = Trust.from_settings().verifier
    about = {
        "format": FORMAT,
        "job": job_id,
        "size": size,
        "records": len(rows),
        "unsigned": written - len(rows),
        "indexes": [row[0] for row in rows],
    }
    left = written - len(rows)
    unsigned = f"{left} newer records of the job were not signed yet when this was made." if left else ""
    return _zipped(
        {
            "README.txt": _README.format(name=f"countersign-{job_id}.zip", unsigned=unsigned),
            "bundle.json": json.dumps(about, indent=1) + "\n",
            "checkpoint": note,
            "log.vkey": f"{verifier.vkey}\n" if verifier else "",
            "records.jsonl": _lines(records),
            "keys.jsonl": _lines(enrolments),
            "payloads.jsonl": _lines(_payload(*one) for one in payloads),
        }
    )


def _rows(cursor: Any, query: str, *values: object) -> list[_Row]:
    cursor.execute(query, values)
    return [(index, pk, body, kid, bytes(signature), prev) for index, pk, body, kid, signature, prev in cursor]


def _proved(rows: Iterable[_Row], size: int, signed_root: bytes, node: Node) -> list[dict[str, Any]]:
    """Raises InvalidProof: a proof does not lead to the root that was signed."""
    found = []
    for index, _, body, kid, signature, prev in rows:
        written = entry(body, kid, signature, prev)
        path = inclusion(index, size, node)
        check_inclusion(leaf=leaf_hash(written), index=index, size=size, proof=path, root=signed_root)
        proof = [base64.b64encode(one).decode() for one in path]
        found.append({"index": index, "entry": written.decode(), "proof": proof})
    return found


def _payload(record_id: UUID, slot: str, salt: bytes | None, value: str | None) -> dict[str, Any]:
    return {
        "record": str(record_id),
        "slot": slot,
        "salt": None if salt is None else base64.b64encode(bytes(salt)).decode(),
        "value": value,
    }


def _stored_node(size: int) -> Node:
    """From the table of leaves. Raises CannotVerify: some are missing."""
    leaves = list(sequence.stored_hashes(0, size))
    if len(leaves) != size:
        raise CannotVerify("The log has a gap: run audit_verify.")

    @cache
    def node(level: int, index: int) -> bytes:
        return node_hash(node(level - 1, 2 * index), node(level - 1, 2 * index + 1)) if level else leaves[index]

    return node


def _lines(values: Iterable[dict[str, Any]]) -> str:
    return "".join(f"{json.dumps(one, ensure_ascii=True, separators=(',', ':'))}\n" for one in values)


def _zipped(files: dict[str, str]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return made.getvalue()
