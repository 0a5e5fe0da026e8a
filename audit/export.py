"""The whole log as a folder that an auditor checks elsewhere, with the verifier beside it.

    checkpoint, checkpoints.jsonl, cosigned.jsonl, checkpoint.vkey, enrolment.keys, policy     what is signed, and by whom
    tile/                                                                                    C2SP tlog-tiles
    records.jsonl                                                                            an entry a line
    payloads.jsonl                                                                           values, where they were asked for
    countersign_verify.py, README.txt

Entries hold salted commitments in place of payloads, so without `payloads.jsonl` nothing personal leaves the server.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from audit import sequence
from audit.actor import Actor, Target
from audit.append import record
from audit.errors import CannotVerify, InvalidProof
from audit.kinds import Event
from audit.merkle import leaf_hash
from audit.notes import CheckpointText, text_of
from audit.proofs import root_at
from audit.prove import latest_note
from audit.publish import COSIGNED_LOG_FILE, ENROLMENT_FILE, LATEST_FILE, LOG_FILE
from audit.signing import PUBLIC_FILE, load_verifier
from audit.tiles import TileWriter, folder_reader

VERIFIER = Path(settings.BASE_DIR) / "offline" / "countersign_verify.py"
README = """This is the audit log {origin} of {size} records.

    python3 countersign_verify.py export . --vkey YOUR-KEY

YOUR-KEY is the log's public key as you wrote it down when the log began; checkpoint.vkey holds the one that the server says
it is. The verifier needs Python 3.9 or later and the package `cryptography`. It prints what it checked; exit code 0: whole,
2: tampered, 3: stale or too few witnesses, 1: the check could not run. Take the verifier from elsewhere where you can.
"""


@dataclass(frozen=True, slots=True)
class Exported:
    """size: records; payloads: values, None where they were left out."""

    folder: Path
    size: int
    payloads: int | None


def export(folder: Path, *, actor: Actor, payloads: bool = False) -> Exported:
    """Writes the log up to its latest checkpoint into a new folder, and records that.

    Raises:
        CannotVerify: nothing is signed yet, or the folder is not empty.
        SignerRefused: the log does not fit together: run audit_verify.
    """
    if folder.exists() and any(folder.iterdir()):
        raise CannotVerify(f"{folder} is not empty.")
    note = latest_note()
    if note is None:
        raise CannotVerify("Nothing is signed yet: is audit_sequencer running?")
    checkpoint = CheckpointText.parse(text_of(note))
    note = latest_note(above=checkpoint.size - 1) or note  # with cosignatures, where witnesses have seen all of it
    checkpoint = CheckpointText.parse(text_of(note))
    with transaction.atomic():
        record(
            Event.LOG_EXPORTED,
            actor=actor,
            target=Target(type="log", id=checkpoint.origin),
            context={"size": checkpoint.size, "payloads": payloads},
        )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _files(folder, checkpoint)
    _beside(folder, note, checkpoint)
    kept: dict[str, int] = {}
    with (folder / "records.jsonl").open("w", encoding="utf-8") as lines:
        for line in _records(folder, checkpoint.size):
            lines.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
            if payloads and line["body"]["commit"]:
                kept[line["body"]["id"]] = line["index"]
    count = _payloads(folder / "payloads.jsonl", list(kept)) if payloads else None
    return Exported(folder, checkpoint.size, count)


def _files(folder: Path, checkpoint: CheckpointText) -> None:
    """Copies the published files where they lead to the signed root, else makes them from the database."""
    published: Path = settings.AUDIT_PUBLISH_DIR
    there = folder_reader(published, checkpoint.size)

    def entries(start: int, stop: int) -> Iterator[tuple[bytes, bytes]]:
        for entry in there.entries(start, stop):
            yield entry, leaf_hash(entry)

    try:
        if root_at(checkpoint.size, there.node) != checkpoint.root:
            raise InvalidProof("The published files have another root.")
        TileWriter(folder).extend(0, checkpoint.size, entries)
    except (InvalidProof, OSError):
        shutil.rmtree(folder / "tile", ignore_errors=True)
        TileWriter(folder).extend(0, checkpoint.size, sequence.checked_entries)
    if root_at(checkpoint.size, folder_reader(folder, checkpoint.size).node) != checkpoint.root:
        raise CannotVerify("The log is not the one that was signed: run audit_verify.")


def _beside(folder: Path, note: str, checkpoint: CheckpointText) -> None:
    """Keys, checkpoints, the verifier. A checkpoint of a later size would speak for records that are not here."""
    (folder / LATEST_FILE).write_text(note, encoding="utf-8")
    published: Path = settings.AUDIT_PUBLISH_DIR
    for name in (LOG_FILE, COSIGNED_LOG_FILE):
        if (published / name).exists():
            lines = (published / name).read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if not _later(line, checkpoint)]
            (folder / name).write_text("".join(kept), encoding="utf-8")
    verifier = load_verifier(published) or load_verifier(settings.AUDIT_KEY_DIR)
    if verifier is not None:
        (folder / PUBLIC_FILE).write_text(verifier.vkey + "\n", encoding="utf-8")
    shutil.copyfile(published / ENROLMENT_FILE, folder / ENROLMENT_FILE)
    if settings.AUDIT_WITNESS_POLICY:
        shutil.copyfile(settings.AUDIT_WITNESS_POLICY, folder / "policy")
    shutil.copyfile(VERIFIER, folder / VERIFIER.name)
    readme = README.format(origin=checkpoint.origin, size=checkpoint.size)
    (folder / "README.txt").write_text(readme, encoding="utf-8")


def _later(line: str, checkpoint: CheckpointText) -> bool:
    """Was this line published after the checkpoint that is exported?"""
    try:
        return CheckpointText.parse(text_of(json.loads(line)["note"])).size > checkpoint.size
    except Exception:  # a damaged line goes along: the verifier names it
        return False


def _records(folder: Path, size: int) -> Iterator[dict[str, Any]]:
    for index, entry in enumerate(folder_reader(folder, size).entries(0, size)):
        body, tail, _ = entry.decode().split("\n")
        kid, signature, prev = tail.split(" ")
        yield {
            "index": index,
            "kid": kid,
            "signature": signature,
            "prev": None if prev == "-" else prev,
            "body": json.loads(body),
        }


def _payloads(path: Path, records: list[str]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as lines, connection.cursor() as cursor:
        for first in range(0, len(records), 1000):
            cursor.execute(
                "SELECT event_id, slot, encode(salt, 'base64'), value FROM audit_payload "
                "WHERE event_id = ANY(%s) ORDER BY event_id, slot",
                ([UUID(text) for text in records[first : first + 1000]],),
            )
            for identifier, slot, salt, value in cursor.fetchall():
                line = {"record": str(identifier), "slot": slot, "salt": salt, "value": value}
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")
                count += 1
    return count
