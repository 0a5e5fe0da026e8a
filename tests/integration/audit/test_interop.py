"""A log that we exported, checked by programs that others wrote. Where one is not installed its test is skipped and says so."""

import base64
import json
import os
import shutil
import subprocess
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import transaction

from audit.merkle import leaf_hash
from audit.notes import CheckpointText, text_of
from audit.proofs import consistency, inclusion
from audit.signing import load_key
from audit.tiles import folder_reader
from tests.integration.audit.conftest import Log, write_one


@pytest.fixture
def exported(log: Log, tmp_path: Path) -> tuple[Path, CheckpointText]:
    """300 records and more, over two tiles, under three checkpoints."""
    for count in (4, 290, 11):
        with transaction.atomic():
            for number in range(count):
                write_one(str(number))
        log.settle()
    folder = tmp_path / "export"
    call_command("audit_export", str(folder), stdout=StringIO())
    return folder, CheckpointText.parse(text_of((folder / "checkpoint").read_text()))


def test_sigstores_merkle_code_accepts_our_proofs(exported: tuple[Path, CheckpointText]):
    merkle = pytest.importorskip("sigstore._internal.merkle", reason="sigstore is not installed")
    errors = pytest.importorskip("sigstore.errors", reason="sigstore is not installed")
    folder, checkpoint = exported
    reader = folder_reader(folder, checkpoint.size)

    def check(index: int, entry: bytes) -> None:
        hashes = inclusion(index, checkpoint.size, reader.node)
        proof = SimpleNamespace(log_index=index, tree_size=checkpoint.size, hashes=hashes, root_hash=checkpoint.root)
        merkle.verify_merkle_inclusion(
            SimpleNamespace(_inner=SimpleNamespace(inclusion_proof=proof, canonicalized_body=entry))
        )

    entries = list(reader.entries(0, checkpoint.size))
    for index, entry in enumerate(entries):
        check(index, entry)
    with pytest.raises(errors.VerificationError):
        check(7, entries[8])


def test_pymerkle_has_our_roots_and_our_proofs(exported: tuple[Path, CheckpointText]):
    pymerkle = pytest.importorskip("pymerkle", reason="pymerkle is not installed")
    folder, checkpoint = exported
    reader = folder_reader(folder, checkpoint.size)
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    for entry in reader.entries(0, checkpoint.size):
        tree.append_entry(entry)
    assert tree.get_state() == checkpoint.root
    sizes = []
    for line in (folder / "checkpoints.jsonl").read_text().splitlines():
        one = CheckpointText.parse(text_of(json.loads(line)["note"]))
        sizes.append(one.size)
        assert tree.get_state(one.size) == one.root
        theirs = tree.prove_consistency(one.size, checkpoint.size)
        pymerkle.verify_consistency(one.root, checkpoint.root, theirs)
    assert len(sizes) == 3
    for index in (0, 1, 255, 256, checkpoint.size - 1):
        theirs = tree.prove_inclusion(index + 1, checkpoint.size)
        path = [bytes.fromhex(value) for value in theirs.serialize()["path"]]
        assert path[0] == leaf_hash(next(reader.entries(index, index + 1)))
        assert path[1:] == inclusion(index, checkpoint.size, reader.node)
    assert consistency(sizes[0], checkpoint.size, reader.node)


def _go() -> tuple[str, Path]:
    """The program `go`, and its own copy of golang.org/x/mod, so that nothing is fetched."""
    program = os.environ.get("GO") or shutil.which("go")
    if program is None:
        pytest.skip("go is not installed: Go's note and tlog packages did not look at the log")
    root = subprocess.run([program, "env", "GOROOT"], capture_output=True, text=True, check=True).stdout.strip()
    packages = Path(root) / "src/cmd/vendor/golang.org/x/mod/sumdb"
    if not (packages / "tlog").is_dir():
        pytest.skip(f"go has no copy of golang.org/x/mod in {packages}")
    return program, packages


@pytest.mark.timeout(900)  # builds Go's own library where that was not done before
def test_gos_own_packages_accept_the_log_and_refuse_another_key(exported: tuple[Path, CheckpointText], tmp_path: Path):
    program, packages = _go()
    folder, checkpoint = exported
    module = tmp_path / "module"
    for name in ("note", "tlog"):
        shutil.copytree(packages / name, module / "sumdb" / name)
    (module / "go.mod").write_text("module interop\n\ngo 1.22\n")
    shutil.copyfile(Path(__file__).with_name("interop.go"), module / "main.go")
    environ = {"GOCACHE": str(tmp_path / "cache"), **os.environ, "GOPROXY": "off", "GOTOOLCHAIN": "local"}
    subprocess.run([program, "build", "-o", "check", "."], cwd=module, env=environ, check=True, timeout=800)

    def check(vkey: str, where: Path = folder) -> tuple[int, str]:
        done = subprocess.run([module / "check", where, vkey], capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout

    vkey = load_key(settings.AUDIT_KEY_DIR).verifier.vkey
    assert check(vkey) == (0, f"{checkpoint.size} entries, 3 checkpoints\n")
    other = base64.b64encode(b"\x01" + bytes(32)).decode()
    assert check(f"{vkey.rpartition('+')[0]}+{other}")[0] == 2
    (bundle,) = (folder / "tile/entries/001.p").iterdir()
    bundle.write_bytes(bundle.read_bytes().replace(b'"ok"', b'"no"', 1))
    code, said = check(vkey)
    assert code == 2
    assert "refused" in said
