import base64

import pytest

from audit.errors import InvalidNote
from audit.notes import (
    CheckpointText,
    CosignatureSigner,
    CosignatureVerifier,
    NoteSigner,
    NoteVerifier,
    cosignatures,
    open_checkpoint,
    open_note,
)
from tests.unit.audit.vectors import needs_vectors, read


def _signer(name: str = "example.org/log", seed: bytes = bytes(32)) -> NoteSigner:
    return NoteSigner(name, seed)


@needs_vectors
def test_signing_gives_the_published_bytes():
    for case in read("signed-note/note.json")["signing"]:
        assert NoteSigner.from_skey(case["skey"]).sign(case["text"]) == case["note"]


@needs_vectors
def test_a_key_from_a_zero_seed_has_the_published_form():
    known = read("signed-note/note.json")["generate_key"]
    signer = NoteSigner(known["name"], bytes.fromhex(known["seed_hex"]))
    assert signer.verifier.vkey == known["vkey"]
    assert open_note(known["note"], [signer.verifier]).verified == ("EnochRoot",)


@needs_vectors
def test_good_notes_open_with_the_published_names():
    for case in read("signed-note/note.json")["open_ok"]:
        opened = open_note(base64.b64decode(case["msg_b64"]), [NoteVerifier.from_vkey(key) for key in case["vkeys"]])
        assert list(opened.verified) == case["verified"]
        assert list(opened.unverified) == case["unverified"]


@needs_vectors
def test_bad_notes_are_refused():
    for case in read("signed-note/note.json")["open_fail"]:
        verifiers = [NoteVerifier.from_vkey(key) for key in case["vkeys"]]
        with pytest.raises(InvalidNote):
            open_note(base64.b64decode(case["msg_b64"]), verifiers)


@needs_vectors
def test_bad_verifier_keys_every_part_of_a_good_one_and_every_changed_byte_are_refused():
    known = read("signed-note/note.json")
    good = known["open_ok"][0]["vkeys"][0]
    NoteVerifier.from_vkey(good)
    parts = {good[start:stop] for start in range(len(good)) for stop in range(start + 1, len(good) + 1)} - {good}
    changed = {good[:place] + chr(ord(good[place]) + 1) + good[place + 1 :] for place in range(len(good))}
    for vkey in {*known["bad_vkeys"], *parts, *changed}:
        with pytest.raises(InvalidNote):
            NoteVerifier.from_vkey(vkey)


@needs_vectors
def test_good_checkpoints_parse_and_bad_ones_are_refused():
    known = read("checkpoint/checkpoint.json")
    strict = [case for case in known["ok"] if "not 32 bytes" not in case.get("remark", "")]
    assert strict
    for case in strict:
        parsed = CheckpointText.parse(case["body"])
        assert (parsed.origin, parsed.size, parsed.text()) == (case["origin"], case["size"], case["body"])
    for body in known["bad"]:
        with pytest.raises(InvalidNote):
            CheckpointText.parse(body)


def test_keys_survive_their_text_form():
    signer = _signer(seed=bytes(range(32)))
    assert NoteSigner.from_skey(signer.skey).verifier.vkey == signer.verifier.vkey
    assert NoteVerifier.from_vkey(signer.verifier.vkey).key_hash == signer.verifier.key_hash


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "name",
        "name+00000000+AAAA",
        "na me+00000000+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop",
        "EnochRoot+af0cfe79+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop",
        "EnochRoot+AF0CFE78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop",
        "EnochRoot+af0cfe78+AjtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop",
        "EnochRoot+af0cfe78+!",
    ],
)
def test_a_malformed_verifier_key_is_refused(vkey):
    with pytest.raises(InvalidNote):
        NoteVerifier.from_vkey(vkey)


def test_a_note_changed_by_one_letter_is_refused():
    signer = _signer()
    note = signer.sign("one text\n")
    with pytest.raises(InvalidNote, match="is wrong"):
        open_note(note.replace("one", "two"), [signer.verifier])


def test_a_note_signed_by_strangers_alone_is_refused():
    with pytest.raises(InvalidNote, match="No trusted key"):
        open_note(_signer().sign("text\n"), [_signer("example.org/other").verifier])


@pytest.mark.parametrize("text", ["no line feed", "tab\there\n", "nul\0\n"])
def test_a_text_that_is_no_note_is_not_signed(text):
    with pytest.raises(InvalidNote):
        _signer().sign(text)


@pytest.mark.parametrize(
    "note", ["", "\n", "text\n", "text\n\n", b"\xff\n\n\xe2\x80\x94 a AAAA\n", "text\n\nno dash a b\n"]
)
def test_a_malformed_note_is_refused(note):
    with pytest.raises(InvalidNote):
        open_note(note, [_signer().verifier])


def test_a_signed_checkpoint_opens():
    signer = _signer()
    checkpoint = CheckpointText("example.org/log", 5, bytes(32))
    assert open_checkpoint(signer.sign(checkpoint.text()), [signer.verifier]) == checkpoint


@pytest.mark.parametrize("size", ["01", "-1", "+1", "9223372036854775808", "1e3", "٣", ""])
def test_a_size_is_written_in_one_way_only(size):
    with pytest.raises(InvalidNote):
        CheckpointText.parse(f"origin\n{size}\n{base64.b64encode(bytes(32)).decode()}\n")


# cosignatures of witnesses


@needs_vectors
def test_published_keys_of_witnesses_are_read_and_their_time_is_where_it_stands():
    known = read("checkpoint/checkpoint.json")
    for vkey in known["cosignature_vkeys_ok"]:
        assert CosignatureVerifier.from_vkey(vkey).vkey == vkey
        with pytest.raises(InvalidNote):
            NoteVerifier.from_vkey(vkey)  # not a key that signs notes
    line = known["cosigned_example"].splitlines()[-1]
    assert int.from_bytes(base64.b64decode(line.split(" ")[2])[4:12], "big") == 1_679_315_147


def test_a_cosignature_holds_for_its_text_and_its_time_alone():
    witness = CosignatureSigner("witness.example/w1", bytes(range(32)))
    text = CheckpointText("example.org/log", 5, bytes(32)).text()
    note = _signer().sign(text) + witness.cosign(text, 1_700_000_000)
    assert cosignatures(note, [witness.verifier]) == {witness.verifier.vkey: 1_700_000_000}
    assert open_note(note, [_signer().verifier, witness.verifier]).verified == ("example.org/log", "witness.example/w1")
    head, _, encoded = note.strip().rpartition(" ")
    data = bytearray(base64.b64decode(encoded))
    data[11] ^= 1  # a second later
    assert cosignatures(f"{head} {base64.b64encode(data).decode()}\n", [witness.verifier]) == {}
    assert cosignatures(note.replace("\n5\n", "\n6\n"), [witness.verifier]) == {}


def test_a_note_signature_is_no_cosignature():
    """The same key, of the other kind: its hash differs, and so do the bytes that it signs."""
    seed, text = bytes(range(32)), CheckpointText("example.org/log", 5, bytes(32)).text()
    as_log, as_witness = NoteSigner("one.example", seed), CosignatureSigner("one.example", seed)
    assert as_log.verifier.key_hash != as_witness.verifier.key_hash
    assert cosignatures(as_log.sign(text), [as_witness.verifier]) == {}
    with pytest.raises(InvalidNote, match="No trusted key"):
        open_note(as_log.sign(text), [as_witness.verifier])
