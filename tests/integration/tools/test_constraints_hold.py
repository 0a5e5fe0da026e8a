"""The runner holds a call to its constraints, and nobody can drop them."""

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from audit.models import Payload
from tests.factories.log import bodies
from tests.factories.tools import RAN, registered
from tests.integration.tools.git_support import make_remote
from tools import permits, registry, runner, workspaces
from tools.errors import PermitMismatch, ToolRefused
from tools.models import Permit
from tools.spec import Call, Result

pytestmark = pytest.mark.django_db(transaction=True)


def call(tool: str, arguments: dict[str, Any], **constraints: Any) -> Call:
    version = registry.get(tool).schema_version
    return Call(
        tool=tool,
        schema_version=version,
        arguments=arguments,
        workspace_id=str(uuid.uuid4()),
        constraints=constraints,
    )


def permitted(given: Call) -> Permit:
    return permits.issue(subject=str(uuid.uuid4()), digest=given.digest(), granted_by="test", now=timezone.now())


def run(given: Call, permit: Permit | None = None) -> Result:
    permit = permit or permitted(given)
    return runner.run(
        given,
        permit.pk,
        worker="test",
        on_output=lambda stream, text: None,
        cancelled=lambda: False,
        subject=permit.subject,
        now=timezone.now(),
    )


def test_a_command_writes_no_more_than_its_profile_lets_it():
    free = call("shell.exec", {"argv": ["touch", "made.txt"]})
    assert run(free).ok
    bound = call("shell.exec", {"argv": ["touch", "made.txt"]}, profile="read")
    result = run(bound)
    assert not result.ok
    assert result.sandbox["profiles"] == ["read"]
    assert not (workspaces.workspace_for(bound.workspace_id).tree / "made.txt").exists()


def test_limits_end_a_command():
    result = run(call("shell.exec", {"argv": ["sleep", "30"]}, limits={"timeout_s": 1}))
    assert result.data["ended_by"] == "timeout"


def test_no_remote_is_reached_but_those_named(tmp_path: Path):
    remote = make_remote(tmp_path)
    for network in ("none", ["git.example.org"]):
        with pytest.raises(ToolRefused, match="allows"):
            run(call("workspace.prepare", {"url": str(remote.path)}, network=network))
    assert run(call("workspace.prepare", {"url": str(remote.path)}, network=["localhost"])).ok


def test_dropped_or_loosened_constraints_have_no_permit():
    bound = call("shell.exec", {"argv": ["true"]}, profile="read")
    permit = permitted(bound)
    for loose in (replace(bound, constraints={}), replace(bound, constraints={"profile": "build"})):
        with pytest.raises(PermitMismatch):
            run(loose, permit)
    with pytest.raises(PermitMismatch):
        run(replace(bound, policy="another version"), permit)
    assert run(bound, permit).ok


def test_a_dry_run_is_recorded_before_anything_happens():
    with registered():
        dry = call("test.once", {"text": "boom"}, dry_run=True)
        permit = permitted(dry)
        assert run(dry, permit).ok
        (body,) = bodies(permit.subject, "step.previewed")
        assert body["context"]["digest"] == dry.digest()
        kept = Payload.objects.filter(record__target_id=permit.subject, slot="preview")
        assert "would note boom" in str(kept.get().value)


def test_what_changes_after_its_dry_run_does_not_run(monkeypatch: pytest.MonkeyPatch):
    with registered():
        states = iter([{"target": "one"}, {"target": "two"}])
        monkeypatch.setattr(type(registry.get("test.once")), "target_state", lambda *_: next(states))
        dry = call("test.once", {"text": "boom"}, dry_run=True)
        permit = permitted(dry)
        RAN.clear()
        with pytest.raises(PermitMismatch, match="dry run"):
            run(dry, permit)
        assert RAN == []
        permit.refresh_from_db()
        assert permit.spent_at is None
