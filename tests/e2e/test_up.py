"""The running stack: what bin/up promises while it runs."""

import json
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import psycopg
import pytest

from config.devstack.places import REPOSITORY
from tests.e2e.starting import run_up
from tests.stack import Stack, wait_until

WORKERS = {"worker-llm", "worker-shell", "worker-git", "worker-mcp", "worker-control"}
OTHERS = {"web", "sweeper", "sequencer", "beat", "flower", "scripted-llm", "postgres", "redis"}
ONE_GB = 1_000_000_000


def test_the_banner_says_where_everything_is_and_that_this_is_development(stack: Stack) -> None:
    said = stack.said()
    assert "development, not production" in said
    for fact in (
        f"{stack.base_url}/",
        f"admin / {stack.admin_password}",
        f"{stack.base_url}/mailbox/",
        f"{stack.base_url}/flower/",
        str(stack.folder),
        "SCRIPTED",
        "Ctrl-C",
    ):
        assert fact in said


def test_each_part_is_a_process_and_every_queue_has_a_worker(stack: Stack) -> None:
    assert set(stack.pids()) == WORKERS | OTHERS
    rows = stack.query("SELECT name, queues, pid FROM agents_workerprocess WHERE stopped_at IS NULL")
    served = {queue for _, queues, _ in rows for queue in queues}
    assert served >= {"llm", "shell", "files", "git", "mcp", "control"}


def test_secrets_are_closed_to_others_and_stand_in_no_argument(stack: Stack) -> None:
    files = list((stack.folder / "secrets").iterdir())
    secrets = [path.read_text().strip() for path in files]
    assert len(files) >= 5
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    for name, pid in [*stack.pids().items(), ("supervisor", stack.supervisor_pid)]:
        arguments = Path(f"/proc/{pid}/cmdline").read_text()
        assert not [secret for secret in secrets if secret in arguments], name


def test_the_processes_use_a_role_that_cannot_touch_the_log(stack: Stack) -> None:
    assert stack.query("SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user") == [
        ("countersign", False)
    ]
    with psycopg.connect(stack.database_url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("UPDATE audit_event SET body = body")


def test_the_password_of_the_banner_signs_in_as_admin(signed_in: httpx2.Client) -> None:
    assert signed_in.get("/").status_code == 200
    assert signed_in.get("/admin/").status_code == 200


def test_static_files_are_served(stack: Stack) -> None:
    answer = httpx2.get(f"{stack.base_url}/static/countersign/app.css", trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/css")


def test_flower_shows_the_workers_to_staff_alone(stack: Stack, signed_in: httpx2.Client) -> None:
    shown = wait_until(lambda: [row["hostname"] for row in signed_in.get("/flower/workers?json=1").json()["data"]])
    assert any(name.startswith("git@") for name in shown)
    stranger = httpx2.get(f"{stack.base_url}/flower/", trust_env=False)
    assert stranger.status_code == 302 and stranger.headers["location"].startswith("/accounts/login/")


def test_doctor_finds_nothing_to_mend(stack: Stack) -> None:
    done = stack.manage("doctor", "--json")
    report = json.loads(done.stdout)
    assert [finding for finding in report["findings"] if finding["level"] == "fail"] == []
    assert done.returncode == 0


def test_a_command_in_another_shell_finds_the_running_stack_by_its_data_folder(stack: Stack) -> None:
    """Nothing but the folder is given: the rest stands in it."""
    environ = {"PATH": os.environ["PATH"], "COUNTERSIGN_DATA_DIR": str(stack.folder)}
    done = subprocess.run(
        [sys.executable, "manage.py", "doctor", "--json"],
        cwd=REPOSITORY,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_second_start_on_the_same_folder_says_where_the_first_runs(stack: Stack) -> None:
    done = run_up("--data-dir", str(stack.folder), "--port", "1")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"countersign: Countersign already runs at {stack.base_url} (pid {stack.supervisor_pid}); "
        "stop it with bin/down, or give another --data-dir."
    )


def test_the_idle_stack_takes_less_than_a_gigabyte(stack: Stack, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "bench/memory.py", "--json", str(tmp_path / "figures.json"), "--data-dir", str(stack.folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    memory, processes = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert processes["value"] >= len(WORKERS | OTHERS)
    assert memory["ok"] and 0 < memory["value"] < ONE_GB / 2**20


def test_a_burst_of_requests_shares_few_database_connections(stack: Stack, signed_in: httpx2.Client) -> None:
    with ThreadPoolExecutor(20) as many:
        codes = list(many.map(lambda _: signed_in.get("/jobs/").status_code, range(100)))
    assert set(codes) == {200}
    ((count,),) = stack.query("SELECT count(*) FROM pg_stat_activity WHERE usename = 'countersign'")
    assert count < 60  # the server's limit is 120


def test_a_killed_web_server_comes_back(stack: Stack) -> None:
    old = stack.kill("web")
    stack.wait_for_restart("web", old)
    wait_until(lambda: healthy(stack), why="the new web server answers")


def test_health_tells_when_redis_hangs_and_when_it_is_back(stack: Stack) -> None:
    stack.kill("redis", signal.SIGSTOP)
    try:
        answer = httpx2.get(f"{stack.base_url}/healthz", trust_env=False, timeout=20)
        assert answer.status_code == 503
        assert answer.json() == {"status": "failed", "database": "ok", "redis": "failed"}
    finally:
        stack.kill("redis", signal.SIGCONT)
    wait_until(lambda: healthy(stack))


def test_a_killed_postgresql_comes_back_with_its_data_and_everybody_reconnects(stack: Stack) -> None:
    before = stack.query("SELECT count(*) FROM auth_user")
    old = stack.kill("postgres")
    stack.wait_for_restart("postgres", old)
    wait_until(lambda: healthy(stack), why="the web server is connected again")
    assert stack.query("SELECT count(*) FROM auth_user") == before
    for name in WORKERS | {"sweeper", "sequencer"}:
        wait_until(lambda name=name: name in stack.pids(), why=f"{name} runs")


def healthy(stack: Stack) -> bool:
    try:
        return httpx2.get(f"{stack.base_url}/healthz", trust_env=False, timeout=5).status_code == 200
    except httpx2.TransportError:
        return False
