"""What leaves the server, checked by the verifier of one file in a Python that knows nothing of this program."""

import ast
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import transaction

from audit import bundle, erase
from audit.actor import Actor, Target
from audit.append import record
from audit.export import VERIFIER
from audit.kinds import Event
from audit.merkle import leaf_hash, node_hash
from audit.notes import CheckpointText, NoteSigner
from audit.signing import load_key
from audit.tiles import bundle as bundled
from audit.tiles import tile_path, unbundle
from tests.integration.audit.conftest import Log, query, write_one

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def offline(tmp_path: Path) -> Run:
    """Runs a copy of the verifier, isolated from this checkout; returns exit code and output."""
    copy = tmp_path / "elsewhere" / "verify.py"
    copy.parent.mkdir()
    shutil.copyfile(VERIFIER, copy)

    def run(*arguments: object) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-I", str(copy), *map(str, arguments)],
            cwd=copy.parent,
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr

    return run


def test_the_verifier_is_python_3_9_and_imports_what_comes_with_it_and_cryptography():
    tree = ast.parse(VERIFIER.read_text(encoding="utf-8"), feature_version=(3, 9))
    roots = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add(str(node.module).partition(".")[0])
        assert not isinstance(node, ast.Match), "3.10"
        if isinstance(node, ast.Call):
            assert "strict" not in {keyword.arg for keyword in node.keywords}, "3.10: zip(strict=)"
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"bit_count", "removeprefixes", "UTC", "file_digest", "pairwise"}, "3.10 or later"
    assert roots - set(sys.stdlib_module_names) - {"__future__"} == {"cryptography"}


def _here(*arguments: object) -> tuple[int, str]:
    """The same in this process, which is quicker."""
    spec = importlib.util.spec_from_file_location("countersign_verify", VERIFIER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    out = StringIO()
    with redirect_stdout(out), redirect_stderr(StringIO()):
        return module.main([str(argument) for argument in arguments]), out.getvalue()


@pytest.fixture
def exported(log: Log, tmp_path: Path) -> Path:
    """300 records (a full tile, and a partial one), one erased payload, two checkpoints."""
    with transaction.atomic():
        written = [write_one(str(number)) for number in range(280)]
    log.settle()
    with transaction.atomic():
        erase.erase(written[3], actor=Actor.user(1))
    log.write(20)
    log.settle()
    folder = tmp_path / "export"
    call_command("audit_export", str(folder), "--payloads", stdout=StringIO())
    return folder


def test_an_export_is_checked_elsewhere_and_every_tampering_with_it_is_named(log: Log, exported: Path, offline: Run):
    vkey = load_key(settings.AUDIT_KEY_DIR).verifier.vkey
    code, text = offline("export", exported, "--vkey", vkey)
    assert (code, text.splitlines()[-1]) == (0, "WHOLE")
    assert "305 entries and 2 checkpoints" in text
    assert "300 payloads" in text
    assert "NOTE" not in text
    assert "compare it" in offline("export", exported)[1]  # without a key of one's own, that is said
    assert query("SELECT count(*) FROM audit_event WHERE event = 'log.exported'") == [(1,)]

    def tampered(change: Callable[[Path], object], *options: object) -> tuple[int, set[str]]:
        copy = exported.with_name("tampered")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(exported, copy)
        change(copy)
        code, text = _here("export", copy, "--vkey", vkey, "--json", *options)
        return code, {json.loads(line)["code"] for line in text.splitlines() if line.startswith("{")}

    first = tile_path("entries", 0)

    def entry_edited(folder: Path, *, tile: bool = False) -> None:
        entries = unbundle((folder / first).read_bytes())
        entries[7] = entries[7].replace(b'"ok"', b'"no"')
        (folder / first).write_bytes(bundled(entries))
        if tile:
            path = folder / tile_path(0, 0)
            hashes = path.read_bytes()
            path.write_bytes(hashes[: 7 * 32] + leaf_hash(entries[7]) + hashes[8 * 32 :])

    code, found = tampered(entry_edited)
    assert (code, found) == (2, {"leaf_differs", "root_differs", "signature_wrong", "line_differs"})
    code, found = tampered(lambda folder: entry_edited(folder, tile=True))
    assert code == 2
    assert {"root_differs", "signature_wrong", "tile_differs"} <= found

    def inner_node_as_leaf(folder: Path) -> None:
        """The entry of two leaves' hashes, in the place of the first of them: 0x00 and 0x01 keep them apart."""
        hashes = (folder / tile_path(0, 0)).read_bytes()
        entries = unbundle((folder / first).read_bytes())
        entries[0] = hashes[:64]
        assert leaf_hash(entries[0]) != node_hash(hashes[:32], hashes[32:64])
        (folder / first).write_bytes(bundled(entries))

    assert {"leaf_differs", "entry_malformed", "root_differs"} <= tampered(inner_node_as_leaf)[1]

    def reordered(folder: Path) -> None:
        entries = unbundle((folder / first).read_bytes())
        entries[20], entries[21] = entries[21], entries[20]
        (folder / first).write_bytes(bundled(entries))
        path = folder / tile_path(0, 0)
        path.write_bytes(b"".join(map(leaf_hash, entries)))

    assert {"root_differs", "chain_turned"} <= tampered(reordered)[1]

    def line_edited(folder: Path) -> None:
        path = folder / "records.jsonl"
        path.write_text(path.read_text().replace('"job-5"', '"job-6"', 1))

    assert tampered(line_edited) == (2, {"line_differs"})

    def payloads(change: Callable[[list[dict]], object]) -> Callable[[Path], None]:
        def run(folder: Path) -> None:
            path = folder / "payloads.jsonl"
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            change(lines)
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))

        return run

    kept = next(at for at, line in enumerate((exported / "payloads.jsonl").read_text().splitlines()) if "true" in line)
    assert tampered(payloads(lambda lines: lines[kept].update(value='{"argv":["rm"]}'))) == (2, {"payload_differs"})
    assert tampered(payloads(lambda lines: lines[kept].update(salt=None, value=None)))[1] == {"payload_erased_silently"}
    assert tampered(payloads(lambda lines: lines.pop(kept)))[1] == {"payload_gone"}
    assert tampered(payloads(lambda lines: lines[kept].update(slot="reason")))[1] == {"payload_added", "payload_gone"}

    def checkpoint_of_another_log(folder: Path) -> None:
        key = load_key(settings.AUDIT_KEY_DIR)
        note = key.sign(CheckpointText("another.example/log", 305, bytes(32)).text())
        (folder / "checkpoints.jsonl").write_text(json.dumps({"note": note}) + "\n")

    assert tampered(checkpoint_of_another_log) == (2, {"checkpoint_invalid"})

    def cut(folder: Path) -> None:
        """An old checkpoint, and the newer one that was published all the same."""
        old = json.loads((folder / "checkpoints.jsonl").read_text().splitlines()[0])["note"]
        (folder / "checkpoint").write_text(old)
        (folder / "records.jsonl").unlink()
        (folder / "payloads.jsonl").unlink()

    assert tampered(cut) == (2, {"log_cut"})

    def resigned_with_the_stolen_key(folder: Path) -> None:
        key = load_key(settings.AUDIT_KEY_DIR)
        (folder / "checkpoint").write_text(key.sign(CheckpointText(key.name, 305, bytes(32)).text()))

    assert tampered(resigned_with_the_stolen_key) == (2, {"root_differs"})
    assert tampered(lambda folder: (folder / "enrolment.keys").write_text("00" * 32 + "\n"))[1] == {
        "key_not_endorsed",
        "key_unknown",
    }
    assert tampered(lambda folder: (folder / first).write_bytes(b"\x00\x05ab")) == (2, {"files_damaged"})
    assert tampered(lambda folder: (folder / tile_path(0, 0)).unlink()) == (2, {"files_damaged"})
    assert tampered(lambda folder: None, "--max-age", "1") in ((0, set()), (3, {"no_heartbeat"}))
    assert tampered(lambda folder: None, "--max-age", "-1") == (3, {"no_heartbeat"})
    assert tampered(lambda folder: (folder / "checkpoint").unlink())[0] == 1
    other = NoteSigner(settings.AUDIT_ORIGIN, bytes(32)).verifier.vkey
    assert offline("export", exported, "--vkey", other, "--json")[0] == 2
    assert offline("export", exported, "--vkey", "nonsense")[0] == 1


def test_an_export_goes_into_an_empty_folder_and_holds_what_was_signed(log: Log, tmp_path: Path, offline: Run, tamper):
    with pytest.raises(CommandError, match="Nothing is signed"):
        call_command("audit_export", str(tmp_path / "out"))
    (victim,) = log.write()
    log.settle()
    log.write()  # not signed yet, so not in it
    shutil.rmtree(settings.AUDIT_PUBLISH_DIR / "tile")
    out = StringIO()
    call_command("audit_export", str(tmp_path / "out"), "--json", stdout=out)
    assert json.loads(out.getvalue())["payloads"] is None
    assert not (tmp_path / "out" / "payloads.jsonl").exists()
    assert offline("export", tmp_path / "out")[0] == 0
    with pytest.raises(CommandError, match="not empty"):
        call_command("audit_export", str(tmp_path / "out"))
    tamper(("UPDATE audit_event SET body = replace(body, '\"ok\"', '\"no\"') WHERE id = %s", [victim]))
    with pytest.raises(CommandError, match="changed"):
        call_command("audit_export", str(tmp_path / "again"))


def test_payloads_of_archived_records_are_not_missed_in_an_export(log: Log, tmp_path: Path):
    log.write(3)
    context = {"part": "2026_01", "lower": None, "upper": "ffffffff-ffff-7fff-bfff-ffffffffffff", "records": 3}
    with transaction.atomic():
        record(Event.LOG_ARCHIVED, actor=Actor.user(1), target=Target(type="log_part", id="2026_01"), context=context)
    log.settle()
    out = tmp_path / "out"
    call_command("audit_export", str(out), "--payloads", stdout=StringIO())
    lines = (out / "payloads.jsonl").read_text().splitlines(keepends=True)
    (out / "payloads.jsonl").write_text("".join(lines[1:]))
    code, text = _here("export", out)
    assert (code, "1 payloads are in archives" in text) == (0, True), text


def test_proofs_consistency_and_two_views_are_judged_elsewhere(log: Log, tmp_path: Path, offline: Run):
    (identifier,) = log.write()
    first = log.settle()
    log.write(4)
    second = log.settle()
    key = load_key(settings.AUDIT_KEY_DIR)
    vkey = key.verifier.vkey
    call_command("audit_prove", str(identifier), "--out", str(tmp_path), stdout=StringIO())
    proof = tmp_path / f"{identifier}.tlog-proof"
    code, text = offline("proof", proof, "--vkey", vkey)
    assert code == 0
    assert f"record {identifier} (job.submitted" in text
    good = proof.read_text()
    index = log.index_of(identifier)
    lines = good.split("\n")
    forged = [
        good.replace(f"index {index}", f"index {index + 1}"),
        good.replace(lines[2], lines[3]),
        good.replace(f"{lines[2]}\n", ""),
        good.replace("\nindex ", "\nindex 0"),
        good.replace("tlog-proof@v1", "tlog-proof@v2"),
        good[:-30],
        "",
    ]
    for text in forged:
        proof.write_text(text)
        assert _here("proof", proof, "--vkey", vkey)[0] == 2, text
    proof.write_text(good)
    entry = tmp_path / f"{identifier}.entry"
    entry.write_bytes(entry.read_bytes().replace(b'"ok"', b'"no"'))
    assert offline("proof", proof, "--vkey", vkey)[0] == 2

    def consistent(old: object, new: object) -> int:
        try:
            call_command("audit_consistency", str(old), str(new), "--out", str(tmp_path / "c"), stdout=StringIO())
        except SystemExit as ended:
            return int(str(ended.code))
        return 0

    assert consistent(first, second) == 0
    assert offline("consistency", tmp_path / "c", "--vkey", vkey)[0] == 0
    data = json.loads((tmp_path / "c").read_text())
    for change in ({"proof": data["proof"][1:]}, {"old": data["new"], "new": data["old"]}, {"new": data["old"]}):
        (tmp_path / "c").write_text(json.dumps(data | change))
        assert _here("consistency", tmp_path / "c", "--vkey", vkey)[0] == 2, change
    # what somebody was shown, signed with the stolen key
    (tmp_path / "shown").write_text(key.sign(CheckpointText(key.name, first, bytes(32)).text()))
    (tmp_path / "kept").write_text(data["old"])
    assert consistent(tmp_path / "shown", second) == 2
    code, text = offline("compare", tmp_path / "kept", tmp_path / "shown", "--vkey", vkey)
    assert code == 2
    assert "SPLIT_VIEW" in text
    assert offline("compare", tmp_path / "kept", settings.AUDIT_PUBLISH_DIR / "checkpoint", "--vkey", vkey)[0] == 0
    with pytest.raises(CommandError, match="smaller checkpoint first"):
        consistent(second, first)
    # of a log that was cut since, whoever kept a checkpoint learns it
    (tmp_path / "later").write_text(key.sign(CheckpointText(key.name, second + 50, bytes(32)).text()))
    assert consistent(tmp_path / "later", second) == 2
    with pytest.raises(CommandError, match="no checkpoint at"):
        call_command("audit_consistency", str(first), str(second + 100))
    for text in ("", "x\n", f"{key.name}\n5\n", data["old"].replace("\n\n", "\n")):
        (tmp_path / "bad").write_text(text)
        assert _here("note", tmp_path / "bad", "--vkey", vkey)[0] == 2


def test_the_bundle_of_a_job_is_checked_elsewhere(log: Log, tmp_path: Path, offline: Run):
    log.write(3)
    job = str(uuid4())
    log.write(2, target=Target(type="job", id=job))
    log.settle()
    path = tmp_path / "job.zip"
    path.write_bytes(bundle.of_job(job, actor=Actor.user(7)))
    vkey = load_key(settings.AUDIT_KEY_DIR).verifier.vkey
    keys = settings.AUDIT_PUBLISH_DIR / "enrolment.keys"
    code, text = offline("bundle", path, "--vkey", vkey, "--enrolment", keys)
    assert (code, "NOTE" in text) == (0, False), text
    assert f"2 records of the job {job}" in text
    unpacked = tmp_path / "unpacked"
    shutil.unpack_archive(path, unpacked, "zip")
    records = unpacked / "records.jsonl"
    records.write_text(records.read_text().replace(r"\"ok\"", r"\"no\""))
    shutil.make_archive(str(tmp_path / "forged"), "zip", unpacked)
    code, text = offline("bundle", tmp_path / "forged.zip", "--vkey", vkey)
    assert code == 2
    assert "PROOF_INVALID" in text
    assert "SIGNATURE_WRONG" in text
    assert offline("bundle", keys)[0] == 1


def test_rotated_and_restarted_logs_are_followed_elsewhere(log: Log, tmp_path: Path, offline: Run):
    log.write(2)
    log.settle()
    first = load_key(settings.AUDIT_KEY_DIR).verifier.vkey
    call_command("audit_keys", "rotate", stdout=StringIO(), stderr=StringIO())
    log.write(2)
    log.settle()
    second = load_key(settings.AUDIT_KEY_DIR).verifier.vkey
    call_command("audit_keys", "revoke", stdout=StringIO(), stderr=StringIO())
    log.write(2)
    log.settle()
    third = load_key(settings.AUDIT_KEY_DIR).verifier.vkey
    call_command("audit_export", str(tmp_path / "out"), stdout=StringIO())
    code, text = offline("export", tmp_path / "out", "--vkey", third)
    assert code == 0, text
    assert "rotate" in text
    assert "revoke" in text
    # the revoked key does not vouch for the new one; the one before it leads to it
    for vkey in (first, second):
        code, text = offline("export", tmp_path / "out", "--vkey", vkey, "--json")
        assert code == 2
        assert "key_statement_invalid" in text
