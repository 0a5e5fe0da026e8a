"""MCP servers by others, each used by a governed job: started in its sandbox, found, accepted, called."""

import json

import pytest

from agents.models import Step
from agents.states import JobState
from tests.factories import mcp_servers as servers
from tests.factories.policies import publish
from tests.integration.agents.test_engine import run_queued, step, submit
from tools.mcp import sessions

pytestmark = pytest.mark.django_db(transaction=True)
COMMITTER = {f"GIT_{who}_{what}": "ada@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@pytest.fixture(autouse=True)
def closed():
    yield
    sessions.close_all(wait_s=10)


def run(*steps):
    """What each step of a job gave, by its key; the job has succeeded."""
    publish(("*", "allow"))
    job = run_queued(submit(*steps))
    found = {one.key: one for one in Step.objects.filter(job=job)}
    assert job.state == JobState.SUCCEEDED, [(one.key, one.error, one.result) for one in found.values()]
    return {key: one.result for key, one in found.items()}


def test_git():
    server = servers.python_server("git", "mcp-server-git", profile="build", env=COMMITTER)
    assert servers.look(server).tools >= 8
    servers.enable("mcp.git.git_status", "mcp.git.git_log")
    servers.enable("mcp.git.git_add", "mcp.git.git_commit", effect="once")
    found = run(
        step("init", "shell.exec", argv=["git", "init", "-q"]),
        step("write", "files.write", "init", path="a.txt", content="hello\n"),
        step("add", "mcp.git.git_add", "write", repo_path=".", files=["a.txt"]),
        step("commit", "mcp.git.git_commit", "add", repo_path=".", message="Say hello"),
        step("log", "mcp.git.git_log", "commit", repo_path="."),
        step("status", "mcp.git.git_status", "log", repo_path="."),
    )
    assert "Say hello" in found["log"]["text"] and "nothing to commit" in found["status"]["text"]
    assert found["log"]["data"]["untrusted"] is True
    held = found["commit"]["sandbox"]
    assert (held["profiles"], held["network"]) == (["build"], "none")
    server.refresh_from_db()
    assert server.found["name"] and not server.problem


@pytest.mark.parametrize("protocol", ["legacy", "2026-07-28"])
def test_time_in_both_eras(protocol):
    servers.look(servers.python_server("time", "mcp-server-time", "--local-timezone=Etc/UTC", protocol=protocol))
    servers.enable("mcp.time.convert_time", "mcp.time.get_current_time")
    noon = {"source_timezone": "Asia/Tokyo", "time": "12:00", "target_timezone": "Etc/UTC"}
    found = run(
        step("a", "mcp.time.convert_time", **noon),
        step("b", "mcp.time.get_current_time", "a", timezone="Etc/UTC"),
    )
    assert json.loads(found["a"]["text"])["target"]["datetime"].endswith("T03:00:00+00:00")
    era = found["b"]["data"]["protocol"]
    assert era == protocol if protocol != "legacy" else era < "2026"


def test_everything():
    """Progress, structure and pictures; and a call that the server itself refuses."""
    looked = servers.look(servers.node_server("everything", "mcp-server-everything", "stdio"))
    names = {one.name for one in looked.changed}
    long = "mcp.everything.trigger_long_running_operation"
    wanted = {"mcp.everything.echo", "mcp.everything.get_sum", long, "mcp.everything.get_tiny_image"}
    assert wanted <= names
    structured = "mcp.everything.get_structured_content"
    servers.enable(*wanted, structured)
    found = run(
        step("echo", "mcp.everything.echo", message="hi"),
        step("sum", "mcp.everything.get_sum", "echo", a=2, b=3),
        step("long", long, "sum", duration=1, steps=4),
        step("image", "mcp.everything.get_tiny_image", "long"),
        step("weather", structured, "image", location="New York"),
    )
    assert "hi" in found["echo"]["text"] and "5" in found["sum"]["text"]
    assert "completed" in found["long"]["text"]
    assert "image" in found["image"]["data"]["content"] and "kept as get-tiny-image-1.png]" in found["image"]["text"]
    assert "temperature" in found["weather"]["data"]["structured"]


def test_filesystem():
    """It writes where its profile and its own arguments let it, and the sandbox holds what its own checks would not."""
    server = servers.node_server("fs", "mcp-server-filesystem", "{tree}", "/var/tmp", profile="build")
    servers.look(server)
    servers.enable("mcp.fs.read_text_file", "mcp.fs.list_directory")
    servers.enable("mcp.fs.write_file", effect="repeatable")
    found = run(
        step("write", "mcp.fs.write_file", path="note.txt", content="by a server"),
        step("read", "files.read", "write", path="note.txt"),
        step("list", "mcp.fs.list_directory", "read", path="."),
        step("again", "mcp.fs.read_text_file", "list", path="note.txt"),
    )
    assert "by a server" in found["read"]["text"] and "note.txt" in found["list"]["text"]
    assert found["again"]["text"] == "by a server"
    publish(("*", "allow"))
    job = run_queued(submit(step("out", "mcp.fs.write_file", path="/var/tmp/countersign-mcp-out.txt", content="x")))
    outside = Step.objects.get(job=job)
    assert (outside.state, outside.error_code) == ("failed", "mcp_tool_error"), outside.result
    job = run_queued(submit(step("out", "mcp.fs.read_text_file", path="/etc/passwd")))
    assert Step.objects.get(job=job).error_code == "mcp_tool_error"
