"""files.patch, http.fetch and code.test by the one door: permits, what was seen, constraints, what is kept."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from django.utils import timezone

from audit.ids import uuid7
from tests.integration.tools.git_support import Door
from tests.integration.tools.web_server import serve
from tools import permits, redact, runner
from tools.errors import PermitMismatch, ToolRefused
from tools.spec import Call, Result
from tools.workspaces import remove

pytestmark = pytest.mark.django_db
PATCH = "--- a/x.txt\n+++ b/x.txt\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n"


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    yield made
    remove(made.job_id)


def run(call: Call) -> Result:
    now = timezone.now()
    permit = permits.issue(subject=str(uuid7()), digest=call.digest(), granted_by="test", now=now)
    return runner.run(call, permit.pk, worker="test", on_output=lambda *_: None, cancelled=lambda: False, now=now)


def test_a_patch_is_what_its_approver_saw(door: Door) -> None:
    door.write("x.txt", "one\ntwo\n")
    text, state = door.preview("files.patch", patch=PATCH)
    assert text.startswith("1 file changed, 1 line added, 1 removed:\n")
    call = replace(door.call("files.patch", state, patch=PATCH), preview_digest=runner.preview_digest(text))
    door.write("x.txt", "one\ntwo\nthree\n")
    with pytest.raises(PermitMismatch):
        run(call)
    assert (door.workspace.tree / "x.txt").read_text() == "one\ntwo\nthree\n"
    door.write("x.txt", "one\ntwo\n")
    assert run(call).ok
    assert (door.workspace.tree / "x.txt").read_text() == "one\n2\n"
    with pytest.raises(ToolRefused, match="writes more than the profile"):
        run(replace(door.call("files.patch", patch=PATCH), constraints={"profile": "read"}))


def test_what_the_web_says_is_kept_without_secrets_and_within_the_rule(door: Door, settings, monkeypatch) -> None:
    before = redact._known
    with serve() as server:
        settings.EGRESS_EXCEPTIONS = [f"127.0.0.1:{server.port}"]
        redact.register("correct-horse-battery")
        url = server.page("/x", "it is correct-horse-battery\x1b[0m\0\u202e", Content_Type="text/plain; charset=utf-8")
        done = door.ok("http.fetch", url=url + "?token=correct-horse-battery")
        kept = json.dumps([dict(done.data), dict(done.sandbox), done.text, done.summary])
        assert (
            "correct-horse" not in kept
            and "\\u202e" not in kept.lower().replace("\\\\u202e", "")
            and "\\u0000" not in kept
        )
        assert done.data["untrusted"] is True and done.sandbox["connections"][0]["host"] == "127.0.0.1"
        held = replace(door.call("http.fetch", url=url), constraints={"network": "none"})
        with pytest.raises(ToolRefused):
            run(held)
        allowed = replace(held, constraints={"network": [f"127.0.0.1:{server.port}"]})
        assert run(allowed).ok
    redact._known = before


def test_checks_are_kept_as_data(door: Door) -> None:
    door.write(
        "test_x.py",
        "import unittest\n\n\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.fail('no')\n",
    )
    done = door.run("code.test")
    assert not done.ok and done.data["checks"]["counts"]["failed"] == 1
    assert json.dumps(dict(done.data)) and done.data["checks"]["findings"][0]["line"] == 6
    held = run(replace(door.call("code.test"), constraints={"profile": "read", "limits": {"timeout_s": 60}}))
    assert held.sandbox["profiles"] == ["read"] and held.data["checks"]["counts"]["failed"] == 1


def test_names_that_are_no_text_are_told(door: Door) -> None:
    """A step whose end no row can hold would be begun again and again."""
    code = r"import os; os.makedirs(b'a\xff/c'); open(b'a\xff/b\xfe', 'w').write('here')"
    assert door.ok("shell.exec", argv=["python3", "-c", code]).ok
    listed = door.ok("files.list", depth=3)
    assert [one["path"] for one in listed.data["entries"]] == ["a\\xff", "a\\xff/b\\xfe", "a\\xff/c"]
    assert "a\\xff/b\\xfe" in listed.text
    assert "a\\xff/b\\xfe:1:here" in door.ok("files.search", pattern="here").text
