"""git.clone: whose hosts may be named, and what a clone leaves out."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.tools.git_server import GitServer, serve
from tests.integration.tools.git_support import Door, Remote, make_remote
from tools.builtin.git import remotes
from tools.builtin.git.remotes import check_host
from tools.errors import ToolRefused

pytestmark = pytest.mark.django_db


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return make_remote(tmp_path)


@pytest.fixture
def server(remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitServer]:
    with serve(remote.path.parent, tmp_path) as server:
        monkeypatch.setenv("GIT_SSL_CAINFO", str(server.certificate))
        yield server


@pytest.fixture
def repositories(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of the server's repositories."""
    known: list[str] = []
    monkeypatch.setattr(remotes, "_find", lambda: known)
    return known


def test_a_job_without_a_repository_clones_one_of_a_known_host(
    server: GitServer, remote: Remote, repositories: list[str], settings
):
    url = f"{server.url}/remote.git"
    door = Door()
    with pytest.raises(ToolRefused, match="No repository of this server's"):
        door.run("git.clone", url=url)
    assert server.seen == []
    with pytest.raises(ToolRefused):
        door.preview("git.clone", url=url)
    repositories.append(f"{server.url}/another.git")
    assert "would be cloned" in door.preview("git.clone", url=url)[0]
    assert door.ok("git.clone", url=url).data["sha"] == remote.sha("main")
    assert door.ok("git.clone", url=url).ok  # again: it is there
    other = door.run("git.clone", url=f"{server.url}/another.git")
    assert (other.ok, other.data["code"]) == (False, "other_repository")
    settings.GIT_HOSTS = "git.example.org"
    with pytest.raises(ToolRefused, match="GIT_HOSTS"):
        Door().run("workspace.prepare", url=url)


def test_hosts_are_named_by_the_setting_the_rule_or_the_repositories(repositories: list[str], settings):
    check_host("https://git.example.org/x", named=True)
    with pytest.raises(ToolRefused):
        check_host("https://git.example.org/x", named=False)
    settings.GIT_HOSTS = "*.example.org, git.example.com:8443"
    check_host("https://git.example.org/x", named=False)
    check_host("https://git.example.com:8443/x", named=True)
    for url in ("https://git.example.com/x", "https://example.org.evil.net/x", "https://github.com/o/r"):
        for named in (True, False):
            with pytest.raises(ToolRefused, match="GIT_HOSTS"):
                check_host(url, named=named)
    settings.GIT_HOSTS = ""
    repositories.append("https://git.example.com:8443/team/shop.git")
    check_host("https://git.example.com:8443/other", named=False)
    for url in ("https://git.example.com/other", "/srv/git/x.git"):
        with pytest.raises(ToolRefused):
            check_host(url, named=False)
