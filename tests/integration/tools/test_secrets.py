"""Secrets by handles: who may use them, for what, and where their values never stand."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from audit.ids import uuid7
from audit.models import Record
from tests.factories.secrets import VALUE, a_handle
from tools import redact, registry
from tools.box import SandboxBox
from tools.errors import InvalidArguments, ToolError, ToolFailed, ToolRefused
from tools.models import SecretHandle
from tools.redact import MARK
from tools.secrets import Holder, acting, environment, for_host, holding, resolve, values
from tools.spec import Limits, Risk
from tools.workspaces import remove, workspace_for

pytestmark = pytest.mark.django_db
STEP = "0198c0de-0000-7000-8000-000000000001"
ADA = Holder(agent="developer", groups=("deployers", "staff"))


@pytest.fixture
def vault(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings.SECRETS_DIR = tmp_path
    monkeypatch.setattr(redact, "_known", redact._known)
    monkeypatch.setattr(holding, "_find", lambda subject: ADA if subject == STEP else None)
    return tmp_path


@pytest.fixture
def box(vault: Path) -> Iterator[SandboxBox]:
    workspace = workspace_for(str(uuid7()))
    yield SandboxBox(workspace, limits=Limits(), call_id=STEP)
    remove(workspace.id)


def run(name: str, box: SandboxBox, **arguments: object) -> Any:
    tool = registry.get(name)
    registry.validate(tool, arguments)
    with acting(STEP, worker="shell@here", purpose="run"):
        return tool.run(arguments, box)


def records(event: str, name: str = "deploy-token") -> list[dict[str, Any]]:
    found = Record.objects.filter(event=event, target_type="secret", target_id=name).order_by("id")
    return [json.loads(one.body) for one in found]


USES: dict[str, dict[str, Any]] = {
    "another tool": {"tools": ["git.*"]},
    "another agent": {"agents": ["reviewer"]},
    "other groups": {"groups": ["admins"]},
    "another variable": {"env_names": ["OTHER"]},
    "no command": {"env_names": []},
    "taken out of use": {"enabled": False},
}


@pytest.mark.parametrize("case", USES)
def test_a_handle_is_for_those_that_it_names_alone(case: str, vault: Path) -> None:
    a_handle(vault, **USES[case])
    with acting(STEP, purpose="run"), pytest.raises(ToolRefused) as refused:
        resolve("deploy-token", tool="shell.exec", env="TOKEN")
    assert "deploy-token" in refused.value.message
    assert VALUE not in refused.value.message
    assert records("secret.used") == []


def test_whoever_fits_every_list_gets_the_value_and_it_is_on_record(vault: Path) -> None:
    a_handle(vault, tools=["shell.*"], agents=["dev*"], groups=["deployers"])
    with acting(STEP, worker="shell@here", purpose="run") as now:
        assert resolve("deploy-token", tool="shell.exec", env="TOKEN") == VALUE
        assert now.used == ["deploy-token"]
    [used] = records("secret.used")
    assert used["actor"]["id"] == "shell@here"
    assert used["context"] == {"tool": "shell.exec", "step": STEP, "purpose": "run", "env": "TOKEN"}
    assert SecretHandle.objects.get().last_used_at is not None
    assert redact.text(f"it is {VALUE}") == f"it is {MARK}"


def test_of_a_step_that_nobody_knows_only_everybody_s_secrets_are_used(vault: Path) -> None:
    a_handle(vault, agents=["developer"])
    a_handle(vault, "for-all")
    with pytest.raises(ToolRefused):
        resolve("deploy-token", tool="shell.exec", env="TOKEN")
    assert resolve("for-all", tool="shell.exec", env="TOKEN") == VALUE


@pytest.mark.parametrize(
    ("hosts", "host", "fits"),
    [
        (["api.example.org"], "api.example.org", True),
        (["api.example.org"], "API.example.org.", True),
        (["api.example.org"], "api.example.org:443", True),
        (["api.example.org"], "api.example.org:80", False),
        (["api.example.org:8443"], "api.example.org:8443", True),
        (["*.example.org"], "api.example.org", True),
        (["*.example.org"], "example.org", False),
        (["*.example.org"], "badexample.org", False),
        (["example.org"], "api.example.org", False),
        (["api.example.org"], "api.example.org.evil.net", False),
        (["api.example.org"], "api.example.org@evil.net", False),
    ],
)
def test_a_secret_goes_to_its_hosts_alone(hosts: list[str], host: str, fits: bool, vault: Path) -> None:
    a_handle(vault, hosts=hosts)
    assert (for_host(host, tool="http.fetch") == "deploy-token") is fits
    if fits:
        assert resolve("deploy-token", tool="http.fetch", host=host) == VALUE
    else:
        with pytest.raises(ToolRefused):
            resolve("deploy-token", tool="http.fetch", host=host)


def test_a_command_s_network_is_no_wider_than_its_secret_s_hosts(vault: Path) -> None:
    a_handle(vault, hosts=["*.example.org"])
    for hosts in ([], ["api.example.org"], ["*.api.example.org", "x.example.org"]):
        assert environment({"TOKEN": "deploy-token"}, tool="shell.exec", hosts=hosts) == {"TOKEN": VALUE}
    for hosts in (["evil.net"], ["api.example.org", "evil.net"], ["example.org"], ["*.org"]):
        with pytest.raises(ToolRefused, match="is not for the host"):
            environment({"TOKEN": "deploy-token"}, tool="shell.exec", hosts=hosts)


def test_nobody_is_asked_about_a_use_that_would_be_refused(vault: Path, box: SandboxBox) -> None:
    a_handle(vault, tools=["shell.*", "http.*"], hosts=["api.example.org"])
    refused: list[tuple[str, dict[str, Any]]] = [
        ("shell.exec", {"argv": ["env"], "secrets": {"OTHER": "deploy-token"}}),
        ("shell.script", {"script": "env", "secrets": {"TOKEN": "deploy-token"}, "network": ["evil.net"]}),
        ("http.fetch", {"url": "https://evil.net/", "secret": "deploy-token"}),
        ("http.post", {"url": "https://api.example.org:8443/", "body": "", "secret": "deploy-token"}),
    ]
    with acting(STEP, purpose="preview"):
        for name, arguments in refused:
            with pytest.raises(ToolRefused, match="is not for the"):
                registry.get(name).preview(arguments, box)
        assert registry.get("shell.exec").preview({"argv": ["env"], "secrets": {"TOKEN": "deploy-token"}}, box) == ""
        url = "https://api.example.org/"
        assert registry.get("http.fetch").preview({"url": url, "secret": "deploy-token"}, box) == ""
    assert records("secret.used") == []


def test_two_secrets_for_one_host_must_be_told_apart(vault: Path) -> None:
    a_handle(vault)
    a_handle(vault, "another", value="another value of it")
    with pytest.raises(ToolRefused, match="another, deploy-token"):
        for_host("api.example.org", tool="http.fetch")
    assert for_host("other.example.org", tool="http.fetch") == ""


def test_a_value_that_changed_is_noticed(vault: Path) -> None:
    handle = a_handle(vault)
    resolve("deploy-token", tool="shell.exec", env="TOKEN")
    first = SecretHandle.objects.get().rotated_at
    (vault / handle.place).write_text("another value, of today")
    assert resolve("deploy-token", tool="shell.exec", env="TOKEN") == "another value, of today"
    assert SecretHandle.objects.get().rotated_at > first
    assert len(records("secret.rotated")) == 1
    assert redact.text(f"{VALUE}, another value, of today") == f"{MARK}, {MARK}"


def test_every_file_of_the_folder_is_unspeakable_before_anybody_uses_it(
    vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (vault / "below").mkdir()
    (vault / "below" / "unused").write_text("an unused value of it\n")
    monkeypatch.setenv("AGENT_SECRET_CI", "value of a variable")
    monkeypatch.setattr(values, "_looked_s", float("-inf"))
    values.keep_unspeakable()
    assert redact.text("an unused value of it; value of a variable") == f"{MARK}; {MARK}"


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "Bad Name"},
        {"place": "../other"},
        {"place": "/etc/shadow"},
        {"place": ".hidden"},
        {"source": "env", "place": "SECRET_KEY"},
        {"source": "env", "place": "AGENT_SECRET_"},
        {"tools": []},
        {"agents": []},
        {"groups": []},
        {"hosts": [], "env_names": []},
        {"hosts": ["*"]},
        {"hosts": ["https://api.example.org"]},
        {"hosts": ["api.example.org:0"]},
        {"env_names": ["A B"]},
    ],
)
def test_a_handle_cannot_say_what_would_reach_too_far(fields: dict[str, Any]) -> None:
    good = {"name": "x", "place": "x", "tools": ["*"], "agents": ["*"], "groups": ["*"], "hosts": ["h.example"]}
    SecretHandle(**good).full_clean()
    with pytest.raises(ValidationError):
        SecretHandle(**{**good, **fields}).full_clean()


def test_the_database_holds_the_name_s_form() -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        SecretHandle.objects.create(name="a b", place="x")


def test_a_value_that_cannot_be_used_is_refused_and_never_told(vault: Path, tmp_path: Path) -> None:
    a_handle(vault)
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.write_text("outside of the folder")
    for make in (
        lambda path: path.write_text("short"),
        lambda path: path.write_bytes(b"\xff\xfe binary \xff"),
        lambda path: path.write_text("x" * 7000),
        lambda path: path.write_text("with\0a NUL in it"),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.rmdir(), path.symlink_to(outside)),
        lambda path: path.unlink(),
    ):
        make(vault / "deploy-token")
        with pytest.raises(ToolRefused, match="cannot be used"):
            resolve("deploy-token", tool="shell.exec", env="TOKEN")
    outside.unlink()


def test_a_mounted_secret_is_a_link_within_its_folder(vault: Path) -> None:
    a_handle(vault)
    (vault / "..2026").mkdir()
    (vault / "deploy-token").rename(vault / "..2026" / "deploy-token")
    (vault / "..data").symlink_to("..2026")
    (vault / "deploy-token").symlink_to("..data/deploy-token")
    assert resolve("deploy-token", tool="shell.exec", env="TOKEN") == VALUE


def test_a_command_gets_the_value_and_nobody_reads_it_in_its_output(box: SandboxBox, vault: Path) -> None:
    a_handle(vault)
    script = 'printf %s "$TOKEN" | wc -c; echo "$TOKEN"; printf %s "$TOKEN" | base64; printf %s "$TOKEN" | od -An -tx1'
    result = run("shell.script", box, script=script, secrets={"TOKEN": "deploy-token"})
    assert result.ok
    assert result.data["stdout"].splitlines()[0].strip() == str(len(VALUE))
    assert result.data["stdout"].count(MARK) == 3
    assert VALUE not in json.dumps(result.data)


def test_in_every_tier_the_value_stands_in_no_command_line(forced_tier: str, box: SandboxBox, vault: Path) -> None:
    a_handle(vault)
    seen: list[bytes] = []

    def look() -> None:
        """While the command waits: what everybody on this machine could read."""
        while not (box.workspace.tree / "started").exists() and not done.is_set():
            done.wait(0.01)
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                seen.append(place.read_bytes())
            except OSError:
                continue
        (box.workspace.tree / "go").touch()

    done = threading.Event()
    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        waiting = 'touch started; while [ ! -e go ]; do sleep 0.02; done; printf %s "$TOKEN" | wc -c'
        result = run("shell.exec", box, argv=["sh", "-c", waiting], secrets={"TOKEN": "deploy-token"}, timeout_s=60)
    finally:
        done.set()
        watcher.join()
    assert result.data["stdout"].strip() == str(len(VALUE)), result.text
    assert any(b"while [ ! -e go ]" in one for one in seen)
    assert not [one for one in seen if VALUE.encode() in one]


def test_policies_and_people_see_the_names() -> None:
    tool = registry.get("shell.exec")
    arguments = {"argv": ["ls"], "secrets": {"TOKEN": "deploy-token"}}
    registry.validate(tool, arguments)
    assert tool.describe(arguments) == "[secrets: TOKEN=deploy-token] ls"
    score = tool.risk(arguments)
    assert score.level is Risk.HIGH
    assert score.reasons[0] == "it is given the secret deploy-token"
    assert tool.risk({"argv": ["ls"]}).level is Risk.LOW


@pytest.mark.parametrize(
    "given",
    [{"PATH": "x"}, {"LD_PRELOAD": "x"}, {"A B": "x"}, {"TOKEN": "not a handle"}, {"TOKEN": 1}, {}, {"CI": "x"}],
)
def test_a_secret_stands_in_a_harmless_variable(given: dict[str, Any]) -> None:
    with pytest.raises((InvalidArguments, ToolRefused)):
        registry.validate(registry.get("shell.exec"), {"argv": ["ls"], "env": {"CI": "1"}, "secrets": given})


def test_an_error_never_holds_a_live_secret(vault: Path) -> None:
    redact.register(VALUE)
    error = ToolFailed(f"no {VALUE}", url=f"https://x/{VALUE}", code=7)
    assert (str(error), error.message, error.details) == (
        f"no {MARK}",
        f"no {MARK}",
        {"url": f"https://x/{MARK}", "code": 7},
    )
    assert isinstance(error, ToolError)
