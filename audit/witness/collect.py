"""Asking witnesses for their cosignatures, and putting a quorum of them under a checkpoint."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import httpx2

from audit.errors import InvalidNote, InvalidProof, NotDelivered
from audit.models import Delivery
from audit.notes import CheckpointText, cosignatures, text_of
from audit.proofs import consistency
from audit.publish import LATEST_FILE, Publisher
from audit.tiles import TileReader, folder_reader
from audit.witness.keeper import SIZE_TYPE, request_body
from audit.witness.policy import Policy, Witness

TIMEOUT_S = 10.0
LINES_MAX_BYTES = 16_384
QUORUM = "witnesses"  # the row of the quorum

log = logging.getLogger("audit.witness")

Post = Callable[[str, bytes], tuple[int, str, str]]
"""(URL, body) -> (status, content type, text); raises NotDelivered."""


def post(url: str, body: bytes) -> tuple[int, str, str]:
    """POSTs to a witness."""
    try:
        answer = httpx2.post(url, content=body, timeout=TIMEOUT_S, follow_redirects=False)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise NotDelivered(f"The witness does not answer: {error}") from None
    return answer.status_code, answer.headers.get("Content-Type", ""), answer.text[:LINES_MAX_BYTES]


class Collector:
    """Asks every witness of a policy that has a URL."""

    def __init__(self, policy: Policy, publisher: Publisher, every_s: float, post: Post = post) -> None:
        self.policy = policy
        self.publisher = publisher
        self.every_s = every_s
        self.post = post

    def attempt(self, now: datetime) -> float:
        """One round over all witnesses with the latest checkpoint. Returns the seconds until the next."""
        folder = self.publisher.folder
        try:
            note = (folder / LATEST_FILE).read_text(encoding="utf-8")
        except FileNotFoundError:
            return self.every_s
        text = text_of(note)
        checkpoint = CheckpointText.parse(text)
        asked = [witness for witness in self.policy.witnesses.values() if witness.url]
        rows = {row.name: row for row in Delivery.objects.filter(name__startswith="witness")}
        files = folder_reader(folder, checkpoint.size)

        def ask(witness: Witness) -> tuple[str, Exception | None]:
            row = rows.get(row_name(witness))
            if row is not None and text_or_none(row.note) == text:
                return row.note.removeprefix(f"{text}\n"), None
            try:
                return cosign(witness, note, row.size if row else 0, files, self.post), None
            except (NotDelivered, InvalidProof, OSError) as error:
                return "", error

        with ThreadPoolExecutor(max_workers=min(8, max(1, len(asked)))) as pool:
            answers = list(pool.map(ask, asked))
        lines = ""
        for witness, (line, error) in zip(asked, answers, strict=True):
            row = rows.get(row_name(witness)) or Delivery(name=row_name(witness))
            self._write(row, now, checkpoint.size, f"{text}\n{line}", error)
            lines += line
        self._publish(note, lines, rows.get(QUORUM) or Delivery(name=QUORUM), checkpoint.size, now)
        return self.every_s

    def _write(self, row: Delivery, now: datetime, size: int, note: str, error: Exception | None) -> None:
        row.tried_at = now
        if error is None:
            row.failures, row.error = 0, ""
            if row.note != note:
                row.size, row.note, row.delivered_at = size, note, now
        else:
            row.failures, row.error = row.failures + 1, str(error)[:500]
            level = logging.ERROR if getattr(error, "forked", False) else logging.WARNING
            log.log(level, "witness.refused", extra={"witness": row.name, "why": row.error, "failures": row.failures})
        row.save()

    def _publish(self, note: str, lines: str, row: Delivery, size: int, now: datetime) -> None:
        cosigned = note + lines
        row.tried_at = now
        if self.policy.met(cosignatures(cosigned, self.policy.verifiers)) and lines:
            if row.note != cosigned:
                self.publisher.publish_cosigned(cosigned, size, now)
                row.size, row.note, row.delivered_at = size, cosigned, now
            row.failures, row.error = 0, ""
        else:
            row.failures, row.error = row.failures + 1, "Fewer witnesses than the policy asks for cosigned."
        row.save()


def row_name(witness: Witness) -> str:
    return f"witness:{witness.name}"


def text_or_none(note: str) -> str | None:
    try:
        return text_of(note)
    except InvalidNote:
        return None


def cosign(witness: Witness, note: str, known: int, files: TileReader, post: Post = post) -> str:
    """A witness's signature lines for a checkpoint.

    known: the size that the witness saw last, as far as we know; it says so itself where it is another.

    Raises:
        NotDelivered: it refuses, or does not answer. `forked`: it saw another log of this name.
        InvalidProof: our files do not hold what the proof needs.
    """
    checkpoint = CheckpointText.parse(text_of(note))
    url = f"{(witness.url or '').rstrip('/')}/add-checkpoint"
    for _ in range(2):
        old = min(known, checkpoint.size)
        status, kind, body = post(url, request_body(old, consistency(old, checkpoint.size, files.node), note))
        if status == 200:
            return _checked(witness, note, body)
        if status != 409 or not kind.startswith(SIZE_TYPE) or not body.strip().isdecimal():
            raise NotDelivered(f"The witness answered {status}: {body.strip()[:200]}", forked=status in {409, 422})
        seen = int(body.strip()[:20])
        if seen > checkpoint.size:
            raise NotDelivered(
                f"The witness saw {seen} records of this log, which has {checkpoint.size} now: it was rolled back.",
                forked=True,
            )
        if seen == old:
            raise NotDelivered(
                f"The witness saw another log of {seen} records under this name: it forked.", forked=True
            )
        known = seen
    raise NotDelivered("The witness changes its mind about the size it saw.")


def _checked(witness: Witness, note: str, lines: str) -> str:
    """The lines of the answer that are this witness's, with its key."""
    good = ""
    for line in lines.splitlines():
        try:
            if cosignatures(f"{text_of(note)}\n{line}\n", [witness.verifier]):
                good += f"{line}\n"
        except InvalidNote:
            continue
    if not good:
        raise NotDelivered(f"The witness's answer holds no cosignature of {witness.name}.")
    return good
