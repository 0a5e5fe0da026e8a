"""A worker of the queue `mcp`: calls of a job share a server, and the worker's end is the server's end."""

import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from agents.models import Job, Step
from agents.states import StepState
from tests.factories import mcp_servers as servers
from tests.factories.policies import publish
from tests.integration.agents.test_engine import step, submit
from tests.integration.agents.worker import worker
from tests.stack import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def folder():
    made = Path(tempfile.mkdtemp(prefix="countersign-mcp-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def of_this_folder(folder: Path) -> list[int]:
    """Processes that run the server's program."""
    found = []
    for place in Path("/proc").iterdir():
        try:
            if place.name.isdigit() and str(folder).encode() in (place / "cmdline").read_bytes():
                found.append(int(place.name))
        except OSError:
            continue
    return found


def test_calls_of_a_job_share_a_server_that_ends_with_the_worker(folder):
    servers.look(servers.told(folder))
    servers.enable("mcp.told.count", "mcp.told.around")
    publish(("mcp.*", "allow"))
    with worker("mcp", ["mcp"]) as (process, _):
        job = submit(step("a", "mcp.told.count"), step("b", "mcp.told.count", "a"), step("c", "mcp.told.around", "b"))
        wait_until(lambda: Job.objects.get(pk=job.pk).finished_at is not None, timeout_s=120, why="the job ends")
        found = {one.key: one for one in Step.objects.filter(job=job)}
        assert {one.state for one in found.values()} == {StepState.SUCCEEDED}, [one.error for one in found.values()]
        assert [found[key].result["text"] for key in "ab"] == ["1", "2"]
        around = json.loads(found["c"].result["text"])
        assert "DATABASE_URL" not in around["env"]
        assert of_this_folder(folder), "the session is open, for the job's next call"
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: not of_this_folder(folder), timeout_s=30, why="the server is gone with its worker")
