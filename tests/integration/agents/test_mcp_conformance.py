"""The official conformance suite of MCP against `/mcp`, for both protocol eras."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from django.utils import timezone

from agents import tokens
from agents.models import ApiToken
from audit.actor import Actor
from config.devstack import nodepackages
from tests.factories.people import user
from tests.integration.agents.web import served

pytestmark = pytest.mark.django_db(transaction=True)

# Not required, and not passed: scenarios that the suite itself holds back.
PENDING: set[str] = set()
APPLICATION = "tests.factories.mcp.app:application"


@pytest.fixture(scope="module")
def suite() -> list[str]:
    """The suite's command. Without it the test is skipped, and fails with REQUIRE_MCP_SERVERS=1."""
    found = nodepackages.find("conformance")
    if found is None:
        why = f"the conformance suite is not installed: python -m config.devstack.nodepackages DIR, {nodepackages.FOLDER}=DIR"
        (pytest.fail if os.environ.get(nodepackages.REQUIRED) == "1" else pytest.skip)(why)
    return found


@pytest.fixture
def token() -> str:
    owner = user("ada")
    scopes = list(ApiToken.Scope.values)
    _, secret = tokens.create_token(
        user=owner, name="suite", scopes=scopes, now=timezone.now(), actor=Actor.user(owner.pk)
    )
    return secret


def run(suite: list[str], url: str, out: Path, *arguments: str) -> dict[str, dict[str, list[str]]]:
    """{scenario: {status: [check and what it said]}} of a run."""
    done = subprocess.run(
        [*suite, "server", "--url", url, "--output-dir", str(out), *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    found: dict[str, dict[str, list[str]]] = {}
    for path in out.glob("*/checks.json"):
        name = re.sub(r"^server-|-\d{4}-\d\d-\d\dT.*$", "", path.parent.name)
        for check in json.loads(path.read_text()):
            said = f"{check['id']}: {check.get('errorMessage') or ''}"
            found.setdefault(name, {}).setdefault(check["status"], []).append(said)
    assert found, done.stdout[-3000:] + done.stderr[-3000:]
    return found


@pytest.mark.parametrize(("revision", "stateless"), [("2025-11-25", "false"), ("2026-07-28", "true")])
def test_conformance(suite, token, tmp_path, revision, stateless):
    with served(application=APPLICATION, MCP_FIXTURE_TOKEN=token, MCP_STATELESS=stateless) as server:
        found = run(suite, f"{server.url}/mcp", tmp_path, "--requirements", revision)
    required = requirements(suite, revision)
    assert required <= set(found), f"did not run: {required - set(found)}"
    failed = {name: states["FAILURE"] for name, states in found.items() if "FAILURE" in states}
    assert not {name: said for name, said in failed.items() if name not in PENDING}
    untried = {name for name in required if not found[name].get("SUCCESS")}
    assert not untried


def requirements(suite: list[str], revision: str) -> set[str]:
    """The scenarios that a server of this revision must pass, as the suite itself lists them."""
    listed = yaml.safe_load((Path(suite[-1]).parents[1] / "requirements" / f"{revision}.yaml").read_text())
    return set(listed["server"])
