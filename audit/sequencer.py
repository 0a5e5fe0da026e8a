"""The process that gives records their place, signs checkpoints, publishes them, and beats."""

import logging
import threading
import time
from datetime import UTC, datetime

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection, transaction

from audit import attestation, retention, rotation, sequence
from audit.actor import Actor, Target
from audit.append import record
from audit.enrolment import enrolment_public_key
from audit.errors import InvalidNote, InvalidProof, KeyMissing, KeyUnsafe, SignerRefused
from audit.kinds import Event
from audit.notes import CheckpointText, text_of
from audit.proofs import root_at
from audit.publish import Publisher, last_note
from audit.signing import NEXT_FILE, Signer, load_or_create_key, read_memory
from audit.tiles import TileWriter

POLL_S = 0.2
HEARTBEAT_S = 60.0
RETRY_MAX_S = 5.0
COMPLAIN_EVERY_S = 60.0

log = logging.getLogger("audit.sequencer")
_OPENED = """
SELECT body::jsonb #>> '{context,vkey}' FROM (
  SELECT id, body FROM audit_event WHERE event = %s UNION ALL SELECT id, body FROM audit_kept WHERE event = %s) r ORDER BY id
"""
_ACTOR = Actor.system("audit_sequencer")


class Sequencer:
    """One of these runs a log. A second one beside it does no harm: the head moves by compare-and-set."""

    def __init__(self, signer: Signer, publisher: Publisher) -> None:
        self.signer = signer
        self.publisher = publisher
        self.tiles = TileWriter(publisher.folder)
        self._published = ("", -1)  # the note, and its size, that stand in the database and in the file
        self._beat_at = -HEARTBEAT_S
        self._complained_at = -COMPLAIN_EVERY_S

    @classmethod
    def from_settings(cls) -> "Sequencer":
        """Raises KeyMissing, KeyUnsafe."""
        key = load_or_create_key(settings.AUDIT_KEY_DIR, settings.AUDIT_ORIGIN)
        publisher = Publisher(settings.AUDIT_PUBLISH_DIR, key.verifier.vkey, enrolment_public_key())
        return cls(Signer(key, settings.AUDIT_KEY_DIR), publisher)

    def run(self, stop: threading.Event) -> None:
        """Works until `stop` is set. Outlives a restart of the database."""
        wait_s, opened = POLL_S, False
        while not stop.is_set():
            try:
                if not opened:
                    self.open_log()
                    opened = True
                self.beat_when_due(time.monotonic())
                self.round(datetime.now(UTC))
                wait_s = POLL_S
            except (SignerRefused, KeyMissing, KeyUnsafe) as error:
                self._complain(str(error))
                wait_s = RETRY_MAX_S
            except DatabaseError as error:
                connection.close()
                self._complain(f"The database does not answer: {str(error).splitlines()[0]}")
                wait_s = min(RETRY_MAX_S, wait_s * 2)
            except OSError as error:
                self._complain(f"A checkpoint could not be kept: {error}")
                wait_s = RETRY_MAX_S
            stop.wait(wait_s)
        connection.close()

    def once(self) -> int:
        """Opens the log where it is new, and makes one round with a heartbeat; returns the log's size.

        Raises:
            SignerRefused
        """
        self.open_log()
        self.beat_when_due(time.monotonic())
        return self.round(datetime.now(UTC))

    def round(self, now: datetime) -> int:
        """Sequences what waits, then signs, stores and publishes a checkpoint where there is news. Returns the size.

        Raises:
            SignerRefused: the log does not continue what was signed; nothing was sequenced.
        """
        size, waiting = sequence.state()
        if size == self._published[1] and not waiting:
            return size
        if waiting:
            self._check(size)
            size = sequence.drain()
        if size == 0:
            return 0
        with self.signer.turn():
            size, _ = sequence.state()
            note = self._signed(size)
            if (note, size) != self._published:
                self._store(note, size)
                self.publisher.publish(note, size, now)
                self._published = (note, size)
        return size

    def _signed(self, size: int) -> str:
        """Writes the log's files, and signs what they say."""
        self.signer.check(size, sequence.stored_hashes)
        files = self.tiles.extend(self.publisher.size(), size, sequence.checked_entries)
        try:
            note = self.signer.sign(size, stored=sequence.stored_hashes, checked=files.leaf_hashes)
            written = root_at(size, files.node)
        except InvalidProof as error:
            raise SignerRefused(f"The published files in {self.publisher.folder} are damaged: {error}") from None
        if written != CheckpointText.parse(text_of(note)).root:
            raise SignerRefused(
                f"The files in {self.publisher.folder} are not the log that was signed: put back a copy of its folder "
                "`tile`, or move it away, so that it is made anew."
            )
        return note

    def open_log(self) -> None:
        """Declares the checkpoint key and the enrolment key in the log, once.

        Raises:
            SignerRefused: the log was signed by a key that this signer does not hold, or does not continue what was
                signed.
        """
        if (self.signer.folder / NEXT_FILE).exists():
            with self.signer.turn():
                rotation.finish(self.signer.folder, self.publisher)
        with self.signer.turn():
            vkey = self.signer.key.verifier.vkey
        if read_memory(self.signer.folder) is None:
            self._recall()
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                _OPENED,
                (Event.LOG_OPENED, Event.LOG_OPENED),
            )
            known = [row[0] for row in cursor.fetchall()]
            if vkey in known or not set(known).isdisjoint(rotation.ring(self.signer.key.verifier).keys):
                attestation.attest_release(actor=_ACTOR, log=self.signer.key.name)
                return
            if known:
                raise SignerRefused(
                    f"This log was opened with the key {known[0].partition('+')[0]} of another folder; "
                    f"put that key into {self.signer.folder}, or start a new database."
                )
            record(
                Event.LOG_OPENED,
                actor=_ACTOR,
                target=Target(type="log", id=self.signer.key.name),
                context={"vkey": vkey, "enrolment_key": enrolment_public_key().hex(), "hash": "rfc6962-sha256"},
            )
            attestation.attest_release(actor=_ACTOR, log=self.signer.key.name)

    def beat_when_due(self, now_s: float) -> bool:
        """Writes `log.heartbeat` where the last one is a minute old, with how the database's guards are, and sees to the
        parts for the months that come. now_s: of a monotonic clock."""
        if now_s - self._beat_at < HEARTBEAT_S:
            return False
        retention.add_parts(datetime.now(UTC))
        with transaction.atomic():
            record(
                Event.LOG_HEARTBEAT,
                actor=_ACTOR,
                target=Target(type="log", id=self.signer.key.name),
                context={"guards": attestation.guards_digest()},
            )
        self._beat_at = now_s
        return True

    def _check(self, size: int) -> None:
        with self.signer.turn():
            # the size was read before our turn came: another signer may have gone further since
            self.signer.check(max(size, sequence.state()[0]), sequence.stored_hashes)

    def _recall(self) -> None:
        """The signer has no memory: what was published must still hold."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT note FROM audit_checkpoint ORDER BY size DESC, id DESC LIMIT 1")
            stored = cursor.fetchone()
        size, _ = sequence.state()
        known = rotation.ring(self.signer.key.verifier)
        for note in (stored and stored[0], last_note(self.publisher.folder)):
            if note:
                try:
                    judged = known.judge(note)
                except InvalidNote as error:
                    raise SignerRefused(
                        f"This log was signed by another key than the one in {self.signer.folder} ({error}) "
                        "Put the right key there, or start a new database."
                    ) from None
                if not judged.void:
                    self.signer.recall(judged.checkpoint, size, sequence.stored_hashes)

    def _store(self, note: str, size: int) -> None:
        checkpoint = CheckpointText.parse(text_of(note))
        with connection.cursor() as cursor:
            cursor.execute("SELECT note FROM audit_checkpoint ORDER BY id DESC LIMIT 1")
            latest = cursor.fetchone()
            if latest is None or latest[0] != note:
                cursor.execute(
                    "INSERT INTO audit_checkpoint (size, root, note) VALUES (%s, %s, %s)", (size, checkpoint.root, note)
                )

    def _complain(self, why: str) -> None:
        if time.monotonic() - self._complained_at >= COMPLAIN_EVERY_S:
            self._complained_at = time.monotonic()
            log.error("sequencer.stuck", extra={"why": why})
