"""Sequencing, signing and publishing; and the process that does it."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction

from audit import sequence
from audit.errors import HeadMoved, KeyMissing, KeyUnsafe, SignerRefused
from audit.merkle import root
from audit.notes import open_checkpoint
from audit.publish import Publisher, last_note, read_published
from audit.sequencer import HEARTBEAT_S, Sequencer
from audit.signing import Signer, create_key, load_key, load_or_create_key, read_memory
from audit.status import status
from tests.integration.audit.conftest import Log, query, write_one

REPOSITORY = Path(__file__).resolve().parents[3]


def _until(what, *, seconds: float = 60):
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
    return answer


# order


def test_leaves_stand_in_the_order_of_transactions_and_of_writing(log: Log):
    with transaction.atomic():
        first = [write_one(str(number)) for number in range(5)]
    second = log.write(3)
    log.settle()
    indexes = [log.index_of(identifier) for identifier in first + second]
    assert indexes == list(range(indexes[0], indexes[0] + 8))


def test_a_transaction_that_commits_late_is_not_missed(log: Log):
    """It drew its number first and commits last: a poller of numbers would have passed it."""
    log.write()  # enrols the key
    holding, go_on = threading.Event(), threading.Event()
    late = []

    def hold() -> None:
        with transaction.atomic():
            late.append(write_one("late"))
            holding.set()
            assert go_on.wait(60)
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert holding.wait(60)
    early = log.write(3)
    log.settle()
    go_on.set()
    thread.join()
    log.settle()
    assert log.index_of(late[0]) > max(log.index_of(identifier) for identifier in early)
    assert log.report().findings == []


def test_the_head_moves_by_compare_and_set(log: Log):
    log.write(3)
    assert sequence.advance(0) == 4
    with pytest.raises(HeadMoved):
        sequence.advance(0)


def test_a_long_queue_is_drained_in_batches(log: Log):
    with transaction.atomic():
        for number in range(25):
            write_one(str(number))
    size = 0
    while (new_size := sequence.advance(size, at_most=10)) != size:
        assert new_size - size <= 10
        size = new_size
    assert size == 26


def test_two_sequencers_at_once_never_fork_the_log(log: Log):
    errors: list[BaseException] = []
    done = threading.Event()

    def settle() -> None:
        try:
            sequencer = Sequencer.from_settings()
            while not done.is_set():
                sequencer.once()
            sequencer.once()
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    log.write()
    log.settle()
    threads = [threading.Thread(target=settle) for _ in range(3)]
    for thread in threads:
        thread.start()
    log.write(60)
    done.set()
    for thread in threads:
        thread.join()
    assert errors == []
    size = log.settle()
    assert size == query("SELECT count(*) FROM audit_event")[0][0]
    report = log.report()
    assert report.findings == []
    published = [json.loads(line)["size"] for line in (settings.AUDIT_PUBLISH_DIR / "checkpoints.jsonl").open()]
    assert published == sorted(set(published))


# signing


def test_the_key_is_kept_from_other_users(log: Log):
    log.write()
    log.settle()
    mode = stat.S_IMODE((settings.AUDIT_KEY_DIR / "checkpoint.key").stat().st_mode)
    assert mode == 0o600


def test_a_key_that_others_may_read_is_refused(places: Path):
    create_key(settings.AUDIT_KEY_DIR, "example.org/log")
    (settings.AUDIT_KEY_DIR / "checkpoint.key").chmod(0o640)
    with pytest.raises(KeyUnsafe, match="0600"):
        load_key(settings.AUDIT_KEY_DIR)


def test_a_key_is_never_overwritten(places: Path):
    made = create_key(settings.AUDIT_KEY_DIR, "example.org/log")
    with pytest.raises(KeyUnsafe):
        create_key(settings.AUDIT_KEY_DIR, "example.org/log")
    assert load_key(settings.AUDIT_KEY_DIR).skey == made.skey


def test_outside_development_a_missing_key_is_an_error(places: Path, settings):
    settings.DEVELOPMENT = False
    with pytest.raises(KeyMissing, match="audit_keygen"):
        load_or_create_key(settings.AUDIT_KEY_DIR, "example.org/log")
    call_command("audit_keygen", "--origin", "example.org/log")
    assert load_or_create_key(settings.AUDIT_KEY_DIR, "example.org/log").name == "example.org/log"


def test_the_checkpoint_says_what_the_log_holds(log: Log):
    log.write(5)
    size = log.settle()
    note = (settings.AUDIT_PUBLISH_DIR / "checkpoint").read_text()
    checkpoint = open_checkpoint(note, [load_key(settings.AUDIT_KEY_DIR).verifier])
    assert (checkpoint.origin, checkpoint.size) == (settings.AUDIT_ORIGIN, size)
    assert checkpoint.root == root(bytes(row[0]) for row in query("SELECT hash FROM audit_leaf ORDER BY index"))


def test_without_news_nothing_is_signed(log: Log):
    log.write()
    log.settle()
    for _ in range(3):
        log.sequencer.round(datetime.now(UTC))
    assert query("SELECT count(*) FROM audit_checkpoint") == [(1,)]
    assert len(read_published(settings.AUDIT_PUBLISH_DIR)) == 1


def test_a_sequencer_that_starts_again_goes_on_where_it_was(log: Log):
    log.write(3)
    log.settle()
    again = Log()
    again.write(3)
    again.settle()
    assert again.report().findings == []
    assert query("SELECT count(*) FROM audit_event WHERE event = 'log.opened'") == [(1,)]


def test_a_checkpoint_that_was_signed_but_not_kept_is_kept_after_a_crash(log: Log):
    log.write(3)
    size = log.settle()
    memory = read_memory(settings.AUDIT_KEY_DIR)
    assert memory is not None
    log.write(1)
    size = sequence.drain()
    signed = log.sequencer.signer.sign(size, stored=sequence.stored_hashes, checked=sequence.checked_hashes)
    assert last_note(settings.AUDIT_PUBLISH_DIR) != signed  # the crash came here
    Log().sequencer.round(datetime.now(UTC))
    assert last_note(settings.AUDIT_PUBLISH_DIR) == signed
    assert query("SELECT note FROM audit_checkpoint ORDER BY id DESC LIMIT 1") == [(signed,)]


def test_writers_that_never_pause_do_not_keep_a_checkpoint_waiting(log: Log, monkeypatch):
    """Whenever records got their places, another one waits already: a round ends all the same, and signs."""
    real, rounds = sequence.advance, []

    def advance(size: int, **options: int) -> int:
        assert len(rounds) < 3, "a round goes after what is written meanwhile"
        grown = real(size, **options)
        rounds.append(grown)
        log.write()
        return grown

    log.write(3)
    log.settle()
    log.write(2)
    monkeypatch.setattr(sequence, "advance", advance)
    size = log.sequencer.round(datetime.now(UTC))
    assert query("SELECT max(size) FROM audit_checkpoint") == [(size,)]
    assert query("SELECT count(*) FROM audit_pending") == [(1,)]


@pytest.mark.parametrize("fresh", [False, True], ids=["running", "started again"])
def test_a_rewritten_tail_is_not_signed(log: Log, tamper, fresh):
    log.write(3)
    size = log.settle()
    tamper(("UPDATE audit_leaf SET hash = sha256('x') WHERE index = %s", [size - 1]))
    log.write()
    sequencer = Sequencer.from_settings() if fresh else log.sequencer
    with pytest.raises(SignerRefused, match="the log forked"):
        sequencer.round(datetime.now(UTC))
    assert query("SELECT size FROM audit_head") == [(size,)]


def test_a_rewritten_beginning_is_not_signed_by_a_signer_that_starts(log: Log, tamper):
    log.write(3)
    log.settle()
    tamper("UPDATE audit_leaf SET hash = sha256('x') WHERE index = 0")
    log.write()
    with pytest.raises(SignerRefused):
        Sequencer.from_settings().round(datetime.now(UTC))


def test_a_record_changed_between_its_place_and_its_signature_is_not_signed(log: Log, tamper):
    (victim,) = log.write()
    sequence.drain()
    tamper(("UPDATE audit_event SET body = replace(body, '\"ok\"', '\"no\"') WHERE id = %s", [victim]))
    with pytest.raises(SignerRefused, match=str(victim)):
        log.settle()


def test_a_signer_that_lost_its_memory_is_bound_by_what_was_published(log: Log, tamper):
    log.write(3)
    log.settle()
    (settings.AUDIT_KEY_DIR / "signer.json").unlink()
    Log().settle()  # the log is whole: it goes on
    (settings.AUDIT_KEY_DIR / "signer.json").unlink()
    tamper("UPDATE audit_leaf SET hash = sha256('x') WHERE index = 1")
    with pytest.raises(SignerRefused):
        Log().settle()


def test_a_damaged_memory_is_not_taken_for_none(log: Log):
    log.write()
    log.settle()
    (settings.AUDIT_KEY_DIR / "signer.json").write_text('{"size": 3, "edge": []}')
    log.write()
    with pytest.raises(SignerRefused, match="state"):
        log.settle()


def test_the_log_of_another_key_is_refused(log: Log, tmp_path: Path):
    log.write()
    log.settle()
    other = Signer(create_key(tmp_path / "other", settings.AUDIT_ORIGIN), tmp_path / "other")
    with pytest.raises(SignerRefused, match="another key"):
        Sequencer(other, Publisher(tmp_path / "elsewhere", other.key.verifier.vkey, bytes(32))).open_log()


# publishing


def test_a_half_line_that_a_crash_left_is_dropped(log: Log):
    log.write()
    log.settle()
    path = settings.AUDIT_PUBLISH_DIR / "checkpoints.jsonl"
    whole = path.read_text()
    with path.open("a") as file:
        file.write('{"at": "20')
    again = Log()
    again.write()
    again.settle()
    assert path.read_text().startswith(whole)
    assert again.report().findings == []


def test_the_published_folder_has_what_a_stranger_needs(log: Log):
    log.write()
    log.settle()
    assert {path.name for path in settings.AUDIT_PUBLISH_DIR.iterdir()} == {
        "checkpoint",
        "checkpoint.vkey",
        "checkpoints.jsonl",
        "enrolment.keys",
        "tile",
    }


# heartbeats and status


def test_the_log_beats_once_a_minute(log: Log):
    assert log.sequencer.beat_when_due(1000.0)
    assert not log.sequencer.beat_when_due(1000.0 + HEARTBEAT_S - 1)
    assert log.sequencer.beat_when_due(1000.0 + HEARTBEAT_S)


def test_status_says_how_the_log_is_doing(log: Log):
    assert (status()["healthy"], status()["message"]) == (True, "The log is empty.")
    log.write(2)
    assert status()["pending"] == 3
    size = log.settle()
    told = status()
    assert (told["size"], told["pending"], told["checkpoint_size"], told["healthy"]) == (size, 0, size, True)
    assert told["root"] in (settings.AUDIT_PUBLISH_DIR / "checkpoint").read_text()
    later = datetime.now(UTC) + timedelta(minutes=10)
    assert not status(later)["healthy"]
    assert "10 min old" in status(later)["message"]
    log.write()
    assert "wait" in status(later)["message"]
    assert json.dumps(told)


# the process


@pytest.fixture
def process(log: Log) -> Iterator[subprocess.Popen[str]]:
    name = connection.settings_dict
    url = f"postgresql://{name['USER']}:{name['PASSWORD']}@{name['HOST']}:{name['PORT']}/{name['NAME']}"
    environ = {
        **os.environ,
        "DATABASE_URL": url,
        "AUDIT_KEY_DIR": str(settings.AUDIT_KEY_DIR),
        "AUDIT_PUBLISH_DIR": str(settings.AUDIT_PUBLISH_DIR),
        "LOG_FORMAT": "json",
    }
    running = subprocess.Popen(
        [sys.executable, "manage.py", "audit_sequencer"], cwd=REPOSITORY, env=environ, stderr=subprocess.PIPE, text=True
    )
    yield running
    if running.poll() is None:
        running.kill()
    running.wait(60)
    assert running.stderr is not None
    running.stderr.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_signs_what_is_written_and_ends_cleanly_on_a_signal(log: Log, process, number):
    log.write(3)
    _until(lambda: status()["checkpoint_size"] and status()["pending"] == 0, seconds=60)
    (identifier,) = log.write()
    began = time.monotonic()
    _until(
        lambda: query(
            "SELECT EXISTS (SELECT FROM audit_checkpoint c, audit_leaf l WHERE l.event_id = %s AND c.size > l.index)",
            identifier,
        )[0][0]
    )
    assert time.monotonic() - began < 20
    process.send_signal(number)
    assert process.wait(60) == 0
    assert log.report().findings == []


def test_the_process_outlives_the_loss_of_its_connections(log: Log, process):
    log.write()
    _until(lambda: status()["checkpoint_size"], seconds=60)
    for _ in range(3):
        query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        (identifier,) = log.write()
        _until(lambda last=identifier: query("SELECT EXISTS (SELECT FROM audit_leaf WHERE event_id = %s)", last)[0][0])
    assert process.poll() is None
    process.terminate()
    assert process.wait(60) == 0
    assert log.report().findings == []
