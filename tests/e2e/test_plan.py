"""Plans submitted by API: ten steps over the queues, and what a hostile step gets."""

import json
from typing import Any

import httpx2
import pytest

from tests.stack import Stack, wait_until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def token(stack: Stack) -> str:
    made = stack.manage(
        *("token", "create", "--user", "admin", "--name", "tests", "--json"),
        *("--scope", "jobs:read", "--scope", "jobs:write"),
    )
    assert made.returncode == 0, made.stderr
    return str(json.loads(made.stdout)["token"])


@pytest.fixture
def api(stack: Stack, token: str):
    headers = {"Authorization": f"Bearer {token}"}
    with httpx2.Client(base_url=f"{stack.base_url}/api/v1", headers=headers, trust_env=False, timeout=30) as client:
        yield client


def run(api: httpx2.Client, steps: list[dict[str, Any]], **more: Any) -> tuple[str, str]:
    """Submits a plan and waits for its end: (job's id, state)."""
    made = api.post("/jobs", json={"steps": steps, "title": "a plan", **more})
    assert made.status_code == 201, made.text
    job = str(made.json()["id"])
    state = wait_until(
        lambda: (now := api.get(f"/jobs/{job}").json()["state"]) in {"succeeded", "failed", "cancelled"} and now,
        timeout_s=120,
        why=f"job {job} ends",
    )
    return job, str(state)


def shell(key: str, *argv: str, needs: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"key": key, "tool": "shell.exec", "arguments": {"argv": list(argv)}, "needs": list(needs)}


def file(key: str, path: str, content: str, needs: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"key": key, "tool": "files.write", "arguments": {"path": path, "content": content}, "needs": list(needs)}


def test_ten_steps_over_shell_and_git_each_on_its_queue(stack: Stack, api: httpx2.Client):
    steps = [
        {"key": "s1", "tool": "git.status", "arguments": {}},
        shell("s2", "ls", "-la", needs=("s1",)),
        {"key": "s3", "tool": "git.log", "arguments": {}, "needs": ["s1"]},
        {"key": "s4", "tool": "git.checkout", "arguments": {"ref": "ten", "create": True}, "needs": ["s2", "s3"]},
        file("s5", "ten.txt", "10", needs=("s4",)),
        shell("s6", "cat", "ten.txt", needs=("s5",)),
        {"key": "s7", "tool": "git.add", "arguments": {"paths": ["ten.txt"]}, "needs": ["s6"]},
        {"key": "s8", "tool": "git.commit", "arguments": {"message": "Ten"}, "needs": ["s7"]},
        {"key": "s9", "tool": "git.show", "arguments": {}, "needs": ["s8"]},
        shell("s10", "wc", "-c", "ten.txt", needs=("s9",)),
    ]
    job, state = run(api, steps, repository="sample")
    listed = api.get(f"/jobs/{job}/steps").json()
    assert state == "succeeded", listed
    ran = stack.query(
        "SELECT s.key, s.queue, a.queue, a.worker, a.task_id FROM agents_attempt a"
        " JOIN agents_step s ON s.id = a.step_id WHERE s.job_id = %s",
        job,
    )
    assert len(ran) == 11  # the ten, and the clone
    for key, declared, consumed, worker, task_id in ran:
        assert declared == consumed, key
        group = "shell" if consumed == "files" else consumed
        assert worker.startswith(f"{group}@"), (key, worker)
        assert task_id, key


ATTACKS = {
    "write-outside": "open('/usr/countersign-was-here', 'w')",
    "parent-environment": "import os\nprint('LEAK', open(f'/proc/{os.getppid()}/environ').read() or 1/0)",
    "any-environment": (
        "import glob, sys\nfor path in glob.glob('/proc/[0-9]*/environ'):\n"
        "    try:\n        text = open(path).read()\n    except OSError:\n        continue\n"
        "    if 'DATABASE_URL' in text or 'SECRET_KEY' in text:\n        print('LEAK', text)\n"
        "sys.exit('nothing to see')"
    ),
    "tcp": "import socket\nsocket.create_connection(('127.0.0.1', {port}), 3)\nprint('CONNECTED')",
    "udp": "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.sendto(b'x', ('127.0.0.1', 9))",
    "unix": "import socket\nsocket.socket(socket.AF_UNIX).connect('/var/run/docker.sock')",
}
MEANT = {
    "write-outside": ("Permission denied", "Read-only file system"),
    "parent-environment": ("Permission denied", "No such file", "ZeroDivisionError"),
    "any-environment": ("nothing to see",),
    "tcp": ("Operation not permitted", "Permission denied", "unreachable", "refused"),
    "udp": ("Operation not permitted", "Permission denied", "unreachable"),
    "unix": ("Operation not permitted", "Permission denied"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_program_fails_inside_and_the_step_says_so(stack: Stack, api: httpx2.Client, name: str):
    steps = [
        file("write", "attack.py", ATTACKS[name].replace("{port}", str(stack.port))),
        shell("attack", "python3", "attack.py", needs=("write",)),
    ]
    job, state = run(api, steps)
    assert state == "failed"
    rows = stack.query("SELECT state, error, result FROM agents_step WHERE job_id = %s AND key = 'attack'", job)
    state, error, result = rows[0]
    said = json.dumps(result)
    assert state == "failed"
    assert "LEAK" not in said.replace("print('LEAK'", "")
    assert "CONNECTED" not in said.replace("print('CONNECTED'", "")
    assert result["exit_code"] not in (0, None), (error, result)
    assert any(words in said for words in MEANT[name]), said
    assert result["sandbox"]["tier"] in {"bwrap", "ns", "ll"}
    assert error


def test_a_high_risk_command_asks_and_runs_what_was_approved(stack: Stack):
    step = shell("inline", "python3", "-c", "print(6 * 7)")
    made = stack.manage("submit", "--plan", "-", "--as", "demo", "--json", stdin=json.dumps([step]))
    assert made.returncode == 0, made.stdout + made.stderr
    job = json.loads(made.stdout)["job"]
    sql = "SELECT id, command FROM approvals_approvalrequest WHERE parent_id = %s AND state = 'pending'"
    request, command = wait_until(lambda: stack.query(sql, job), why="it asks")[0]
    assert command == "python3 -c 'print(6 * 7)'"
    assert stack.manage("approve", str(request), "--as", "admin").returncode == 0
    result = wait_until(
        lambda: stack.query("SELECT result FROM agents_step WHERE job_id = %s AND state = 'succeeded'", job),
        why="it runs",
    )[0][0]
    assert "42" in result["text"]
