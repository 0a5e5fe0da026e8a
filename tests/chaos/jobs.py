"""Jobs for the chaos tests, and what must be true of them in the end."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from tests.stack import Stack, wait_until

DONE = {"succeeded", "failed", "cancelled"}
SLOW = "import sys, time\ntime.sleep(float(sys.argv[2]))\nopen(sys.argv[1], 'a').write('ran\\n')\n"


def submit(stack: Stack, steps: Sequence[dict[str, object]]) -> str:
    """The id of a new job on the sample repository."""
    with closing(stack.client()) as client:
        answer = client.post("/api/v1/jobs", json={"steps": list(steps), "repository": "sample", "title": "chaos"})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])


def plan(count: int = 4, *, each_s: float = 1.5) -> list[dict[str, object]]:
    """Each shell step appends to a file of its own, slowly enough to be killed in the middle; then all are committed."""
    steps: list[dict[str, object]] = [
        {"key": "script", "tool": "files.write", "arguments": {"path": "slow.py", "content": SLOW}}
    ]
    names = [f"{n}.txt" for n in range(count)]
    for n, name in enumerate(names):
        arguments = {"argv": ["python3", "slow.py", name, str(each_s)]}
        needs = [f"write-{n - 1}"] if n else ["script"]
        steps.append({"key": f"write-{n}", "tool": "shell.exec", "arguments": arguments, "needs": needs})
    last = [f"write-{count - 1}"]
    steps.append({"key": "add", "tool": "git.add", "arguments": {"paths": names}, "needs": last})
    steps.append({"key": "commit", "tool": "git.commit", "arguments": {"message": "Chaos"}, "needs": ["add"]})
    steps.append({"key": "log", "tool": "git.log", "arguments": {}, "needs": ["commit"]})
    return steps


def state_of(stack: Stack, job: str) -> str:
    return str(stack.query("SELECT state FROM agents_job WHERE id = %s", job)[0][0])


def step_of(stack: Stack, job: str, key: str) -> dict[str, Any]:
    found = stack.query("SELECT to_jsonb(s) FROM agents_step s WHERE job_id = %s AND key = %s", job, key)
    return found[0][0] if found else {}


def attempts(stack: Stack, job: str, key: str) -> list[str]:
    """How the attempts of a step ended, the first one first."""
    rows = stack.query(
        "SELECT a.outcome FROM agents_attempt a JOIN agents_step s ON s.id = a.step_id"
        " WHERE s.job_id = %s AND s.key = %s ORDER BY a.number",
        job,
        key,
    )
    return [row[0] for row in rows]


def wait_for_step(stack: Stack, job: str, key: str, state: str, *, timeout_s: float = 40) -> dict[str, Any]:
    wait_until(
        lambda: step_of(stack, job, key).get("state") == state, timeout_s=timeout_s, why=f"{key} of {job} is {state}"
    )
    return step_of(stack, job, key)


def wait_for_running(stack: Stack, job: str, queue: str) -> None:
    sql = "SELECT 1 FROM agents_step WHERE job_id = %s AND state = 'running' AND queue = %s"
    wait_until(lambda: stack.query(sql, job, queue), timeout_s=60, why=f"a step of {job} runs on {queue}")


def wait_for_end(stack: Stack, job: str, *, timeout_s: float = 120) -> str:
    wait_until(lambda: state_of(stack, job) in DONE, timeout_s=timeout_s, why=f"job {job} ends")
    return state_of(stack, job)


def assert_finished_once(stack: Stack, job: str) -> None:
    """The job succeeded, each step in one attempt, and its commit stands in the history once."""
    state = wait_for_end(stack, job)
    steps = stack.query("SELECT key, state, error FROM agents_step WHERE job_id = %s ORDER BY seq", job)
    assert state == "succeeded", steps
    for key, _, _ in steps:
        assert attempts(stack, job, key).count("succeeded") == 1, (key, attempts(stack, job, key))
    log = step_of(stack, job, "log")["result"]
    assert log["text"].count("Chaos") == 1, "one commit, however often its worker died"
