"""git.pull_request and git.close_pull_request, against a forge of each kind that is as strict as the real one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.tools.forge import Forge, Pull
from tests.integration.tools.git_server import GitServer, serve
from tests.integration.tools.git_support import Door, Remote, make_remote
from tools.builtin.git.hosting import kinds
from tools.errors import InvalidArguments, PermitMismatch, ToolFailed, ToolRefused
from tools.secrets.models import SecretHandle

pytestmark = pytest.mark.django_db

TOKEN = "a-token-that-is-nobodys-9876543210"


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    folder = tmp_path / "team"
    folder.mkdir()
    return make_remote(folder)


@pytest.fixture
def server(remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings) -> Iterator[GitServer]:
    with serve(tmp_path, tmp_path) as server:
        monkeypatch.setenv("GIT_SSL_CAINFO", str(server.certificate))
        settings.EGRESS_EXCEPTIONS = [server.url.removeprefix("https://")]
        server.user, server.password = "x-access-token", TOKEN
        yield server


@pytest.fixture
def handle(server: GitServer, tmp_path: Path, settings) -> SecretHandle:
    settings.SECRETS_DIR = str(tmp_path / "secrets")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "forge").write_text(TOKEN)
    host = server.url.removeprefix("https://")
    return SecretHandle.objects.create(
        name="forge", place="forge", tools=["git.*"], agents=["*"], groups=["*"], hosts=[host]
    )


def forge_at(server: GitServer, remote: Remote, kind: str) -> Forge:
    forge = Forge(kind, "team/remote", remote.path, TOKEN, base=server.url)
    server.api = forge
    return forge


def cloned(server: GitServer, hosting: str = "", **more: str) -> Door:
    door = Door()
    given = {"hosting": hosting} if hosting else {}
    door.ok("workspace.prepare", url=f"{server.url}/team/remote.git", branch="main", **given, **more)
    return door


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_a_pull_request_is_opened_once_found_and_closed(
    server: GitServer, remote: Remote, handle: SecretHandle, kind: str
):
    forge = forge_at(server, remote, kind)
    forge.pulls.append(Pull(1, "fix", "main", "From a fork", "", owner="stranger"))
    door = cloned(server)  # what kind it is, it is asked
    door.ok("git.checkout", ref="fix", create=True)
    sha = door.commit({"a.txt": "a\n"}, "Add a")
    wanted = {"title": "Add a", "body": "Because.", "branch": "fix", "draft": True}
    assert door.run("git.pull_request", **wanted).data["code"] == "not_pushed"
    door.ok("git.push", branch="fix")
    text, state = door.preview("git.pull_request", **wanted)
    assert "fix at" in text and "1 commit, 1 file changed, 1 line added, 0 removed" in text and "Because." in text
    assert state == {
        "url": f"{server.url}/team/remote.git",
        "branch": "fix",
        "head_sha": sha,
        "base": "main",
        "open": 0,
    }
    assert door.probe("git.pull_request", state, **wanted) is None and len(forge.pulls) == 1
    result = door.ok("git.pull_request", state, **wanted)
    assert (result.data["number"], result.data["draft"], result.data["sha"]) == (2, True, sha)
    assert result.data["url"].startswith(server.url) and "Add a" in result.data["title"]
    assert result.sandbox["connections"][0]["allowed"] is True and TOKEN not in str(result)
    found = door.probe("git.pull_request", state, **wanted)
    assert found is not None and found.data["number"] == 2
    again = door.ok("git.pull_request", **wanted)
    assert again.data["how"] == "is open already" and "undo" not in again.data and len(forge.pulls) == 2
    assert "is open already" in door.preview("git.pull_request", **wanted)[0]
    undo = result.data["undo"]
    text, state = door.preview(undo["tool"], **undo["arguments"])
    assert "would be closed" in text and state["state"] == "open"
    assert door.probe(undo["tool"], state, **undo["arguments"]) is None
    assert door.ok(undo["tool"], state, **undo["arguments"]).data["state"] == "closed"
    assert door.probe(undo["tool"], state, **undo["arguments"]) is not None
    assert (forge.pulls[0].state, forge.pulls[1].state) == ("open", "closed")


def test_a_lost_answer_is_found_again_and_a_failure_says_so(server: GitServer, remote: Remote, handle: SecretHandle):
    forge = forge_at(server, remote, "github")
    remote.commit({"a.txt": "a\n"}, "Add a", "fix")
    door = cloned(server, "github", credential="forge")
    forge.lose = True
    result = door.ok("git.pull_request", title="Add a", branch="fix")
    assert "answer was lost" in result.data["how"] and len(forge.pulls) == 1
    forge.fail_with = 502
    with pytest.raises(ToolFailed, match="Try later") as failed:
        door.run("git.pull_request", title="Add a", branch="fix")
    assert failed.value.transient
    forge.fail_with, forge.wanted = 0, "another"
    with pytest.raises(ToolFailed, match="does not let the server") as failed:
        door.run("git.close_pull_request", number=1)
    assert not failed.value.transient


def test_what_was_approved_is_what_is_asked_for(server: GitServer, remote: Remote, handle: SecretHandle):
    forge = forge_at(server, remote, "gitea")
    remote.commit({"a.txt": "a\n"}, "Add a", "fix")
    door = cloned(server, "gitea")
    _, state = door.preview("git.pull_request", title="Add a", branch="fix")
    remote.commit({"a.txt": "evil\n"}, "Evil", "fix")
    with pytest.raises(PermitMismatch):
        door.run("git.pull_request", state, title="Add a", branch="fix")
    assert forge.pulls == []
    empty = door.run("git.pull_request", title="Nothing", branch="main", base="fix")
    assert empty.data["code"] == "forge_refused" and "No commits between" in empty.summary
    for arguments in ({"branch": "main"}, {"branch": "fix", "base": "fix"}):
        assert door.run("git.pull_request", title="x", **arguments).data["code"] == "same_branch"


def test_hostile_arguments_go_nowhere(server: GitServer, remote: Remote, handle: SecretHandle):
    forge = forge_at(server, remote, "github")
    door = cloned(server, "github")
    for arguments in (
        {"title": "x\nHost: evil", "branch": "fix"},
        {"title": " ", "branch": "fix"},
        {"title": "x", "branch": "fix", "body": "\x1b[2J"},
        {"title": "x", "branch": "../../../user/repos"},
        {"title": "x", "branch": "fix?state=all&head=x"},
        {"title": "x", "branch": "--upload-pack=x"},
        {"title": "x", "branch": "fix", "base": "a b"},
    ):
        with pytest.raises((InvalidArguments, ToolRefused)):
            door.run("git.pull_request", **arguments)
    assert forge.asked == []


def test_a_private_address_is_reached_only_as_an_exception(
    server: GitServer, remote: Remote, handle: SecretHandle, settings
):
    forge = forge_at(server, remote, "github")
    remote.commit({"a.txt": "a\n"}, "Add a", "fix")
    door = cloned(server, "github")
    settings.EGRESS_EXCEPTIONS = []
    with pytest.raises(ToolRefused, match="may not be reached"):
        door.run("git.pull_request", title="x", branch="fix")
    assert forge.asked == []


def test_the_handle_must_fit(server: GitServer, remote: Remote, handle: SecretHandle):
    handle.hosts = ["elsewhere.example.org"]
    handle.save()
    with pytest.raises(ToolRefused, match="not for the host"):
        cloned(server, "github", credential="forge")
    with pytest.raises(ToolFailed, match="does not let the server in"):
        cloned(server, "github")


def test_a_folder_has_no_forge(remote: Remote):
    door = Door()
    door.ok("workspace.prepare", url=str(remote.path), branch="main")
    assert door.run("git.pull_request", title="x", branch="fix").data["code"] == "no_forge"
    assert door.run("git.close_pull_request", number=1).data["code"] == "no_forge"


@pytest.mark.parametrize(
    ("url", "kind", "base", "path"),
    [
        ("https://github.com/o/r.git", "github", "https://api.github.com", "o/r"),
        ("https://gitlab.com/g/sub/r", "gitlab", "https://gitlab.com/api/v4", "g/sub/r"),
        ("https://codeberg.org/o/r", "gitea", "https://codeberg.org/api/v1", "o/r"),
        ("https://gitlab.example.org:8443/o/r", "gitlab", "https://gitlab.example.org:8443/api/v4", "o/r"),
        ("https://github.example.org/o/r", "github", "https://github.example.org/api/v3", "o/r"),
        ("https://forgejo.example.org/o/r%20x", "gitea", "https://forgejo.example.org/api/v1", "o/r x"),
    ],
)
def test_forges_are_known_by_their_names(url: str, kind: str, base: str, path: str):
    assert kinds.known(url) == kind
    assert (kinds.base_of(kind, url), kinds.path_of(url)) == (base, path)


@pytest.mark.parametrize("url", ["https://git.example.org/o/r", "https://notgithub.com/o/r", "https://github/o/r"])
def test_other_names_say_nothing(url: str):
    assert kinds.known(url) == ""


@pytest.mark.parametrize("url", ["https://github.com/r", "https://github.com/o/..", "https://github.com/o/a%2Fb"])
def test_addresses_without_owner_and_name_are_refused(url: str):
    with pytest.raises(ToolRefused):
        kinds.path_of(url)
