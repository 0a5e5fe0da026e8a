"""What the git tools say about a call before anything runs."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tools import registry
from tools.builtin.git import TOOLS, config_scan
from tools.builtin.git.hardening import environment, identity
from tools.builtin.git.locks import exclusive
from tools.builtin.git.remotes import check_url
from tools.errors import InvalidArguments, ToolFailed, ToolRefused
from tools.spec import Effect, Risk


def test_every_tool_is_registered_on_the_git_queue():
    assert {tool.name for tool in TOOLS} == {
        f"git.{name}"
        for name in (
            "status", "diff", "log", "show", "branch", "checkout", "add", "commit", "merge", "rebase", "tag", "fetch", "push", "push_tag",
            "apply", "clean", "cherry_pick", "revert", "reset", "stash", "delete_branch", "force_push", "restore_branch",
            "pull_request", "close_pull_request",
        )
    }  # fmt: skip
    for tool in (*TOOLS, registry.get("workspace.prepare")):
        assert registry.get(tool.name) is tool
        assert tool.queue == "git"
    assert not registry.get("workspace.prepare").offered


@pytest.mark.parametrize(
    ("name", "effect"),
    [
        ("git.status", Effect.READ), ("git.diff", Effect.READ), ("git.log", Effect.READ), ("git.show", Effect.READ),
        ("git.branch", Effect.REPEATABLE), ("git.checkout", Effect.REPEATABLE), ("git.add", Effect.REPEATABLE),
        ("git.fetch", Effect.REPEATABLE), ("workspace.prepare", Effect.REPEATABLE),
        ("git.commit", Effect.ONCE), ("git.merge", Effect.ONCE), ("git.rebase", Effect.ONCE), ("git.tag", Effect.ONCE), ("git.push", Effect.ONCE),
        ("git.push_tag", Effect.ONCE), ("git.clone", Effect.REPEATABLE), ("git.clean", Effect.REPEATABLE),
        ("git.apply", Effect.ONCE), ("git.cherry_pick", Effect.ONCE), ("git.revert", Effect.ONCE),
        ("git.reset", Effect.ONCE), ("git.stash", Effect.ONCE), ("git.delete_branch", Effect.ONCE),
        ("git.force_push", Effect.ONCE), ("git.restore_branch", Effect.ONCE), ("git.pull_request", Effect.ONCE),
        ("git.close_pull_request", Effect.ONCE),
    ],
)  # fmt: skip
def test_effects_say_what_a_lost_attempt_means(name: str, effect: Effect):
    assert registry.get(name).effect is effect


@pytest.mark.parametrize(
    ("name", "arguments", "command"),
    [
        ("git.status", {}, "git status"),
        ("git.diff", {"staged": True, "paths": ["a b"]}, "git diff --cached -- 'a b'"),
        ("git.log", {"exclude_ref": "origin/main"}, "git log --max-count=20 HEAD '^origin/main'"),
        ("git.show", {"ref": "v1", "path": "a.py"}, "git show v1:a.py"),
        ("git.branch", {}, "git branch --all"),
        ("git.branch", {"create": "x", "start": "main"}, "git branch --no-track x main"),
        ("git.checkout", {"ref": "x", "create": True}, "git checkout --no-track -b x"),
        ("git.add", {"paths": ["."]}, "git add -- ."),
        ("git.commit", {"message": "One\n\nTwo"}, "git commit -m One"),
        ("git.merge", {"ref": "x"}, "git merge x"),
        ("git.merge", {"abort": True}, "git merge --abort"),
        ("git.rebase", {"onto": "origin/main"}, "git rebase origin/main"),
        ("git.rebase", {"onto": "main", "branch": "x"}, "git rebase main x"),
        ("git.tag", {"name": "v1", "message": "m"}, "git tag -a -m m v1"),
        ("git.push_tag", {"tag": "v1"}, "git push origin refs/tags/v1"),
        ("git.fetch", {}, "git fetch origin"),
        ("git.push", {"branch": "x"}, "git push origin x"),
        ("git.push", {"branch": "x", "remote_branch": "y"}, "git push origin x:y"),
        ("workspace.prepare", {"url": "https://h/x.git", "branch": "b"}, "git clone --branch b https://h/x.git"),
        ("git.clone", {"url": "https://h/x.git"}, "git clone https://h/x.git"),
        ("git.cherry_pick", {"refs": ["a", "b"], "mainline": 1}, "git cherry-pick -m 1 a b"),
        ("git.revert", {"ref": "HEAD~2"}, "git revert 'HEAD~2'"),
        ("git.reset", {"ref": "x", "mode": "hard"}, "git reset --hard x"),
        ("git.reset", {"paths": ["a b"]}, "git reset HEAD -- 'a b'"),
        ("git.stash", {"action": "save", "untracked": True, "message": "x y"}, "git stash push -u -m 'x y'"),
        ("git.stash", {"action": "pop", "stash": "1"}, "git stash pop 1"),
        ("git.clean", {"folders": True, "ignored": True, "paths": ["x"]}, "git clean -f -d -x -- x"),
        ("git.apply", {"patch": "x", "staged": True, "reverse": True}, "git apply --index -R -"),
        ("git.delete_branch", {"branch": "x"}, "git branch -d x"),
        ("git.delete_branch", {"branch": "x", "unmerged": True}, "git branch -D x"),
        ("git.delete_branch", {"branch": "x", "at": "origin"}, "git push origin --delete x"),
        ("git.force_push", {"branch": "x", "remote_branch": "y"}, "git push --force-with-lease=y origin x:y"),
    ],
)
def test_descriptions_are_the_command_as_it_would_be_typed(name: str, arguments: dict, command: str):
    tool = registry.get(name)
    registry.validate(tool, arguments)
    assert tool.describe(arguments) == command


@pytest.mark.parametrize(
    ("arguments", "level"),
    [
        ({"branch": "main"}, Risk.HIGH),
        ({"branch": "fix", "remote_branch": "master"}, Risk.HIGH),
        ({"branch": "main", "remote_branch": "agent/main"}, Risk.MEDIUM),
        ({"branch": "fix"}, Risk.MEDIUM),
    ],
)
def test_a_push_is_as_risky_as_the_branch_it_moves(arguments: dict, level: Risk):
    score = registry.get("git.push").risk(arguments)
    assert score.level is level and score.reasons


def test_other_operations_have_their_risk():
    assert registry.get("git.commit").risk({"message": "x"}).level is Risk.LOW
    assert registry.get("git.tag").risk({"name": "v1"}).level is Risk.MEDIUM
    assert registry.get("git.push_tag").risk({"tag": "v1"}).level is Risk.HIGH
    rebase = registry.get("git.rebase").risk({"onto": "main"})
    assert rebase.level is Risk.MEDIUM and rebase.reasons
    assert registry.get("git.status").risk({}).level is Risk.LOW


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("git.status", {"flag": "--x"}),
        ("git.diff", {"to_ref": "x"}),
        ("git.checkout", {"ref": "x", "start": "y"}),
        ("git.merge", {}),
        ("git.rebase", {}),
        ("git.rebase", {"onto": "x", "exec": "y"}),
        ("git.merge", {"abort": True, "ref": "x"}),
        ("git.add", {"paths": []}),
        ("git.commit", {"message": ""}),
        ("git.push", {"branch": "x", "force": True}),
        ("git.push", {"branch": "x", "tag": "y"}),
        ("git.push_tag", {}),
        ("git.log", {"max_count": 100_000}),
    ],
)
def test_arguments_that_do_not_fit_are_named(name: str, arguments: dict):
    with pytest.raises(InvalidArguments) as raised:
        registry.validate(registry.get(name), arguments)
    assert raised.value.field.startswith("arguments")


def test_addresses_have_one_form(settings, tmp_path: Path):
    settings.ALLOW_LOCAL_REPOSITORIES = True
    assert check_url("https://example.org/a.git/") == "https://example.org/a.git"
    assert check_url("https://[::1]:8443/a.git") == "https://[::1]:8443/a.git"
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for url in (f"{tmp_path}/link", f"file://{tmp_path}/link/", f"{tmp_path}/x/../real"):
        assert check_url(url) == str(tmp_path / "real")
    with pytest.raises(ToolRefused):
        check_url("https://user@example.org/a.git")


def test_the_identity_is_a_setting(settings):
    assert identity() == ("Countersign agent", "agent@countersign.invalid")
    settings.GIT_IDENTITY = "Robot <robot@example.org>"
    assert environment()["GIT_COMMITTER_NAME"] == "Robot"
    assert environment()["GIT_AUTHOR_EMAIL"] == "robot@example.org"


def test_nothing_that_starts_a_program_is_left_in_the_environment():
    env = environment()
    for name in ("GIT_ASKPASS", "SSH_ASKPASS", "GIT_EDITOR", "GIT_SEQUENCE_EDITOR", "GIT_SSH_COMMAND"):
        assert env[name] == "/bin/false"
    assert (env["GIT_ALLOW_PROTOCOL"], env["GIT_CONFIG_GLOBAL"], env["GIT_CONFIG_NOSYSTEM"]) == (
        "none",
        "/dev/null",
        "1",
    )


def repository(folder: Path) -> Path:
    git_dir = folder / "repo.git"
    subprocess.run(["git", "init", "-q", "--template=", f"--separate-git-dir={git_dir}", folder / "tree"], check=True)
    return git_dir


def test_a_fresh_repository_passes_the_scan(tmp_path: Path):
    git_dir = repository(tmp_path)
    config_scan.scan(git_dir)
    with (git_dir / "config").open("a") as config:
        config.write('[remote "origin"]\n\turl = x\n\tfetch = y\n[branch "a.b/c"]\n\tremote = origin\n\tmerge = z\n')
    config_scan.scan(git_dir)


@pytest.mark.parametrize(
    "setting",
    ["[core]\n\tpager = x", "[alias]\n\tx = !y", '[Filter "X"]\n\tClean = y', "[include]\n\tpath = /x", "[a.b]\nc"],
)
def test_any_other_setting_fails_the_scan(tmp_path: Path, setting: str):
    git_dir = repository(tmp_path)
    with (git_dir / "config").open("a") as config:
        config.write(setting + "\n")
    with pytest.raises(ToolRefused):
        config_scan.scan(git_dir)


def test_a_configuration_that_git_cannot_read_fails_the_scan(tmp_path: Path):
    git_dir = repository(tmp_path)
    (git_dir / "config").write_text("[core\n")
    with pytest.raises(ToolFailed):
        config_scan.scan(git_dir)
    (git_dir / "config").write_text("#" * 100_000)
    with pytest.raises(ToolRefused, match="too large"):
        config_scan.scan(git_dir)


def test_the_lock_lets_one_in_at_a_time(tmp_path: Path):
    inside, seen = threading.Event(), []

    def second() -> None:
        inside.wait(60)
        with exclusive(tmp_path / "lock", what="it"):
            seen.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with exclusive(tmp_path / "lock", what="it"):
        inside.set()
        with pytest.raises(ToolFailed) as failed, exclusive(tmp_path / "lock", what="it", wait_s=0.2):
            pass
        assert failed.value.transient and seen == []
    thread.join(60)
    assert seen == ["second"]


def test_a_child_holds_the_lock_on_when_its_parent_lets_go(tmp_path: Path):
    """As a git does whose worker was killed."""
    reader, writer = os.pipe()
    wait = "import os, sys; os.read(int(sys.argv[1]), 1)"
    with exclusive(tmp_path / "lock", what="it") as descriptor:
        child = subprocess.Popen([sys.executable, "-c", wait, str(reader)], pass_fds=(reader, descriptor))
    with pytest.raises(ToolFailed), exclusive(tmp_path / "lock", what="it", wait_s=0.2):
        pass
    os.write(writer, b"x")
    child.wait(60)
    with exclusive(tmp_path / "lock", what="it", wait_s=5):
        pass
    os.close(reader)
    os.close(writer)
