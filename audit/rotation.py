"""Changing keys: rotation, retirement and revocation by index, and the declared restart after a loss. All are records.

Run by the user that owns the signer's folder. A sequencer may be running: it takes the new key at its next turn.
"""

import shutil
from pathlib import Path

from django.db import connection, transaction

from audit import sequence
from audit.actor import Actor, Target
from audit.append import record
from audit.errors import CannotVerify, InvalidNote, SignerRefused
from audit.keyring import RESTART, REVOKE, ROTATE, Ring, Statement
from audit.kinds import Event
from audit.merkle import Edge
from audit.notes import NoteSigner, NoteVerifier
from audit.publish import Publisher, read_published
from audit.signing import (
    KEY_FILE,
    NEXT_FILE,
    PUBLIC_FILE,
    STATE_FILE,
    Signer,
    load_key,
    make_key,
    read_key,
    read_memory,
    write_durably,
)

EVENTS = {ROTATE: Event.KEY_ROTATE, REVOKE: Event.KEY_REVOKE, RESTART: Event.LOG_RESTART}
CHECKPOINTS, RECORDS, ENROLMENT = "checkpoints", "records", "enrolment"  # what a key is for

_STATEMENTS = """
SELECT l.index, e.body::jsonb #>> '{context,statement}'
  FROM (SELECT id, event, body FROM audit_event UNION ALL SELECT id, event, body FROM audit_kept) e
  LEFT JOIN audit_leaf l ON l.event_id = e.id
  WHERE e.event = ANY(%s) AND e.body::jsonb #>> '{context,use}' = %s ORDER BY l.index, e.id
"""


def statements() -> list[tuple[int, str]]:
    """(index, note) of every record about a checkpoint key, in the order of the log. One that waits for its place counts
    as the last."""
    with connection.cursor() as cursor:
        cursor.execute(_STATEMENTS, ([*EVENTS.values()], CHECKPOINTS))
        return [(2**62 if index is None else index, note or "") for index, note in cursor.fetchall()]


def ring(verifier: NoteVerifier) -> Ring:
    """The keys that spoke for this database's log, as far as `verifier` leads to them."""
    return Ring.build([verifier], statements())


def change_key(
    folder: Path, publisher: Publisher, *, actor: Actor, kind: str, from_size: int | None = None
) -> Statement:
    """Rotates the checkpoint key, or revokes it (kind REVOKE): from `from_size` on it speaks for nothing.

    from_size: by default all that was signed so far stays the old key's.

    Raises:
        KeyMissing, KeyUnsafe, SignerRefused: nothing was signed yet, or the signer is not well.
    """
    signer = Signer(load_key(folder), folder)
    with signer.turn():
        finish(folder, publisher)
        signer.key = load_key(folder)
        memory = read_memory(folder)
        if memory is None:
            raise SignerRefused("Nothing was signed with this key yet; there is nothing to change.")
        if from_size is not None and not 0 <= from_size <= memory.size:
            raise SignerRefused(f"The key signed {memory.size} records so far; {from_size} lies beyond.")
        new = _next_key(folder, signer.key.name)
        size = memory.size if from_size is None or kind == ROTATE else from_size
        statement = Statement(kind=kind, from_size=size, old=signer.key.verifier, new=new.verifier)
        _record(statement, statement.sign(new, signer.key), actor)
        finish(folder, publisher)
    return statement


def restart(folder: Path, publisher: Publisher, *, actor: Actor, origin: str | None = None) -> Statement:
    """Declares that the records behind the database's last one are lost, and goes on from there under a new name.

    The new name (`origin`, by default the old one with `/r2`, `/r3`, …) makes it another log to witnesses, which never go
    back. What was published of the lost records is kept in a folder `lost-SIZE`.

    Raises:
        KeyMissing, KeyUnsafe
        SignerRefused: nothing is lost, or what is there is no beginning of what was signed.
    """
    signer = Signer(load_key(folder), folder)
    with signer.turn():
        finish(folder, publisher)
        signer.key = load_key(folder)
        memory = read_memory(folder)
        size, _ = sequence.state()
        if memory is None or size >= memory.size:
            raise SignerRefused("Nothing is lost: the database holds all that was signed.")
        _check_beginning(ring(signer.key.verifier), publisher.folder, size)
        name = origin or _next_name(signer.key.name)
        if name == signer.key.name:
            raise SignerRefused("A log that restarts needs a new name: witnesses never go back.")
        new = _next_key(folder, name)
        statement = Statement(
            kind=RESTART, from_size=size, lost_to=memory.size, old=signer.key.verifier, new=new.verifier
        )
        _record(statement, statement.sign(new, signer.key), actor)
        finish(folder, publisher)
    return statement


def end_record_key(kid: str, *, actor: Actor, event: Event, from_index: int | None = None) -> int:
    """Ends a process's key: records from `from_index` on that are signed with it are findings (KEY_REVOKE; KEY_RETIRE says
    the same without suspicion). By default from here on. Returns the index.

    Raises:
        CannotVerify: no process has this key.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM audit_event WHERE event = %s AND kid = %s)", (Event.KEY_ADD, kid))
        if not cursor.fetchone()[0]:
            raise CannotVerify(f"No process enrolled a key {kid}.")
        cursor.execute("SELECT size + (SELECT count(*) FROM audit_pending) FROM audit_head")
        index = cursor.fetchone()[0] if from_index is None else from_index
        record(
            event,
            actor=actor,
            target=Target(type="key", id=kid),
            context={"use": RECORDS, "kid": kid, "from_index": index},
        )
    return int(index)


def revoke_enrolment(public_key: str, *, actor: Actor, from_index: int) -> None:
    """From `from_index` on no key that this enrolment key (64 hex digits) endorses may sign.

    Raises:
        CannotVerify: that is no key.
    """
    if len(public_key) != 64 or not all(digit in "0123456789abcdef" for digit in public_key):
        raise CannotVerify("An enrolment key is 64 hex digits; `enrolment.keys` has them.")
    with transaction.atomic():
        record(
            Event.KEY_REVOKE,
            actor=actor,
            target=Target(type="key", id=public_key),
            context={"use": ENROLMENT, "kid": public_key, "from_index": from_index},
        )


def finish(folder: Path, publisher: Publisher) -> None:
    """Puts a key into use that the log names already; call within the signer's turn. A crash may have come between."""
    path = folder / NEXT_FILE
    if not path.exists():
        return
    new = read_key(path, NoteSigner, "")
    for _, note in statements():
        try:
            statement = Statement.parse(note)
        except InvalidNote:
            continue
        if statement.new.vkey == new.verifier.vkey:
            break
    else:
        return  # the change was not recorded: it did not happen
    if statement.kind == RESTART:
        _put_away(folder, publisher.folder, statement.lost_to or 0)
    path.replace(folder / KEY_FILE)
    write_durably(folder / PUBLIC_FILE, new.verifier.vkey + "\n")
    publisher.use(new.verifier.vkey)


def _put_away(folder: Path, published: Path, lost_to: int) -> None:
    """Keeps what was signed and published of lost records, apart from what goes on."""
    state = folder / STATE_FILE
    if state.exists():
        state.replace(folder / f"signer.lost-{lost_to}.json")
    away = published / f"lost-{lost_to}"
    away.mkdir(exist_ok=True)
    for name in ("tile", "checkpoint", "checkpoint.cosigned"):
        if (published / name).exists() and not (away / name).exists():
            shutil.move(published / name, away / name)


def _check_beginning(known: Ring, published: Path, size: int) -> None:
    """The database's log of `size` records is what was signed, as far as it goes."""
    best: tuple[int, bytes] | None = None
    for line in read_published(published):
        try:
            checkpoint = known.judge(line.note or "").checkpoint
        except InvalidNote:
            continue
        if checkpoint.size <= size and (best is None or checkpoint.size >= best[0]):
            best = (checkpoint.size, checkpoint.root)
    edge = Edge()
    for value in sequence.stored_hashes(0, best[0] if best else 0):  # archived records have but their hashes here
        edge.append(value)
    if best is not None and edge.root() != best[1]:
        raise SignerRefused(
            f"The first {best[0]} records are not the ones that were signed: this is no loss but a fork."
        )


def _next_key(folder: Path, name: str) -> NoteSigner:
    """A key that an earlier attempt made and did not use is replaced."""
    (folder / NEXT_FILE).unlink(missing_ok=True)
    return make_key(folder / NEXT_FILE, NoteSigner, name)


def _next_name(name: str) -> str:
    base, mark, number = name.rpartition("/r")
    return f"{base}/r{int(number) + 1}" if mark and number.isdecimal() else f"{name}/r2"


def _record(statement: Statement, note: str, actor: Actor) -> None:
    old, new = statement.old, statement.new
    context = {
        "use": CHECKPOINTS,
        "kid": f"{old.name}+{old.key_hash.hex()}",
        "next": f"{new.name}+{new.key_hash.hex()}",
        "from_index": statement.from_size,
        "statement": note,
    }
    if statement.lost_to is not None:
        context["lost_to"] = statement.lost_to
    with transaction.atomic():
        record(EVENTS[statement.kind], actor=actor, target=Target(type="log", id=new.name), context=context)
