"""The shipped team against the whole stack: three agents, jobs of their own, one workspace, and an audit log that holds."""

import json
from typing import Any

import httpx2
import pytest

from tests.stack import Stack, wait_until

pytestmark = pytest.mark.timeout(300)

ENDED = {"succeeded", "failed", "cancelled", "compensated"}
READING = {"files.read", "files.list", "files.search", "git.status", "git.diff", "git.log", "git.show"}


@pytest.fixture(scope="module")
def api(stack: Stack):
    made = stack.manage(
        *("token", "create", "--user", "admin", "--name", "team", "--json"),
        *("--scope", "jobs:read", "--scope", "jobs:write"),
    )
    assert made.returncode == 0, made.stderr
    headers = {"Authorization": f"Bearer {json.loads(made.stdout)['token']}"}
    with httpx2.Client(base_url=f"{stack.base_url}/api/v1", headers=headers, trust_env=False, timeout=30) as client:
        yield client


def submit(api: httpx2.Client, payload: dict[str, Any]) -> str:
    made = api.post("/jobs", json={"repository": "sample", **payload})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def ended(api: httpx2.Client, job: str) -> dict[str, Any]:
    def look() -> dict[str, Any]:
        found = api.get(f"/jobs/{job}").json()
        return found if found["state"] in ENDED else {}

    return wait_until(look, timeout_s=240, why=f"job {job} ends")


def test_a_team_works_in_one_workspace_each_within_its_grant_and_the_reviewer_cannot_write(
    stack: Stack, api: httpx2.Client
):
    team = submit(api, {"workflow": "team", "inputs": {"goal": "make the tests pass", "branch": "team/cents"}})
    write = {"workflow": "ship", "inputs": {"branch": "team/never", "message": "No"}}
    reviewer = submit(api, {"agent": "reviewer", "steps": [{"key": "w", "tool": "job.workflow", "arguments": write}]})

    refused = ended(api, reviewer)
    assert refused["state"] == "failed"
    [ship] = api.get(f"/jobs?parent={reviewer}").json()["results"]
    branch = api.get(f"/jobs/{ship['id']}/steps/branch").json()
    assert (branch["state"], branch["error_code"]) == ("refused", "beyond_grant")
    assert set(api.get(f"/jobs/{ship['id']}").json()["grant"][0]) == READING

    job = ended(api, team)
    assert job["state"] == "succeeded", (job["outcome"], api.get(f"/jobs/{team}/steps").json())
    assert (job["outputs"]["verdict"], job["outputs"]["rounds"]) == ("approve", 2)
    children = [api.get(f"/jobs/{child}").json() for child in job["children"]]
    told = [(child["parent_step"], child["agent"], child["state"]) for child in children]
    assert told == [
        ("research", "researcher", "succeeded"),
        ("code", "coder", "succeeded"),
        ("review", "reviewer", "succeeded"),
        ("code-again", "coder", "succeeded"),
        ("review-again", "reviewer", "succeeded"),
    ]
    for child in children:
        assert set(child["grant"][0]) == READING or child["agent"] == "coder"
        assert (child["parent"], child["depth"]) == (team, 1)
    assert job["tokens_used"] == sum(child["tokens_used"] for child in children) > 0

    folders = stack.query(
        "SELECT DISTINCT coalesce(s.workspace_of, s.job_id) FROM agents_step s JOIN agents_job j ON j.id = s.job_id"
        " WHERE (j.id = %s OR j.parent_id = %s) AND s.tool LIKE 'git.%%'",
        *(team, team),
    )
    assert [str(one) for (one,) in folders] == [team]
    commits = stack.query(
        "SELECT j.parent_step_id IS NOT NULL, a.name FROM agents_step s JOIN agents_job j ON j.id = s.job_id"
        " JOIN agents_agent a ON a.id = j.agent_id WHERE j.parent_id = %s AND s.tool = 'git.commit'",
        team,
    )
    assert commits == [(True, "coder"), (True, "coder")]
    wait_until(lambda: stack.manage("audit_verify").returncode == 0, timeout_s=60, why="the log is whole")
