"""Real kills on the running stack: nothing is lost, nothing is doubled."""

import pytest
import redis

from tests.chaos.jobs import (
    assert_finished_once,
    attempts,
    plan,
    state_of,
    submit,
    wait_for_running,
)
from tests.stack import Stack, wait_until

pytestmark = [pytest.mark.timeout(400), pytest.mark.chaos]

LEASE_S = 10  # of the stack fixture
STALLS_S = 15  # of a busy machine


@pytest.mark.parametrize("worker", ["worker-shell", "worker-git", "worker-control", "worker-llm"])
def test_any_worker_killed_in_mid_job_loses_and_doubles_nothing(stack: Stack, worker: str):
    queue = worker.removeprefix("worker-")
    job = submit(stack, plan(4 if queue == "shell" else 2))
    if queue in {"shell", "git"}:
        wait_for_running(stack, job, queue)
    old = stack.kill(worker)
    stack.wait_for_restart(worker, old)
    assert_finished_once(stack, job)
    if queue == "shell":
        lost = stack.query(
            "SELECT s.key, extract(epoch FROM b.claimed_at - a.claimed_at)"
            " FROM agents_attempt a JOIN agents_attempt b ON b.step_id = a.step_id AND b.number = a.number + 1"
            " JOIN agents_step s ON s.id = a.step_id WHERE s.job_id = %s AND a.outcome = 'lost'",
            job,
        )
        assert lost, "the kill hit a running step"
        # from its last renewal, which is at most a second after the claim that was killed
        assert max(float(seconds) for _, seconds in lost) <= LEASE_S + 1 + STALLS_S, f"recovered late: {lost}"


def test_redis_emptied_in_mid_job_loses_and_doubles_nothing(stack: Stack):
    job = submit(stack, plan(2))
    wait_for_running(stack, job, "shell")
    with redis.Redis.from_url(stack.redis_url) as client:
        client.flushall()
    assert_finished_once(stack, job)
    assert attempts(stack, job, "write-0") == ["succeeded"]


@pytest.mark.parametrize("name", ["sweeper", "sequencer"])
def test_the_loops_come_back_and_the_log_is_whole(stack: Stack, name: str):
    old = stack.kill(name)
    job = submit(stack, plan(1))
    stack.wait_for_restart(name, old)
    wait_until(lambda: state_of(stack, job) == "succeeded", timeout_s=60, why="the job ends")
    wait_until(lambda: stack.manage("audit_verify").returncode == 0, timeout_s=60, why="the log is whole")
