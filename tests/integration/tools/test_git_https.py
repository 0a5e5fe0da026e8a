"""Remotes over https: the broker speaks to them, with credentials that no workspace sees."""

import base64
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.tools.git_server import GitServer, serve
from tests.integration.tools.git_support import Door, Remote, make_remote
from tools import redact
from tools.errors import ToolFailed

pytestmark = pytest.mark.django_db

PASSWORD = "a-token-that-is-nobodys-0123456789"


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return make_remote(tmp_path)


@pytest.fixture
def server(remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitServer]:
    with serve(remote.path.parent, tmp_path) as server:
        monkeypatch.setenv("GIT_SSL_CAINFO", str(server.certificate))
        yield server


@pytest.fixture
def credentials(server: GitServer, tmp_path: Path, settings) -> Path:
    """A credentials file for the server, which asks for them."""
    server.user, server.password = "agent", PASSWORD
    host = server.url.removeprefix("https://")
    path = tmp_path / "credentials"
    path.write_text(
        f"# tokens\nhttps://wrong:wrong@example.org\nhttps://wrong:wrong@{host}/elsewhere\n"
        f"https://agent:{PASSWORD}@{host}/remote.git\nhttps://other:other@{host}\n"
    )
    settings.GIT_CREDENTIALS_FILE = str(path)
    return path


def test_a_change_goes_to_an_https_remote_and_back(server: GitServer, remote: Remote):
    door = Door()
    door.ok("workspace.prepare", url=f"{server.url}/remote.git", branch="main")
    sha = door.commit({"src/app.py": "print('two')\n"}, "Say two")
    text, state = door.preview("git.push", branch="main")
    assert "Say two" in text
    assert remote.sha("main") != sha
    door.ok("git.push", state, branch="main")
    assert remote.sha("main") == sha
    assert door.probe("git.push", state, branch="main") is not None


def test_credentials_reach_the_remote_and_nothing_else(
    server: GitServer, remote: Remote, credentials: Path, caplog: pytest.LogCaptureFixture
):
    door = Door()
    door.ok("workspace.prepare", url=f"{server.url}/remote.git", branch="main")
    sha = door.commit({"a.txt": "a\n"})
    door.ok("git.push", branch="main")
    assert remote.sha("main") == sha
    encoded = base64.b64encode(f"agent:{PASSWORD}".encode()).decode()
    for path in door.workspace.root.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert PASSWORD.encode() not in content and encoded.encode() not in content
    assert PASSWORD not in str(door.log) + caplog.text
    assert redact.text(f"it was {PASSWORD}") == "it was [redacted]"


def test_without_credentials_the_failure_says_so_and_is_final(server: GitServer, credentials: Path, settings):
    settings.GIT_CREDENTIALS_FILE = ""
    with pytest.raises(ToolFailed, match="does not let the server in") as failed:
        Door().run("workspace.prepare", url=f"{server.url}/remote.git")
    assert not failed.value.transient


def test_a_credentials_file_that_cannot_be_read_is_named(server: GitServer, settings, tmp_path: Path):
    settings.GIT_CREDENTIALS_FILE = str(tmp_path / "nowhere")
    with pytest.raises(ToolFailed, match="GIT_CREDENTIALS_FILE"):
        Door().run("workspace.prepare", url=f"{server.url}/remote.git")


def test_a_redirect_is_not_followed(server: GitServer, credentials: Path, tmp_path: Path, remote: Remote):
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    with serve(remote.path.parent, other_folder) as other:
        server.redirect_to = other.url
        with pytest.raises(ToolFailed):
            Door().run("workspace.prepare", url=f"{server.url}/remote.git")
        assert other.seen == []


@pytest.mark.parametrize(("status", "transient"), [(500, True), (503, True), (429, True), (403, False), (404, False)])
def test_only_what_may_pass_is_tried_again(server: GitServer, status: int, transient: bool):
    server.fail_with = status
    with pytest.raises(ToolFailed) as failed:
        Door().run("workspace.prepare", url=f"{server.url}/remote.git")
    assert failed.value.transient is transient


def test_a_certificate_that_is_not_trusted_is_refused(server: GitServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GIT_SSL_CAINFO")
    with pytest.raises(ToolFailed, match=r"(?i)certificate"):
        Door().run("workspace.prepare", url=f"{server.url}/remote.git")
    assert server.seen == []


def test_cancelling_ends_a_clone_that_waits_for_its_remote(server: GitServer):
    asked = threading.Event()
    server.stall = asked
    door = Door()
    door.cancelled = asked.is_set
    started = time.monotonic()
    with pytest.raises(ToolFailed, match="cancelled") as failed:
        door.run("workspace.prepare", url=f"{server.url}/remote.git")
    assert not failed.value.transient
    assert time.monotonic() - started < 20
