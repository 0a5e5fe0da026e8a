"""Servers that go away and come back, and workers that are stopped, on the running stack."""

import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from config.devstack import runfile
from tests.chaos.jobs import (
    assert_finished_once,
    attempts,
    plan,
    step_of,
    submit,
    wait_for_end,
    wait_for_running,
    wait_for_step,
)
from tests.stack import Stack, wait_until

pytestmark = [pytest.mark.timeout(400), pytest.mark.chaos]


def healthy(stack: Stack) -> bool:
    try:
        return httpx2.get(f"{stack.base_url}/healthz", trust_env=False, timeout=10).status_code == 200
    except httpx2.HTTPError:
        return False


def commands_with(word: str) -> list[int]:
    """Processes that have `word` among their arguments."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if word.encode() in words:
                found.append(int(folder.name))
    return found


@contextmanager
def stopped(stack: Stack, name: str) -> Iterator[int]:
    """The process stands still (SIGSTOP) until the end of the block."""
    pid = stack.kill(name, signal.SIGSTOP)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)


def test_postgresql_restarted_in_mid_job_loses_no_step_and_every_process_recovers(stack: Stack):
    wait_until(lambda: runfile.read(stack.folder).state == "announced", timeout_s=60, why="the stack has come up")
    job = submit(stack, plan(3))
    wait_for_running(stack, job, "shell")
    before = stack.pids()
    stack.kill("postgres", signal.SIGINT)  # its fast shutdown: every connection is cut
    stack.wait_for_restart("postgres", before["postgres"])
    wait_until(lambda: healthy(stack), timeout_s=60, why="the web process answers again")
    assert_finished_once(stack, job)
    assert attempts(stack, job, "write-0") == ["succeeded"], "a restart shorter than the lease costs no attempt"
    wait_until(lambda: stack.manage("audit_verify").returncode == 0, timeout_s=60, why="the log is whole")
    after = stack.pids()
    workers = [name for name in before if name.startswith("worker-")]
    assert {name: after.get(name) for name in workers} == {name: before[name] for name in workers}, "no worker died"


def test_redis_that_does_not_answer_for_a_while_loses_and_doubles_nothing(stack: Stack):
    job = submit(stack, plan(3))
    wait_for_running(stack, job, "shell")
    seen = stack.log("sweeper").count("sweep.broker_unreachable")
    with stopped(stack, "redis"):
        wait_until(
            lambda: stack.log("sweeper").count("sweep.broker_unreachable") >= seen + 2,
            timeout_s=60,
            why="the sweeper has missed Redis in two passes",
        )
        wait_for_step(stack, job, "write-0", "succeeded")  # what runs goes on
    assert_finished_once(stack, job)
    assert attempts(stack, job, "write-0") == ["succeeded"]


def test_redis_restarted_empty_in_mid_job_loses_and_doubles_nothing(stack: Stack):
    job = submit(stack, plan(3))
    wait_for_running(stack, job, "shell")
    old = stack.kill("redis")
    stack.wait_for_restart("redis", old)
    assert_finished_once(stack, job)
    assert attempts(stack, job, "write-0") == ["succeeded"]


def test_a_worker_that_is_asked_to_stop_ends_what_runs_and_hands_on_the_rest(stack: Stack):
    """More steps than it has threads: those that it had taken and not begun run in its successor."""
    script = plan(1)[0]
    names = [f"slow-{n}" for n in range(10)]
    steps = [
        {
            "key": name,
            "tool": "shell.exec",
            "arguments": {"argv": ["python3", "slow.py", name, "3"]},
            "needs": ["script"],
        }
        for name in names
    ]
    job = submit(stack, [script, *steps])
    sql = "SELECT key FROM agents_step WHERE job_id = %s AND state = 'running' AND tool = 'shell.exec'"
    wait_until(lambda: len(stack.query(sql, job)) >= 3, timeout_s=60, why="several steps run")
    old = stack.kill("worker-shell", signal.SIGTERM)
    ran = {row[0] for row in stack.query(sql, job)}
    stack.wait_for_restart("worker-shell", old)
    begun = "SELECT s.key, s.state FROM agents_step s JOIN agents_attempt a ON a.step_id = s.id WHERE s.job_id = %s"
    ended = dict(stack.query(f"{begun} AND a.ended_at IS NOT NULL", job))
    assert ran <= set(ended), "it ended only when its steps had"
    assert wait_for_end(stack, job) == "succeeded"
    for name in names:
        assert attempts(stack, job, name) == ["succeeded"], name
    assert set(names) - set(ended), "something was left for its successor"


def test_a_worker_stopped_for_longer_than_its_lease_wakes_up_to_a_lost_step(stack: Stack):
    """Its late result is fenced, and the command that it left behind is killed with everything under it."""
    word = f"zombie-{uuid4().hex}"
    # the first attempt hangs with a child; later ones find its mark and end
    content = (
        "import os, subprocess, sys, time\n"
        "if os.path.exists('mark'):\n    sys.exit(0)\n"
        "open('mark', 'w').close()\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)', sys.argv[1]])\n"
        "time.sleep(300)\n"
    )
    job = submit(
        stack,
        [
            {"key": "script", "tool": "files.write", "arguments": {"path": "hang.py", "content": content}},
            {
                "key": "hang",
                "tool": "shell.exec",
                "arguments": {"argv": ["python3", "hang.py", word]},
                "needs": ["script"],
            },
        ],
    )
    wait_until(lambda: len(commands_with(word)) >= 2, timeout_s=60, why="the command and its child run")
    with stopped(stack, "worker-shell"):
        wait_until(lambda: attempts(stack, job, "hang") == ["lost"], timeout_s=60, why="the lease runs out")
        assert step_of(stack, job, "hang")["state"] == "queued"
    wait_until(lambda: not commands_with(word), timeout_s=60, why="nothing of the first attempt is left")
    assert wait_for_end(stack, job) == "succeeded"
    wait_until(
        lambda: attempts(stack, job, "hang") == ["late", "succeeded"], timeout_s=60, why="the late result is told"
    )


@pytest.fixture
def slow_remote(stack: Stack) -> Iterator[Path]:
    """The sample repository's remote takes 4 seconds after each push that it accepted, and counts them."""
    url = stack.query("SELECT url FROM agents_repository WHERE name = 'sample'")[0][0]
    remote = Path(url.removeprefix("file://"))
    hook, count = remote / "hooks" / "post-receive", remote / "pushes"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\necho pushed >> '{count}'\nsleep 4\n")
    hook.chmod(hook.stat().st_mode | stat.S_IXUSR)
    yield count
    hook.unlink()
    count.unlink(missing_ok=True)


def test_a_worker_killed_in_mid_push_is_followed_by_a_probe_and_no_second_push(stack: Stack, slow_remote: Path):
    branch = f"chaos-{uuid4().hex[:8]}"
    stack.manage("shell", "-c", APPROVER)
    job = submit(
        stack,
        [
            {"key": "branch", "tool": "git.checkout", "arguments": {"ref": branch, "create": True}},
            {"key": "push", "tool": "git.push", "arguments": {"branch": branch}, "needs": ["branch"]},
        ],
    )
    wait_for_step(stack, job, "push", "waiting_approval")
    answer = stack.manage("approve", step_of(stack, job, "push")["approval_id"], "--as", "chaos-approver")
    assert answer.returncode == 0, answer.stderr
    wait_until(slow_remote.exists, timeout_s=60, why="the remote has accepted the push")
    assert step_of(stack, job, "push")["state"] == "running"
    old = stack.kill("worker-git")
    stack.wait_for_restart("worker-git", old)
    assert wait_for_end(stack, job) == "succeeded"
    assert attempts(stack, job, "push") == ["lost"], "probed, not run again"
    assert "found at the remote" in step_of(stack, job, "push")["result"]["summary"]
    assert slow_remote.read_text().splitlines() == ["pushed"]


APPROVER = """
from django.contrib.auth.models import Group, User
user, _ = User.objects.get_or_create(username="chaos-approver")
user.groups.add(Group.objects.get(name="approvers"))
"""
