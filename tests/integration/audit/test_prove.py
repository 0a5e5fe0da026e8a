"""One record, proven to somebody who has neither the database nor this program."""

import hashlib
import json
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError

from audit.errors import CannotVerify, InvalidNote, InvalidProof
from audit.models import Leaf
from audit.notes import NoteSigner
from audit.prove import check_proof, prove
from audit.signing import load_key
from tests.integration.audit.conftest import Log


def test_every_record_can_be_proven(log: Log):
    written = log.write(11)
    size = log.settle()
    verifier = load_key(settings.AUDIT_KEY_DIR).verifier
    for identifier in written:
        proof = prove(identifier)
        index, checkpoint = check_proof(proof.text, proof.entry, [verifier])
        assert (index, checkpoint.size) == (log.index_of(identifier), size)
        assert json.loads(proof.entry.split(b"\n")[0])["id"] == str(identifier)


def test_a_proof_does_not_hold_for_another_entry_key_or_place(log: Log):
    written = log.write(5)
    log.settle()
    verifier = load_key(settings.AUDIT_KEY_DIR).verifier
    proof, other = prove(written[0]), prove(written[1])
    with pytest.raises(InvalidProof):
        check_proof(proof.text, other.entry, [verifier])
    with pytest.raises(InvalidProof):
        check_proof(proof.text, proof.entry.replace(b'"ok"', b'"no"'), [verifier])
    with pytest.raises(InvalidProof):
        check_proof(proof.text.replace(f"index {proof.index}", f"index {proof.index + 1}"), proof.entry, [verifier])
    with pytest.raises(InvalidNote):
        check_proof(proof.text, proof.entry, [NoteSigner(verifier.name, bytes(32)).verifier])


@pytest.mark.parametrize(
    "text", ["", "c2sp.org/tlog-proof@v1\n", "c2sp.org/tlog-proof@v1\nindex 01\n\nx\n", "x\n\ny\n"]
)
def test_a_malformed_proof_is_refused(text: str):
    with pytest.raises(InvalidProof):
        check_proof(text, b"", [])


def test_what_is_not_signed_yet_cannot_be_proven(log: Log):
    log.settle()
    (identifier,) = log.write()
    with pytest.raises(CannotVerify, match="not signed yet"):
        prove(identifier)
    with pytest.raises(CannotVerify, match="no record"):
        prove(uuid4())


def test_the_command_writes_files_that_a_stranger_can_hash(log: Log, tmp_path: Path):
    (identifier,) = log.write()
    log.settle()
    call_command("audit_prove", str(identifier), "--out", str(tmp_path / "out"))
    entry = (tmp_path / "out" / f"{identifier}.entry").read_bytes()
    text = (tmp_path / "out" / f"{identifier}.tlog-proof").read_text()
    index, _ = check_proof(text, entry, [load_key(settings.AUDIT_KEY_DIR).verifier])
    assert hashlib.sha256(b"\0" + entry).digest() == bytes(Leaf.objects.get(index=index).hash)
    with pytest.raises(CommandError):
        call_command("audit_prove", str(uuid4()))
