"""Keys that follow each other, keys that were stolen, and records that were really lost."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import transaction

from audit import sequence
from audit.actor import Actor, Target
from audit.append import record
from audit.checking.findings import Report
from audit.checking.trust import Trust
from audit.enrolment import enrolment_public_key, process_key
from audit.errors import KeyMissing, KeyUnsafe, SignerRefused
from audit.keyring import REVOKE, ROTATE, Ring, Statement
from audit.kinds import Event
from audit.merkle import leaf_hash, root
from audit.notes import CheckpointText, NoteSigner, NoteVerifier
from audit.proofs import root_at
from audit.rotation import finish
from audit.signing import NEXT_FILE, load_key, make_key
from audit.tiles import folder_reader, tile_path
from tests.integration.audit.conftest import Log, query
from tests.integration.audit.test_verify_forged import _forge


def _codes(report: Report) -> set[str]:
    return {finding.code for finding in report.findings}


def _keys(*arguments: str) -> str:
    out = StringIO()
    call_command("audit_keys", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue().strip()


def _published(note: str, size: int) -> None:
    with (settings.AUDIT_PUBLISH_DIR / "checkpoints.jsonl").open("a") as file:
        file.write(json.dumps({"at": "", "size": size, "note": note}) + "\n")


def _root(size: int) -> bytes:
    return root(bytes(row[0]) for row in query("SELECT hash FROM audit_leaf WHERE index < %s ORDER BY index", size))


def test_a_rotated_key_goes_on_and_either_key_checks_the_whole_log(log: Log):
    log.write(2)
    size = log.settle()
    old = load_key(settings.AUDIT_KEY_DIR)
    vkey = _keys("rotate")
    log.write(2)
    log.settle()  # by a sequencer that was running all the time
    new = load_key(settings.AUDIT_KEY_DIR)
    assert new.verifier.vkey == vkey != old.verifier.vkey
    assert (settings.AUDIT_PUBLISH_DIR / "checkpoint.vkey").read_text().strip() == vkey
    for pinned in (old.verifier, new.verifier):
        trust = Trust(verifier=pinned, enrolment_keys=frozenset({enrolment_public_key()}))
        assert log.report(trust=trust).findings == []
    assert log.report().findings == []
    again = Log()
    again.write()
    again.settle()
    listed = [json.loads(line) for line in _keys("list").splitlines()]
    assert {line["vkey"]: line["ended"] and line["ended"]["from"] for line in listed} == {
        old.verifier.vkey: size,
        vkey: None,
    }

    # the key that was put away speaks again
    grown = query("SELECT size FROM audit_head")[0][0]
    note = old.sign(CheckpointText(old.name, grown, _root(grown)).text())
    _published(note, grown)
    report = log.report()
    assert (report.exit_code, _codes(report)) == (2, {"checkpoint_key_ended"})


def test_a_stolen_key_that_is_revoked_vouches_for_nothing_and_its_forgeries_are_found(log: Log):
    log.write(2)
    first = log.settle()
    log.write(2)
    log.settle()
    stolen = load_key(settings.AUDIT_KEY_DIR)
    _keys("revoke", "--from", str(first))
    log.write()
    size = log.settle()
    report = log.report()
    assert report.findings == []
    assert any("revoked" in note for note in report.notes)
    trust = Trust(verifier=stolen.verifier, enrolment_keys=frozenset({enrolment_public_key()}))
    assert {"key_statement_invalid", "checkpoint_invalid"} <= _codes(log.report(trust=trust))
    _published(stolen.sign(CheckpointText(stolen.name, size, bytes(32)).text()), size)
    report = log.report()
    assert (report.exit_code, _codes(report)) == (2, {"checkpoint_key_ended"})


def test_a_thief_of_the_key_cannot_name_a_successor_without_a_record_that_verifies(log: Log):
    """The statement stands in a record, and records are signed by processes that the thief is none of."""
    log.write()
    size = log.settle()
    stolen, own = load_key(settings.AUDIT_KEY_DIR), NoteSigner(settings.AUDIT_ORIGIN, bytes(32))
    statement = Statement(kind=ROTATE, from_size=size, old=stolen.verifier, new=own.verifier)
    context = {"use": "checkpoints", "from_index": size, "statement": statement.sign(own, stolen)}
    _forge(Ed25519PrivateKey.generate(), Event.KEY_ROTATE, context)
    log.settle()
    assert "key_unknown" in _codes(log.report())


def test_a_rotation_that_a_crash_cut_short_is_finished_or_did_not_happen(log: Log):
    log.write()
    size = log.settle()
    old = load_key(settings.AUDIT_KEY_DIR)
    new = make_key(settings.AUDIT_KEY_DIR / NEXT_FILE, NoteSigner, old.name)
    finish(settings.AUDIT_KEY_DIR, log.sequencer.publisher)  # made, and never recorded
    assert load_key(settings.AUDIT_KEY_DIR).skey == old.skey
    statement = Statement(kind=ROTATE, from_size=size, old=old.verifier, new=new.verifier)
    with transaction.atomic():
        record(
            Event.KEY_ROTATE,
            actor=Actor.system("test"),
            target=Target(type="log", id=old.name),
            context={"use": "checkpoints", "from_index": size, "statement": statement.sign(new, old)},
        )
    log.settle()  # the crash came here, before the file was renamed
    assert load_key(settings.AUDIT_KEY_DIR).skey == new.skey
    assert log.report().findings == []


def test_writers_keys_end_by_index(log: Log):
    log.write()
    log.settle()
    kid = process_key().kid
    with pytest.raises(CommandError, match="No process"):
        _keys("revoke", "0" * 16)
    assert "ended at index" in _keys("retire", kid)
    assert _codes(log.report()) == set()
    (late,) = log.write()
    log.settle()
    report = log.report()
    assert _codes(report) == {"key_ended"}
    assert late in {finding.record for finding in report.findings}


def test_keys_that_a_revoked_enrolment_key_endorses_count_for_nothing(log: Log):
    log.write()
    log.settle()
    key = enrolment_public_key().hex()
    with pytest.raises(CommandError, match="--from"):
        _keys("revoke", key)
    _keys("revoke", key, "--from", "1")
    log.settle()
    assert log.report().findings == []  # the key of this process was endorsed at 0
    with pytest.raises(CommandError, match="hex"):
        _keys("revoke", "x" * 64, "--from", "1")
    _keys("revoke", key, "--from", "0")
    log.settle()
    assert "key_not_endorsed" in _codes(log.report())


def _signed_beyond(log: Log, size: int, more: int) -> int:
    """Signs and publishes `more` records that the database does not hold: what is left when it is restored from a backup
    of `size` records."""
    entries = [b"lost %d" % number for number in range(more)]

    def lost(start: int, stop: int) -> Iterator[tuple[bytes, bytes]]:
        for index in range(start, stop):
            entry = entries[index - size]
            yield entry, leaf_hash(entry)

    def stored(start: int, stop: int) -> Iterator[bytes]:
        yield from sequence.stored_hashes(start, min(stop, size))
        yield from (value for _, value in lost(max(start, size), stop))

    sequencer = log.sequencer
    with sequencer.signer.turn():
        files = sequencer.tiles.extend(size, size + more, lost)
        note = sequencer.signer.sign(size + more, stored=stored, checked=files.leaf_hashes)
        sequencer.publisher.publish(note, size + more, datetime.now(UTC))
    return size + more


def test_a_declared_restart_is_loud_and_goes_on_under_a_new_name(log: Log):
    log.write(3)
    size = log.settle()
    with pytest.raises(CommandError, match="Nothing is lost"):
        _keys("restart", "--yes-records-are-lost")
    lost_to = _signed_beyond(log, size, 4)
    old = load_key(settings.AUDIT_KEY_DIR)
    report = log.report()
    assert (report.exit_code, _codes(report)) == (2, {"log_cut"})
    log.write()
    with pytest.raises(SignerRefused):
        log.settle()
    _keys("restart", "--yes-records-are-lost")
    log.write(2)
    Log().settle()
    report = log.report()
    assert (report.exit_code, _codes(report)) == (2, {"records_lost"})
    assert f"from index {size} to {lost_to - 1}" in report.findings[0].message
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("audit_verify", "--accept-restart", str(size), stdout=out, stderr=StringIO())
    assert ended.value.code == 0
    assert "were lost" in out.getvalue()
    assert load_key(settings.AUDIT_KEY_DIR).name == f"{settings.AUDIT_ORIGIN}/r2"
    away = settings.AUDIT_PUBLISH_DIR / f"lost-{lost_to}"
    assert f"\n{lost_to}\n" in (away / "checkpoint").read_text()
    lost = folder_reader(away, lost_to).entries(size, lost_to)
    assert list(lost) == [b"lost %d" % number for number in range(4)]  # gone from the database alone
    # the old key says more than was lost
    _published(old.sign(CheckpointText(old.name, lost_to + 1, bytes(32)).text()), lost_to + 1)
    assert "checkpoint_key_ended" in _codes(log.report())


def test_a_fork_cannot_be_declared_a_loss(log: Log, tamper):
    log.write(3)
    size = log.settle()
    _signed_beyond(log, size, 2)
    tamper("UPDATE audit_leaf SET hash = sha256('x') WHERE index = 1")
    with pytest.raises(CommandError, match="fork"):
        _keys("restart", "--yes-records-are-lost")


def test_statements_are_believed_by_their_signatures_alone():
    """Of rotation both, of revocation the new key's; and neither where nobody pinned a key of it."""
    old, new, stranger = (NoteSigner("example.org/log", bytes([number]) * 32) for number in (1, 2, 3))
    rotation = Statement(kind=ROTATE, from_size=5, old=old.verifier, new=new.verifier)
    revocation = Statement(kind=REVOKE, from_size=5, old=old.verifier, new=new.verifier)

    def known(pinned: NoteVerifier, note: str, index: int = 9) -> set[str]:
        return set(Ring.build([pinned], [(index, note)]).keys)

    both = {old.verifier.vkey, new.verifier.vkey}
    assert known(old.verifier, rotation.sign(new, old)) == both
    assert known(new.verifier, rotation.sign(new, old)) == both
    assert known(old.verifier, rotation.sign(new, None)) == {old.verifier.vkey}
    assert known(stranger.verifier, rotation.sign(new, old)) == {stranger.verifier.vkey}
    assert known(old.verifier, revocation.sign(new, old)) == {old.verifier.vkey}
    assert known(new.verifier, revocation.sign(new, old)) == both
    assert known(old.verifier, rotation.sign(new, old), index=4) == {old.verifier.vkey}  # speaks of what came after it
    assert known(old.verifier, "no note") == {old.verifier.vkey}


def test_the_key_of_a_witness_and_of_a_log_are_two_kinds_of_files(places: Path, tmp_path: Path):
    out = StringIO()
    call_command("audit_keygen", "--witness", "w.example/1", "--folder", str(tmp_path / "w"), stdout=out)
    assert (tmp_path / "w" / "witness.key").stat().st_mode & 0o777 == 0o600
    assert out.getvalue().startswith("w.example/1+")
    with pytest.raises(CommandError, match="already"):
        call_command("audit_keygen", "--witness", "w.example/1", "--folder", str(tmp_path / "w"))


def test_without_its_key_nothing_is_signed_and_nothing_is_lost(log: Log):
    log.write()
    log.settle()
    key = settings.AUDIT_KEY_DIR / "checkpoint.key"
    text = key.read_text()
    key.unlink()
    (late,) = log.write()  # recorded all the same
    with pytest.raises(KeyMissing, match="audit_keygen"):
        log.settle()
    key.write_text(text)
    key.chmod(0o644)
    with pytest.raises(KeyUnsafe, match="0600"):
        log.settle()
    key.chmod(0o600)
    assert log.settle() > log.index_of(late)
    assert log.report().findings == []


def test_published_files_that_were_changed_are_not_signed_and_are_made_anew(log: Log):
    log.write(3)
    size = log.settle()
    bundle, tile = (settings.AUDIT_PUBLISH_DIR / tile_path(kind, 0, size) for kind in ("entries", 0))
    tile.write_bytes(bytes(32) + tile.read_bytes()[32:])
    log.write()
    report = log.report()
    assert (report.exit_code, _codes(report)) == (2, {"files_differ"})
    with pytest.raises(SignerRefused, match="not the log that was signed"):
        log.settle()
    assert bundle.exists()
    shutil.rmtree(settings.AUDIT_PUBLISH_DIR / "tile")
    size = log.settle()
    assert root_at(size, folder_reader(settings.AUDIT_PUBLISH_DIR, size).node) == _root(size)
    assert log.report().findings == []


def test_a_disk_that_is_full_stops_signing_and_nothing_else(log: Log):
    """The folder of the published files cannot be written: records wait, and are signed when it can."""
    log.write()
    log.settle()
    folder = settings.AUDIT_PUBLISH_DIR / "tile"
    folder.rename(folder.with_name("aside"))
    folder.write_text("in the way")
    (late,) = log.write()
    with pytest.raises(OSError, match="tile"):
        log.settle()
    folder.unlink()
    folder.with_name("aside").rename(folder)
    assert log.settle() > log.index_of(late)
    assert log.report().findings == []
