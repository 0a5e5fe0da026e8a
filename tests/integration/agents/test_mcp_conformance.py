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

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

APPLICATION = "tests.factories.mcp.app:application"
EVERY_MESSAGE = "wire-schema-valid"  # made beside a scenario's own checks
TRIES = 2  # more, of what fails
OLDER, NEWER = "2025-11-25", "2026-07-28"


@pytest.fixture(scope="module")
def suite() -> list[str]:
    """The suite's command. Without it the test is skipped, and fails with REQUIRE_MCP_SERVERS=1."""
    found = nodepackages.find("conformance")
    if found is None:
        install = f"python -m config.devstack.nodepackages DIR, then {nodepackages.FOLDER}=DIR"
        why = f"the conformance suite is not installed: {install}"
        (pytest.fail if os.environ.get(nodepackages.REQUIRED) == "1" else pytest.skip)(why)
    return found


@pytest.fixture
def token() -> str:
    owner = user("ada")
    scopes = list(ApiToken.Scope.values)
    now, actor = timezone.now(), Actor.user(owner.pk)
    return tokens.create_token(user=owner, name="suite", scopes=scopes, now=now, actor=actor)[1]


@pytest.mark.parametrize("revision", [OLDER, NEWER])
def test_every_scenario(suite, token, tmp_path, revision):
    with served(application=APPLICATION, MCP_FIXTURE_TOKEN=token) as server:
        assert failed(suite, server.url, tmp_path, revision) == {}


def failed(suite: list[str], url: str, out: Path, revision: str) -> dict[str, list[str]]:
    """{scenario: what its checks said} of those that failed, whether or not the revision requires them, and of those
    that it requires and that made no check.

    Some of the suite's checks give a server less than a second: what fails is tried again.
    """
    required = yaml.safe_load((Path(suite[-1]).parents[1] / "requirements" / f"{revision}.yaml").read_text())["server"]
    ran, found = run(suite, url, out / "all", "--requirements", revision)
    assert ran
    found.update({name: ["no check"] for name in set(required) - ran})
    for number in range(TRIES):
        for name in sorted(found):
            folder = out / f"{name}-{number}"
            ran, again = run(suite, url, folder, "--scenario", name, "--spec-version", revision, "--force")
            if name in ran and name not in again:
                del found[name]
    return found


def run(suite: list[str], url: str, out: Path, *which: str) -> tuple[set[str], dict[str, list[str]]]:
    """The scenarios that made checks, and what the failed ones said."""
    command = [*suite, "server", "--url", f"{url}/mcp", "--output-dir", str(out), "--timeout", "90000", *which]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    ran: set[str] = set()
    found: dict[str, list[str]] = {}
    for path in out.glob("*/checks.json"):
        name = re.sub(r"^server-|-\d{4}-\d\d-\d\dT.*$", "", path.parent.name)
        for check in json.loads(path.read_text()):
            if check["status"] in {"SUCCESS", "FAILURE"} and check["id"] != EVERY_MESSAGE:
                ran.add(name)
            if check["status"] == "FAILURE":
                found.setdefault(name, []).append(f"{check['id']}: {check.get('errorMessage')}")
    if not ran:
        print(f"no check of {which}:", done.stdout[-2000:], done.stderr[-2000:])
    return ran, found
