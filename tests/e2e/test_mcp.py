"""An MCP client of a stranger's against the whole stack: what is allowed runs, what needs people waits for them."""

import json

import httpx2
import pytest

from tests.factories.mcp.outside import outside
from tests.stack import Stack, wait_until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def token(stack: Stack) -> str:
    scopes = ("--scope", "jobs:read", "--scope", "jobs:write", "--scope", "approvals:read")
    made = stack.manage("token", "create", "--user", "admin", "--name", "mcp", "--json", *scopes)
    assert made.returncode == 0, made.stderr
    return str(json.loads(made.stdout)["token"])


def test_what_policy_allows_runs_and_what_it_asks_about_waits(stack: Stack, signed_in: httpx2.Client, token: str):
    with outside(stack.base_url, token) as client:

        def settled(job: str) -> dict[str, object] | None:
            seen = client.call("wait_job", job=job, timeout_s=20)
            return seen if seen["done"] or seen["state"] == "waiting" else None

        echo = client.call("shell__exec", argv=["echo", "from outside"], _wait_s=0)["job"]
        asked = client.call("http__fetch", url="https://example.org/", _reason="to read it", _wait_s=0)["job"]
        seen = wait_until(lambda: settled(echo), timeout_s=120, why="the command ends")
        assert seen["state"] == "succeeded", seen
        assert "from outside" in client.call("get_step", job=echo, key="call")["result"]["text"]

        waiting = wait_until(lambda: settled(asked), timeout_s=120, why="a person is asked")
        (request,) = waiting["waits_for"]
        assert waiting["state"] == "waiting" and request["job"] == asked
        assert request in client.call("list_approvals")["approvals"]
        assert signed_in.get(request["page"].removeprefix(stack.base_url)).status_code == 200
        assert client.call("cancel_job", job=asked)["state"] == "cancelled"
