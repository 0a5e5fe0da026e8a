"""Starts and ends of the stack: it leaves nothing behind, and comes back with what it had."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from config.devstack import runfile
from config.devstack.linux import started_at
from config.devstack.places import free_port
from tests.e2e.starting import run_down, run_up
from tests.stack import Stack, clean_environment, remove_tree, wait_until

SECOND_START_S = 25.0  # about 3 on a quiet machine


@pytest.fixture
def folder(shared_tmp: Path) -> Iterator[Path]:
    yield shared_tmp / "life"
    run_down("--data-dir", str(shared_tmp / "life"))
    remove_tree(shared_tmp / "life")


def descendants(pid: int) -> list[int]:
    script = "import sys; sys.path.insert(0, 'bench'); import memory; print(*memory.tree(int(sys.argv[1])))"
    done = subprocess.run([sys.executable, "-c", script, str(pid)], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def gone(pids: list[int]) -> bool:
    return all(started_at(pid) is None for pid in pids)


def test_detach_returns_with_the_banner_and_down_ends_everything(folder: Path) -> None:
    port = free_port()
    done = run_up("--detach", "--no-demo", "--data-dir", str(folder), "--port", str(port), timeout_s=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "development, not production" in done.stdout and "bin/down" in done.stdout
    running = runfile.read(folder)
    assert running is not None and running.alive
    everyone = descendants(running.pid)
    assert len(everyone) > 12
    down = run_down("--data-dir", str(folder))
    assert (down.returncode, down.stdout.strip()) == (0, "Stopped.")
    assert gone(everyone)
    assert run_down("--data-dir", str(folder)).returncode == 0


def test_ctrl_c_ends_everything_and_a_second_start_is_quick_and_keeps_all(folder: Path) -> None:
    first = Stack(folder, demo=False).start()
    password, users = first.admin_password, first.query("SELECT count(*) FROM auth_user")
    everyone = descendants(first.supervisor_pid)
    os.kill(first.supervisor_pid, signal.SIGINT)
    wait_until(lambda: gone(everyone), why="Ctrl-C left nothing")
    began = time.monotonic()
    second = Stack(folder, demo=False).start()
    took_s = time.monotonic() - began
    try:
        assert took_s < SECOND_START_S
        assert (second.admin_password, second.query("SELECT count(*) FROM auth_user")) == (password, users)
        second.client().close()
    finally:
        assert second.stop() == {}


def test_manage_py_up_is_the_same_and_starts_servers_of_its_own_again(folder: Path) -> None:
    """It has read the settings of the run before, whose servers are gone."""
    argv = [sys.executable, "manage.py", "up", "--detach", "--no-demo", "--data-dir", str(folder), "--port"]
    for _ in range(2):
        done = subprocess.run(
            [*argv, str(free_port())],
            env=clean_environment(COUNTERSIGN_DATA_DIR=str(folder)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        running = runfile.read(folder)
        assert running is not None and {"postgres", "redis", "web"} <= set(running.processes)
        assert run_down("--data-dir", str(folder)).returncode == 0


def test_sigkill_of_the_supervisor_leaves_no_process_and_the_next_start_works(folder: Path) -> None:
    first = Stack(folder, demo=False).start()
    everyone = descendants(first.supervisor_pid)
    os.kill(first.supervisor_pid, signal.SIGKILL)
    wait_until(lambda: gone(everyone[1:]), why="the kernel ended all of them")
    second = Stack(folder, demo=False).start()
    assert second.stop() == {}


def test_ctrl_c_while_it_starts_ends_it_in_order(folder: Path) -> None:
    stack = Stack(folder, demo=False)
    process = subprocess.Popen(
        [sys.executable, "-m", "config.devstack.up", "--no-demo", "--data-dir", str(folder), "--port", str(stack.port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=stack._environ,
    )
    wait_until(lambda: runfile.read(folder) is not None and len(descendants(process.pid)) > 2)
    everyone = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert gone(everyone)
    assert "Traceback" not in said


@pytest.fixture
def given_database() -> Iterator[tuple[str, str]]:
    """(URL as its owner, URL as a plain role) of a new database in the test run's server."""
    server = os.environ["DATABASE_URL"]
    base = server.rpartition("/")[0]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS given")
        connection.execute("CREATE DATABASE given")
        connection.execute("DROP ROLE IF EXISTS plain_app")
        connection.execute("CREATE ROLE plain_app LOGIN PASSWORD 'plain'")
    host = base.rpartition("@")[2]
    yield f"{base}/given", f"postgresql://plain_app:plain@{host}/given"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP DATABASE given WITH (FORCE)")
        connection.execute("DROP ROLE plain_app")


def test_a_given_database_and_redis_take_over(folder: Path, given_database: tuple[str, str], tmp_path: Path) -> None:
    """By file and by value; migrated as the owner, run as a plain role that the log is closed to."""
    owner, plain = given_database
    (tmp_path / "url").write_text(plain + "\n")
    stack = Stack(
        folder,
        demo=False,
        DATABASE_URL_FILE=str(tmp_path / "url"),
        DATABASE_OWNER_URL=owner,
        REDIS_URL=os.environ["REDIS_URL"].rpartition("/")[0] + "/9",
    ).start()
    try:
        assert not {"postgres", "redis"} & set(stack.pids())
        assert not (folder / "postgres").exists()
        with psycopg.connect(plain) as connection:
            assert connection.execute("SELECT count(*) FROM agents_workerprocess").fetchone() == (5,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("DELETE FROM audit_event")
    finally:
        assert stack.stop() == {}
