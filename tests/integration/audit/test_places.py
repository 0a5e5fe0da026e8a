"""Checkpoints at places outside, and under them the names of witnesses."""

import hashlib
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from django.conf import settings
from django.core import mail
from django.core.management import call_command
from django.core.management.base import CommandError

from audit import bundle
from audit.actor import Actor, Target
from audit.errors import NotDelivered
from audit.models import Delivery
from audit.notes import CheckpointText, CosignatureSigner, cosignatures, open_checkpoint
from audit.prove import check_proof, prove
from audit.publishing.couriers import Courier, Couriers
from audit.publishing.places import place
from audit.publishing.s3 import S3Place
from audit.signing import load_key
from audit.status import status
from audit.tiles import tile_paths
from audit.witness.keeper import Keeper
from audit.witness.server import WitnessServer
from tests.integration.audit.conftest import Log, query

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def serve() -> Iterator[Callable[[ThreadingHTTPServer], Any]]:
    """Runs servers in threads until the test ends."""
    running: list[ThreadingHTTPServer] = []

    def start(server: ThreadingHTTPServer) -> Any:
        running.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


Witnesses = dict[str, WitnessServer]


@pytest.fixture
def witnesses(log: Log, tmp_path: Path, serve: Callable, settings: Any) -> Witnesses:
    """Three witnesses of this log, of which two must have cosigned."""
    logs = [load_key(settings.AUDIT_KEY_DIR).verifier]
    found = {}
    for number, name in enumerate("abc", start=1):
        key = CosignatureSigner(f"witness.example/{name}", bytes([number]) * 32)
        found[name] = serve(WitnessServer(("127.0.0.1", 0), Keeper(key, tmp_path / f"witness-{name}", logs)))
    lines = [f"witness {name} {server.keeper.key.verifier.vkey} {server.url}" for name, server in found.items()]
    policy = tmp_path / "policy"
    policy.write_text("\n".join([*lines, "group two 2 a b c", "quorum two", ""]))
    settings.AUDIT_WITNESS_POLICY = str(policy)
    return found


def _deliver(log: Log) -> None:
    Couriers.from_settings(log.sequencer.publisher).once()


def _codes(**options: Any) -> tuple[int, set[str]]:
    report = Log().report(**options)
    return report.exit_code, {finding.code for finding in report.findings}


def test_a_quorum_of_witnesses_stands_under_checkpoints_and_proofs(log: Log, witnesses: Witnesses):
    job = str(uuid4())
    (first,) = log.write(target=Target(type="job", id=job))
    log.settle()
    assert _codes() == (3, {"quorum_missing"})
    _deliver(log)
    assert _codes() == (0, set())
    log.write(3)
    size = log.settle()
    _deliver(log)  # by a proof of consistency this time
    note = (settings.AUDIT_PUBLISH_DIR / "checkpoint.cosigned").read_text()
    keys = [server.keeper.key.verifier for server in witnesses.values()]
    assert set(cosignatures(note, keys)) == {key.vkey for key in keys}
    assert open_checkpoint(note, [log.sequencer.signer.key.verifier]).size == size
    proof = prove(first)
    assert len(cosignatures(proof.text.partition("\n\n")[2], keys)) == 3
    check_proof(proof.text, proof.entry, [log.sequencer.signer.key.verifier])
    answer = httpx2.get(f"{witnesses['a'].url}/vkey")
    assert answer.text.strip() == keys[0].vkey
    told = {row["name"]: (row["size"], row["behind"], row["healthy"]) for row in status()["deliveries"]}
    assert told == dict.fromkeys(("witness:a", "witness:b", "witness:c", "witnesses"), (size, 0, True))

    # a note by a key that was put away is none that others can check
    call_command("audit_keys", "rotate", stdout=StringIO(), stderr=StringIO())
    new = [load_key(settings.AUDIT_KEY_DIR).verifier]
    log.settle()
    proof = prove(first)
    assert cosignatures(proof.text.partition("\n\n")[2], keys) == {}
    check_proof(proof.text, proof.entry, new)
    _deliver(log)
    refused = Delivery.objects.get(pk="witness:a")
    assert "403" in refused.error
    for server in witnesses.values():
        server.keeper.logs[settings.AUDIT_ORIGIN] += new  # its operators are told of the new key
    _deliver(log)
    assert len(cosignatures(prove(first).text.partition("\n\n")[2], keys)) == 3
    assert _codes() == (0, set())
    note = (settings.AUDIT_PUBLISH_DIR / "checkpoint.cosigned").read_text()

    # an auditor elsewhere asks for the same witnesses
    out = settings.AUDIT_PUBLISH_DIR.parent / "out"
    call_command("audit_export", str(out), stdout=StringIO())
    vkey = new[0].vkey
    program = [sys.executable, "-I", str(out / "countersign_verify.py")]

    def elsewhere(*arguments: str) -> int:
        return subprocess.run([*program, *arguments], capture_output=True, timeout=120, check=False).returncode

    trusted = ("--vkey", vkey, "--policy", settings.AUDIT_WITNESS_POLICY)
    assert elsewhere("export", str(out), *trusted) == 0
    late = out.with_name("late")  # what came after the witnesses were asked is not theirs yet, for ten minutes
    log.settle()
    call_command("audit_export", str(late), stdout=StringIO())
    assert cosignatures((late / "checkpoint").read_text(), keys) == {}
    assert elsewhere("export", str(late), *trusted) == 0
    kept = (late / "cosigned.jsonl").read_text().splitlines()
    (late / "cosigned.jsonl").write_text(f"{kept[0]}\n")  # one that the key before signed counts as well
    assert elsewhere("export", str(late), *trusted) == 0
    (late / "cosigned.jsonl").unlink()
    assert elsewhere("export", str(late), *trusted) == 3
    verifier = runpy.run_path(str(out / "countersign_verify.py"))
    for minutes, code in ((9, 0), (11, 3)):
        told = verifier["Report"]()
        policy = verifier["Policy"](Path(settings.AUDIT_WITNESS_POLICY).read_text())
        last = datetime.now(UTC) + timedelta(minutes=minutes)
        verifier["check_log_quorum"](told, policy, [verifier["Note"](json.loads(kept[-1])["note"])], 1000, last)
        assert told.code == code
    packed = out.with_name("job.zip")
    packed.write_bytes(bundle.of_job(job, actor=Actor.user(1)))
    assert elsewhere("bundle", str(packed), *trusted) == 0
    cosigned = str(settings.AUDIT_PUBLISH_DIR / "checkpoint.cosigned")
    assert elsewhere("note", cosigned, "--vkey", vkey, "--policy", settings.AUDIT_WITNESS_POLICY) == 0
    plain = out / "checkpoint"
    plain.write_text("\n".join(note.split("\n")[:5]) + "\n")
    assert elsewhere("note", str(plain), "--vkey", vkey, "--policy", settings.AUDIT_WITNESS_POLICY) == 3
    forged = note.replace("witness.example/a ", "witness.example/b ").replace(
        "witness.example/c ", "witness.example/b "
    )
    plain.write_text(forged)
    assert elsewhere("note", str(plain), "--vkey", vkey, "--policy", settings.AUDIT_WITNESS_POLICY) == 3


def test_a_witness_that_is_away_is_named_and_too_few_of_them_make_the_log_stale(log: Log, witnesses: Witnesses):
    log.write()
    log.settle()
    for name in "bc":
        witnesses[name].shutdown()
        witnesses[name].server_close()
    for _ in range(5):
        _deliver(log)
    told = {row["name"]: row for row in status()["deliveries"]}
    assert (told["witness:a"]["healthy"], told["witness:b"]["healthy"], told["witnesses"]["healthy"]) == (
        True,
        False,
        False,
    )
    assert not status()["healthy"]
    assert _codes() == (3, {"quorum_missing"})
    log.write()
    assert log.settle() == query("SELECT count(*) FROM audit_event")[0][0]  # and the log went on


def test_a_quorum_of_long_ago_does_not_speak_for_what_came_since(log: Log, witnesses: Witnesses):
    log.write()
    log.settle()
    _deliver(log)
    log.write()
    log.settle()
    assert _codes(now=datetime.now(UTC) + timedelta(minutes=4))[1] == {"no_heartbeat"}
    assert _codes(now=datetime.now(UTC) + timedelta(minutes=11)) == (3, {"no_heartbeat", "quorum_missing"})


def test_witnesses_catch_a_second_view_signed_with_the_stolen_key(log: Log, witnesses: Witnesses):
    """The thief shows the witnesses another log than the auditors; and the other way round."""
    log.write(2)
    size = log.settle()
    key = load_key(settings.AUDIT_KEY_DIR)
    other = key.sign(CheckpointText(key.name, size, bytes(32)).text())
    assert httpx2.post(f"{witnesses['a'].url}/add-checkpoint", content=f"old 0\n\n{other}").status_code == 200
    _deliver(log)
    row = Delivery.objects.get(pk="witness:a")
    assert "forked" in row.error
    assert not Delivery.objects.get(pk="witness:b").error
    log.write()
    log.settle()
    _deliver(log)
    assert "422" in Delivery.objects.get(pk="witness:a").error
    # what the witness holds is signed twice over, and no view of this log
    held = httpx2.get(f"{witnesses['a'].url}/checkpoint/{hashlib.sha256(key.name.encode()).hexdigest()}").text
    with (settings.AUDIT_PUBLISH_DIR / "cosigned.jsonl").open("a") as file:
        file.write(json.dumps({"at": "", "size": size, "note": held}) + "\n")
    assert _codes() == (2, {"root_differs"})


def test_a_witness_that_saw_more_says_that_the_log_was_rolled_back(log: Log, witnesses: Witnesses):
    log.write(2)
    old = log.settle()
    folder = settings.AUDIT_PUBLISH_DIR
    before = (folder / "checkpoint").read_text()
    log.write(2)
    log.settle()
    _deliver(log)
    (folder / "checkpoint").write_text(before)  # what a restored backup would publish
    _deliver(log)
    assert "rolled back" in Delivery.objects.get(pk="witness:c").error
    assert Delivery.objects.get(pk="witness:c").size > old


def test_the_witness_is_a_process_of_its_own_without_a_database(log: Log, tmp_path: Path):
    log.write()
    log.settle()
    folder = tmp_path / "w"
    call_command("audit_keygen", "--witness", "witness.example/p", "--folder", str(folder), stdout=StringIO())
    environ = {**os.environ, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    vkey = log.sequencer.signer.key.verifier.vkey
    command = [sys.executable, "manage.py", "audit_witness", "--folder", str(folder), "--listen", "127.0.0.1:0"]
    running = subprocess.Popen(
        [*command, "--log", vkey], cwd=REPOSITORY, env=environ, stderr=subprocess.PIPE, text=True
    )
    try:
        assert running.stderr is not None
        line = running.stderr.readline()
        url = line.rstrip(".\n").rpartition(" ")[2]
        note = (settings.AUDIT_PUBLISH_DIR / "checkpoint").read_text()
        answer = httpx2.post(f"{url}/add-checkpoint", content=f"old 0\n\n{note}", timeout=60)
        assert answer.status_code == 200, line
        assert answer.text.startswith("— witness.example/p ")
        again = httpx2.post(f"{url}/add-checkpoint", content=f"old 1\n\n{note}", timeout=60)
        assert (again.status_code, again.headers["Content-Type"]) == (409, "text/x.tlog.size")
        assert httpx2.post(f"{url}/add-checkpoint", content=b"x" * 70_000, timeout=60).status_code == 413
        assert httpx2.get(f"{url}/nothing", timeout=60).status_code == 404
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
    finally:
        running.kill()
        running.wait(60)
        assert running.stderr is not None
        running.stderr.close()
    with pytest.raises(CommandError, match="Name the logs"):
        call_command("audit_witness", "--folder", str(folder))


# places


class _Hook(BaseHTTPRequestHandler):
    """Keeps what it is sent, and answers with the status it is told."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((self.command, self.path, dict(self.headers), body))  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_PUT = do_POST

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def hook(serve: Callable) -> Any:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hook)
    server.taken, server.status = [], 204  # type: ignore[attr-defined]
    serve(server)
    return server


def test_every_place_gets_the_checkpoint_and_a_dead_one_holds_up_nothing(
    log: Log, tmp_path: Path, hook: Any, settings: Any
):
    port = hook.server_address[1]
    bare, worm = tmp_path / "bare.git", tmp_path / "worm"
    worm.mkdir()
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(tmp_path / "git")], check=True)
    subprocess.run(["git", "-C", str(tmp_path / "git"), "remote", "add", "origin", str(bare)], check=True)
    settings.AUDIT_PUBLISH_EVERY_S = 0
    settings.AUDIT_PUBLISH_TO = [
        "http://127.0.0.1:9/dead",
        f"file://{worm}",
        f"git:{tmp_path}/git?remote=origin",
        "mailto:auditor@example.org",
        f"http://127.0.0.1:{port}/hook",
    ]
    sizes = []
    for _ in range(3):
        log.write()
        sizes.append(log.settle())
        _deliver(log)
    latest = (settings.AUDIT_PUBLISH_DIR / "checkpoint").read_text()
    assert sorted(int(path.name.partition("-")[0]) for path in worm.iterdir()) == sizes
    assert latest in {path.read_text() for path in worm.iterdir()}
    shown = subprocess.run(
        ["git", "-C", str(bare), "log", "--format=%s", "main"], capture_output=True, text=True, check=True
    ).stdout
    assert shown.splitlines() == [f"{settings.AUDIT_ORIGIN}: {size} records" for size in reversed(sizes)]
    assert len(mail.outbox) == 1  # a day has to pass
    assert f"holds {sizes[0]} records" in mail.outbox[0].body
    assert [json.loads(body)["size"] for *_, body in hook.taken] == sizes
    assert json.loads(hook.taken[-1][3])["note"] == latest
    rows = {row["name"]: row for row in status()["deliveries"]}
    dead = rows.pop("http://127.0.0.1:9/dead")
    assert (dead["size"], dead["behind"], dead["failures"], dead["delivered_at"]) == (0, sizes[-1], 3, None)
    assert all(row["failures"] == 0 and row["delivered_at"] for row in rows.values())
    _deliver(log)
    assert not status()["healthy"]
    assert "dead" in status()["message"]
    assert log.report().exit_code == 0


def test_a_place_that_comes_back_gets_what_is_newest(log: Log, hook: Any):
    hook.status = 503
    courier = Courier(
        place(f"http://127.0.0.1:{hook.server_address[1]}/x?token=secret", 60), settings.AUDIT_PUBLISH_DIR
    )
    now = datetime.now(UTC)
    assert courier.attempt(now) > 0  # there is nothing yet
    log.write()
    log.settle()
    waits = [courier.attempt(now) for _ in range(9)]
    assert waits[:3] == [5.0, 10.0, 20.0]
    assert max(waits) == 300.0
    row = Delivery.objects.get()
    assert "secret" not in row.name + row.error
    assert "503" in row.error
    log.write()
    size = log.settle()
    hook.status = 200
    assert courier.attempt(now) == 60
    assert (Delivery.objects.get().size, Delivery.objects.get().failures) == (size, 0)
    taken = len(hook.taken)
    assert courier.attempt(now + timedelta(seconds=30)) == 30.0  # not due yet
    assert len(hook.taken) == taken


def test_couriers_work_beside_the_sequencer_and_end_with_it(log: Log, hook: Any, settings: Any):
    settings.AUDIT_PUBLISH_TO = [f"http://127.0.0.1:{hook.server_address[1]}/"]
    settings.AUDIT_PUBLISH_EVERY_S = 1
    log.write()
    size = log.settle()
    stop, arrived = threading.Event(), threading.Event()
    couriers = Couriers.from_settings(log.sequencer.publisher)
    (name,) = couriers.works
    work = couriers.works[name]

    def watched(now: datetime) -> float:
        wait_s = work(now)
        arrived.set()
        return wait_s

    couriers.works[name] = watched
    couriers.start(stop)
    assert arrived.wait(60)
    stop.set()
    couriers.join(60)
    assert Delivery.objects.get().size == size


def test_what_a_lost_log_said_does_not_hold_up_the_one_that_goes_on(log: Log, hook: Any):
    """After a declared restart the sizes are small again, under another name."""
    (identifier,) = log.write()
    size = log.settle()
    lost = CosignatureSigner("x.example", bytes(32))
    text = CheckpointText("countersign.local/lost", 10**6, bytes(32)).text()
    note = f"{text}\n{lost.line(text)}"
    courier = Courier(place(f"http://127.0.0.1:{hook.server_address[1]}/", 60), settings.AUDIT_PUBLISH_DIR)
    for name in (courier.place.name, "witnesses"):
        Delivery.objects.create(name=name, size=10**6, note=note)
    courier.attempt(datetime.now(UTC))
    assert Delivery.objects.get(pk=courier.place.name).size == size
    proof = prove(identifier)
    check_proof(proof.text, proof.entry, [log.sequencer.signer.key.verifier])


@pytest.mark.parametrize(
    "address",
    [
        "",
        "https://h:port/",
        "https://[x/",
        "ftp://x/y",
        "git:relative",
        "mailto:nobody",
        "s3+https://h/bucket",
        "file:x",
    ],
)
def test_an_address_that_is_none_is_refused(address: str, settings: Any):
    with pytest.raises(NotDelivered):
        place(address, 60)


def test_objects_are_locked_and_the_logs_files_go_with_them(log: Log, hook: Any, settings: Any):
    settings.AUDIT_S3_ACCESS_KEY, settings.AUDIT_S3_SECRET_KEY = "access", "secret"
    endpoint = f"127.0.0.1:{hook.server_address[1]}"
    bucket = place(f"s3+http://{endpoint}/bucket/logs?lock_days=30&files=yes&region=eu-north-1", 60)
    hook.status = 200
    log.write(3)
    first = log.settle()
    now = datetime.now(UTC)
    Courier(bucket, settings.AUDIT_PUBLISH_DIR).attempt(now)
    paths = [path.removeprefix("/bucket/logs/") for _, path, _, _ in hook.taken]
    assert paths[: len(list(tile_paths(0, first)))] == list(tile_paths(0, first))
    assert paths[-1] == "checkpoint"
    until = (now + timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for _, _, headers, _ in hook.taken:
        assert headers["x-amz-object-lock-mode"] == "COMPLIANCE"
        assert headers["x-amz-object-lock-retain-until-date"] == until
        assert "/eu-north-1/s3/aws4_request, SignedHeaders=content-md5;host;" in headers["Authorization"]
    assert bucket.name == f"s3+http://{endpoint}/bucket/logs"


def test_requests_are_signed_as_amazon_shows_it():
    """`GET ?lifecycle` aside, the example of Amazon's manual for PUT: an object of a bucket in us-east-1."""
    bucket = S3Place(
        endpoint="https://examplebucket.s3.amazonaws.com",
        bucket="",
        prefix="",
        region="us-east-1",
        lock_days=0,
        files=False,
        access_key="AKIAIOSFODNN7EXAMPLE",
        secret_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        every_s=60,
    )
    headers = {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"}
    signed = bucket.signed(
        "PUT",
        "https://examplebucket.s3.amazonaws.com/test%24file.text",
        headers,
        b"Welcome to Amazon S3.",
        datetime(2013, 5, 24, tzinfo=UTC),
    )
    assert signed["Authorization"].endswith(
        "Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    )
