"""Handles in the admin, on the command line and in doctor: values are never shown."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from audit.models import Record
from config.doctor import secrets as doctor
from tests.factories.secrets import VALUE, a_handle
from tools import redact
from tools.models import SecretHandle

pytestmark = pytest.mark.django_db
FORM = {
    "name": "deploy-token",
    "description": "opens the door",
    "source": "file",
    "place": "deploy-token",
    "enabled": "on",
    "tools": "shell.exec,git.*",
    "agents": "*",
    "groups": "*",
    "hosts": "api.example.org",
    "env_names": "",
}


@pytest.fixture
def vault(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "vault"
    folder.mkdir(mode=0o700)
    settings.SECRETS_DIR = folder
    monkeypatch.setattr(redact, "_known", redact._known)
    return folder


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root-of-secrets", password="x"))
    return client


def said(*arguments: str) -> str:
    out = StringIO()
    call_command("secret", *arguments, stdout=out)
    return out.getvalue()


def test_an_administrator_makes_and_changes_a_handle_and_both_are_recorded(admin: Client, vault: Path) -> None:
    page = admin.get(reverse("admin:tools_secrethandle_add"))
    assert page.status_code == 200
    assert b'value="*"' in page.content
    made = admin.post(reverse("admin:tools_secrethandle_add"), FORM)
    assert made.status_code == 302, made.content
    handle = SecretHandle.objects.get()
    assert (handle.tools, handle.hosts, handle.env_names) == (["shell.exec", "git.*"], ["api.example.org"], [])
    a_handle(vault, "another")
    address = reverse("admin:tools_secrethandle_change", args=[handle.pk])
    changed = admin.post(address, {**FORM, "name": "renamed", "groups": "deployers"})
    assert changed.status_code == 302, changed.content
    handle.refresh_from_db()
    assert (handle.name, handle.groups) == ("deploy-token", ["deployers"])
    for place in (address, reverse("admin:tools_secrethandle_changelist")):
        assert VALUE not in admin.get(place).content.decode()
    recorded = Record.objects.filter(event="admin.changed", target_type="tools.secrethandle", target_id=handle.pk)
    assert [json.loads(one.body)["context"]["action"] for one in recorded.order_by("id")] == ["added", "changed"]


@pytest.mark.parametrize(
    ("field", "value"), [("place", "../x"), ("tools", ""), ("hosts", "https://x"), ("name", "A b"), ("hosts", "")]
)
def test_the_form_says_what_is_wrong(field: str, value: str, admin: Client) -> None:
    answer = admin.post(reverse("admin:tools_secrethandle_add"), {**FORM, field: value})
    assert answer.status_code == 200
    assert not SecretHandle.objects.exists()
    assert field in answer.context["adminform"].form.errors


def test_on_the_command_line_a_handle_is_added_listed_checked_and_taken_out(vault: Path) -> None:
    (vault / "npm").write_text(VALUE)
    (vault / "npm").chmod(0o600)
    more = ("--tool", "shell.*", "--host", "registry.example.org", "--variable", "NPM_TOKEN")
    assert "can be used" in said("add", "npm-token", "--file", "npm", *more)
    handle = SecretHandle.objects.get()
    assert (handle.agents, handle.groups, handle.env_names) == (["*"], ["*"], ["NPM_TOKEN"])
    assert said("check") == "ok   npm-token\n"
    told = said("list") + said("list", "--json")
    assert "registry.example.org" in told
    assert VALUE not in told
    said("disable", "npm-token")
    assert not SecretHandle.objects.get().enabled
    assert "OUT OF USE" in said("list")
    assert json.loads(said("enable", "npm-token", "--json"))["enabled"]
    recorded = Record.objects.filter(event="admin.changed", target_type="tools.secrethandle", target_id=handle.pk)
    actions = [json.loads(one.body)["context"]["action"] for one in recorded.order_by("id")]
    assert actions == ["added", "disabled", "enabled"]


def test_the_command_line_refuses_what_the_admin_refuses(vault: Path) -> None:
    with pytest.raises(CommandError, match="place: "):
        said("add", "x", "--env", "SECRET_KEY", "--tool", "*", "--host", "h.example")
    with pytest.raises(CommandError, match="hosts: "):
        said("add", "x", "--file", "x", "--tool", "*")
    with pytest.raises(CommandError, match="no secret"):
        said("disable", "x")
    with pytest.raises(CommandError, match="no secret"):
        said("check", "x")
    assert not SecretHandle.objects.exists()


def test_a_check_finds_what_is_missing_or_open_to_others(vault: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_handle(vault, "good")
    a_handle(vault, "missing")
    a_handle(vault, "loose")
    (vault / "missing").unlink()
    (vault / "loose").chmod(0o644)
    (vault / "unnamed").write_text("nobody names this one")
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("secret", "check", stdout=out)
    assert ended.value.code == 1
    lines = dict(line[5:].partition(": ")[::2] for line in out.getvalue().splitlines())
    assert lines["good"] == ""
    assert "cannot be read" in lines["missing"]
    assert "mode 0644" in lines["loose"]
    found = {finding.says: finding.level for finding in doctor.handles()}
    assert sum(level == "warn" for level in found.values()) == 2
    assert any("unnamed" in says for says in found)
    vault.chmod(0o755)
    assert any(finding.level == "fail" for finding in doctor.handles())


def test_doctor_is_content_where_all_is_well(vault: Path) -> None:
    a_handle(vault)
    assert [(finding.level, finding.says) for finding in doctor.handles()] == [
        ("ok", "1 in use, their values are there")
    ]
