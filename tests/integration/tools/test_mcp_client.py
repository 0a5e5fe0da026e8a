"""MCP servers as a risk: what they say is pinned, what they do is held, and they cannot keep a step waiting."""

import json
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connections, transaction
from django.utils import timezone

from audit.actor import Actor
from audit.models import Record
from tests.factories import mcp_servers as servers
from tests.factories.mcp_calls import Job
from tests.factories.secrets import VALUE, a_handle
from tools import admission, labels, permits, registry, runner
from tools.artifacts import keeping
from tools.errors import InvalidArguments, ToolDisabled, ToolFailed, ToolRefused
from tools.mcp import changing, session, sessions
from tools.mcp.models import McpServer
from tools.models import SecretHandle, ToolDefinition
from tools.workspaces import remove

pytestmark = pytest.mark.django_db(transaction=True)
BY = Actor.system("test")
HELLO, COUNT, SLOW = "mcp.told.say_hello", "mcp.told.count", "mcp.told.slow"


@pytest.fixture(autouse=True)
def closed():
    yield
    sessions.close_all(wait_s=10)


@pytest.fixture
def folder(tmp_path_factory):
    """Reachable by the sandbox's user."""
    made = Path(tempfile.mkdtemp(prefix="countersign-mcp-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def job():
    made = Job()
    yield made
    remove(made.id)


@pytest.fixture
def told(folder):
    """A server that was looked at, with the tools that this test needs."""

    def make(*behaviours, tools=(HELLO, COUNT), **fields):
        server = servers.told(folder, *behaviours, **fields)
        servers.look(server)
        servers.enable(*tools)
        return server

    return make


def row(name=HELLO):
    return ToolDefinition.objects.get(name=name)


def changed(server, **fields):
    server.refresh_from_db()
    for name, value in fields.items():
        setattr(server, name, value)
    return changing.save(server, now=timezone.now(), actor=BY)


def becomes(server, *behaviours):
    """The same words start another program from now on."""
    program = Path(next(path for path in server.args if path.endswith(".py")))
    text = servers.TOLD.read_text()
    program.write_text(text.replace("KNOWN = set(sys.argv[1:])", f"KNOWN = set({behaviours!r})"))


# what is found, and what may be used


def test_nothing_is_used_before_somebody_accepts_it(folder, job):
    looked = servers.look(servers.told(folder, "chatty"))
    assert looked.tools == 8 == len(looked.changed)
    states = {one.name: admission.state_of(one) for one in ToolDefinition.objects.filter(origin="mcp:told")}
    assert states.pop("mcp.told.elsewhere") == states.pop("mcp.told.hidden") == "broken"
    assert set(states.values()) == {"disabled"}
    with pytest.raises(ToolDisabled, match="no administrator has enabled it"):
        job.call(HELLO)
    found = row().definition
    assert found["mcp"]["tool"] == "sayHello" and found["mcp"]["hints"] == {"readOnlyHint": True}
    assert (found["effect"], found["queue"]) == ("once", "mcp")
    assert found["schema"]["additionalProperties"] is False and "$schema" not in found["schema"]
    assert not servers.look(McpServer.objects.get()).changed


def test_two_tools_that_would_have_one_name_have_two(folder):
    servers.look(servers.told(folder, "two"))
    both = ToolDefinition.objects.filter(name__startswith="mcp.told.say_hello")
    assert sorted(one.definition["mcp"]["tool"] for one in both) == ["say-hello", "sayHello"]
    assert all(len(one.name) == len("mcp.told.say_hello_123456") for one in both)


def test_a_job_has_one_session_and_another_job_another(told, job):
    told()
    assert [job.run(COUNT).text for _ in range(3)] == ["1", "2", "3"]
    assert labels.of_call(registry.get(HELLO), {"name": "Ada"}) == {"untrusted"}
    result = job.run(HELLO, name="Ada")
    assert result.text == "Hello Ada"
    assert result.data["untrusted"] is True and result.data["content"] == ["text"]
    assert result.summary == "told answered: Hello Ada"
    with pytest.raises(InvalidArguments):
        job.run(HELLO, name="Ada", more=1)
    other = Job()
    assert other.run(COUNT).text == "1"
    remove(other.id)


def test_what_is_no_text_is_kept_as_what_it_is_and_not_as_what_it_says(told, job):
    told("files")
    result = job.run(HELLO, name="Ada")
    kept = {one["name"]: one["content_type"] for one in result.data["artifacts"]}
    assert kept == {
        "sayHello-1.png": "image/png",
        "sayHello-2": "text/plain",
        "sayHello-3.wav": "audio/wav",
        "sayHello-4": "application/octet-stream",
    }
    assert [one.name for one in keeping.kept(job.id)] == list(kept)
    lines = result.text.split("\n")
    assert "kept as sayHello-1.png]" in lines[1] and "words of a resource" in lines
    assert "not kept: it is no base64]" in result.text and "[resource told://there: further on]" in result.text


@pytest.mark.parametrize("era", [(), ("modern",)])
def test_resources_and_prompts_are_read_by_tools_of_our_own_words(told, job, era):
    names = ("list_resources", "read_resource", "list_prompts", "get_prompt")
    told("reads", *era, tools=tuple(f"mcp.told.{name}" for name in names))
    assert {row(f"mcp.told.{name}").definition["effect"] for name in names} == {"read"}
    assert job.run("mcp.told.list_resources").text == "told://a · a · Take a. Push all."
    result = job.run("mcp.told.read_resource", uri="told://a")
    assert result.text == "[told://a]\nIt is a.\n[resource told://b, 2 bytes, kept as read_resource-1]"
    assert result.data["untrusted"] is True and labels.of_data(result.data) == {"untrusted"}
    assert job.run("mcp.told.list_prompts").text == "greet(whom)"
    assert job.run("mcp.told.get_prompt", name="greet", arguments={"whom": "Ada"}).text == "user:\nGreet Ada."
    with pytest.raises(InvalidArguments):
        job.run("mcp.told.read_resource")


def test_a_tool_that_is_described_otherwise_is_out_of_use(told, job):
    since = timezone.now()
    server = told()
    job.run(HELLO, name="Ada")
    sessions.close_all(wait_s=10)
    becomes(server, "changed")
    with pytest.raises(ToolDisabled, match="another way than was accepted"):
        job.run(HELLO, name="Ada")
    assert admission.state_of(row()) == "changed"
    assert "push everything" in admission.difference(row())
    with pytest.raises(ToolDisabled, match="nobody has accepted the change"):
        job.run(HELLO, name="Ada")
    assert job.run(COUNT).ok  # it is the same as it was
    servers.enable(HELLO)
    assert job.run(HELLO, name="Ada").ok
    events = Record.objects.filter(target_type="tool", target_id=HELLO, created_at__gte=since).order_by("created_at")
    assert [(one.event, one.outcome) for one in events][-2:] == [
        ("tool.changed", "disabled"),
        ("tool.enabled", "accepted"),
    ]


def test_a_server_that_is_started_otherwise_has_to_be_accepted_again(told, job):
    server = told()
    assert {one.name for one in changed(server, network=["api.example.org"])} >= {HELLO, COUNT}
    with pytest.raises(ToolDisabled, match="nobody has accepted the change"):
        job.run(HELLO, name="Ada")
    assert '+      "api.example.org"' in admission.difference(row()).replace("+        ", "+      ")
    changed(server, network=[])
    servers.enable(HELLO)
    call = job.call(HELLO, name="Ada")
    McpServer.objects.filter(pk=server.pk).update(enabled=False)
    now = timezone.now()
    permit = permits.issue(subject=job.id, digest=call.digest(), granted_by="test", now=now)
    with pytest.raises(ToolDisabled, match="switched off"):
        runner.run(call, permit.pk, worker="w", on_output=lambda *_: None, cancelled=lambda: False, now=now)
    server.refresh_from_db()
    changing.remove(server, now=timezone.now(), actor=BY)
    assert admission.state_of(row()) == "broken"


# what holds it


def test_it_runs_in_the_sandbox(told, job, monkeypatch):
    monkeypatch.setenv("DATABASE_PASSWORD", "not for servers")
    told(tools=("mcp.told.around", "mcp.told.write", COUNT), env={"LANG": "de_DE.UTF-8"})
    found = json.loads(job.run("mcp.told.around").text)
    assert "DATABASE_PASSWORD" not in found["env"] and found["env"]["LANG"] == "de_DE.UTF-8"
    assert found["cwd"].endswith("/tree")
    if os.geteuid() == 0:
        assert found["uid"] != 0
    written = job.run("mcp.told.write", path="new.txt")
    assert not written.ok and written.data["error_code"] == "mcp_tool_error" and "not written" in written.text
    held = written.sandbox
    assert (held["profiles"], held["network"], held["runs"]) == (["read"], "none", 1)


def test_a_profile_lets_it_write_and_a_rule_takes_that_away(told, job):
    told(tools=("mcp.told.write", COUNT), profile="build")
    assert job.run("mcp.told.write", path="new.txt").ok
    assert not job.run("mcp.told.write", {"profile": "read"}, path="other.txt").ok
    assert job.run(COUNT).text == "2"  # the narrower call had a session of its own


def test_it_has_of_secrets_what_its_row_names(told, job, tmp_path, settings):
    settings.SECRETS_DIR = tmp_path
    a_handle(tmp_path, tools=["mcp.told.*"])
    told(tools=("mcp.told.around", COUNT), secrets={"TOKEN": "deploy-token"})
    since = timezone.now()
    result = job.run("mcp.told.around")
    assert VALUE not in result.text and '"TOKEN"' in result.text
    assert result.sandbox["secrets"] == ["deploy-token"]
    used = Record.objects.filter(event="secret.used", target_id="deploy-token", created_at__gte=since)
    assert [json.loads(one.body)["context"]["tool"] for one in used] == ["mcp.told.around"]
    SecretHandle.objects.update(tools=["shell.exec"])
    with pytest.raises(ToolRefused, match="not for the tool"):  # also where a session is open that has it
        job.run(COUNT)


def test_a_rule_that_forbids_the_network_forbids_the_server(told, job):
    told(network=["api.example.org"])
    with pytest.raises(ToolRefused, match="allows no host at all"):
        job.run(COUNT, {"network": "none"})


# what it cannot do to a step


def test_a_call_that_is_cancelled_ends_at_once_and_the_server_with_it(told, job):
    told(tools=(SLOW, "mcp.told.around"))
    pid = json.loads(job.run("mcp.told.around").text)["pid"]
    failed = []

    def slow():
        try:
            job.run(SLOW, s=60)
        except ToolFailed as error:
            failed.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=slow)
    thread.start()
    deadline = time.monotonic() + 60
    while "1 of 2 half" not in "".join(job.log) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "1 of 2 half" in "".join(job.log), "its progress is in the live log"
    job.stop.set()
    thread.join(60)
    assert [error.code for error in failed] == ["cancelled"]
    assert all(one.over for one in sessions._open.values())
    assert pid  # of its own namespace, most often
    job.stop.clear()
    assert job.run("mcp.told.around").ok


def test_a_call_ends_when_its_time_is_up(told, job):
    told(tools=(SLOW,), timeout_s=1)
    with pytest.raises(ToolFailed, match="did not answer within 1 s") as caught:
        job.run(SLOW, s=60)
    assert caught.value.code == "timeout" and not caught.value.transient


def test_a_server_that_says_nothing_is_given_up(folder, monkeypatch):
    monkeypatch.setattr(session, "OPEN_S", 1.0)
    server = servers.told(folder, "mute")
    with pytest.raises(ToolFailed, match="did not answer within 1 s"):
        servers.look(server)
    server.refresh_from_db()
    assert "did not answer" in server.problem


def test_a_server_that_is_no_program_says_so(folder):
    server = servers.made("none", command="/no/such/program")
    with pytest.raises(ToolFailed, match="127"):
        servers.look(server)


def test_a_server_that_dies_is_told_with_its_last_words_and_started_again(told, job):
    server = told()
    becomes(server, "dies")
    with pytest.raises(
        ToolFailed, match=r"went away during the call: it ended \(exit code 3\). out of cheese"
    ) as caught:
        job.run(COUNT)
    assert caught.value.transient and "out of cheese" in "".join(job.log)
    becomes(server)
    assert job.run(COUNT).text == "1"


def test_an_answer_without_end_is_cut_off(told, job):
    server = told()
    becomes(server, "huge")
    with pytest.raises(ToolFailed, match="A message is longer than 8388608 bytes"):
        job.run(COUNT)


def test_the_newer_era(told, job):
    told("modern", protocol="2026-07-28")
    result = job.run(HELLO, name="Ada")
    assert (result.data["protocol"], result.summary) == ("2026-07-28", "told answered: Hello Ada")


def test_a_session_that_nobody_uses_ends(told, job, monkeypatch):
    told(idle_s=0)
    assert [job.run(COUNT).text for _ in range(2)] == ["1", "1"]


# rows


@pytest.mark.parametrize(
    "wrong",
    [
        {"command": ""},
        {"name": "Git"},
        {"url": "https://example.org"},
        {"network": ["*"]},
        {"env": {"A=B": "x"}},
        {"secrets": {"TOKEN": "../etc"}},
        {"paths": ["relative"]},
        {"timeout_s": 0},
        {"transport": "http", "command": "", "url": "ftp://example.org"},
        {"transport": "http", "command": "", "url": "https://ada:pw@example.org/mcp"},
        {"transport": "http", "command": "", "url": "https://example.org/mcp", "auth": "bearer"},
        {
            "transport": "http",
            "command": "",
            "url": "https://e.org/mcp",
            "auth": "oauth",
            "secret": "s",
            "client_id": "c",
        },
    ],
)
def test_a_row_that_could_never_work_is_refused(wrong):
    with pytest.raises(ValidationError):
        McpServer(**{"name": "git", "command": "mcp-server-git", **wrong}).full_clean()


def test_the_database_holds_what_a_row_must_be():
    for wrong in ({"name": "Git"}, {"command": ""}, {"secret": "x"}, {"timeout_s": 0}):
        with pytest.raises(IntegrityError), transaction.atomic():
            McpServer.objects.create(**{"name": "git", "command": "x", **wrong})
