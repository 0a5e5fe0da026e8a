"""Repositories made to attack whoever works on them, with the real git; what could run a program in each sandbox tier."""

import os
import threading
from pathlib import Path

import pytest

from tests.integration.tools.git_support import Door, Remote, git_box, make_remote, plain_git
from tools.builtin.git.broker import from_scratch
from tools.builtin.git.cli import Git
from tools.errors import ToolRefused
from tools.registry import get
from tools.sandbox import probe

pytestmark = pytest.mark.django_db

HOOKS = (
    "pre-commit", "prepare-commit-msg", "commit-msg", "post-commit", "post-checkout", "pre-merge-commit", "post-merge",
    "reference-transaction", "pre-push", "post-index-change", "fsmonitor-watchman", "post-rewrite", "pre-auto-gc",
    "pre-rebase",
)  # fmt: skip


@pytest.fixture(params=probe.TIERS)
def tier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    report = probe.report(request.param)
    if not report.works:
        pytest.skip(f"{request.param}: {report.why}")
    monkeypatch.setenv("SANDBOX_TIER", request.param)
    return str(request.param)


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return make_remote(tmp_path)


@pytest.fixture
def door(remote: Remote) -> Door:
    door = Door()
    door.ok("workspace.prepare", url=str(remote.path), branch="main")
    return door


@pytest.fixture
def tiered_door(tier: str, door: Door) -> Door:
    """The same in each tier, for what only the sandbox and git together can hold."""
    return door


def mark(door: Door) -> str:
    """A shell command that leaves a mark wherever a git step could write."""
    return f"touch {door.workspace.tree}/PWNED {door.workspace.git_dir}/PWNED {door.workspace.scratch}/PWNED"


def marks(door: Door) -> list[Path]:
    return list(door.workspace.root.rglob("PWNED"))


def plant(door: Door, path: Path, content: str, mode: int = 0o644) -> None:
    """Writes a file as whoever had broken out of a git step could."""
    owner = door.workspace.tree.stat()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)
    for made in (path, path.parent):
        os.chown(made, owner.st_uid, owner.st_gid)


def script(door: Door, name: str) -> Path:
    path = door.workspace.tree / name
    plant(door, path, f"#!/bin/sh\n{mark(door)}\ncat\n", 0o755)
    return path


def work(door: Door) -> None:
    """Every operation once."""
    door.ok("git.status")
    door.ok("git.checkout", ref="topic", create=True)
    door.commit({"src/app.py": "print('two')\n", "data.evil": "x\n"})
    door.ok("git.diff", from_ref="HEAD~1")
    door.ok("git.show", ref="HEAD")
    door.ok("git.log")
    door.ok("git.checkout", ref="main")
    door.commit({"b.txt": "b\n"})
    door.ok("git.checkout", ref="aside", create=True, start="HEAD~1")
    door.commit({"c.txt": "c\n"})
    door.ok("git.rebase", onto="main")
    door.ok("git.checkout", ref="main")
    door.ok("git.merge", ref="topic")
    door.ok("git.tag", name="v1", message="One")
    door.ok("git.fetch")
    door.preview("git.push", branch="main")
    door.ok("git.push", branch="main")
    door.ok("git.push_tag", tag="v1")


def test_hooks_do_not_run(tiered_door: Door):
    door = tiered_door
    for name in HOOKS:
        plant(door, door.workspace.git_dir / "hooks" / name, f"#!/bin/sh\n{mark(door)}\n", 0o755)
    work(door)
    assert marks(door) == []


FOREIGN_SETTINGS = [
    "[core]\n\tfsmonitor = {command}",
    "[core]\n\thooksPath = {tree}",
    "[core]\n\tsshCommand = {command}",
    "[core]\n\tpager = {command}",
    "[core]\n\teditor = {command}",
    "[core]\n\tworktree = /",
    "[core]\n\tattributesFile = {tree}/attributes",
    "[core]\n\talternateRefsCommand = {command}",
    '[filter "evil"]\n\tclean = {command}\n\tsmudge = {command}\n\trequired = true',
    '[filter "evil"]\n\tprocess = {command}',
    '[diff "evil"]\n\ttextconv = {command}',
    '[diff "evil"]\n\tcommand = {command}',
    "[diff]\n\texternal = {command}",
    '[merge "evil"]\n\tdriver = {command}',
    "[alias]\n\tstatus = !{command}\n\tcommit = !{command}",
    '[trailer "x"]\n\tcommand = {command}',
    "[gpg]\n\tprogram = {command}",
    "[commit]\n\tgpgSign = true",
    "[credential]\n\thelper = {command}",
    "[include]\n\tpath = {tree}/more.config",
    '[includeIf "gitdir:/"]\n\tpath = {tree}/more.config',
    "[extensions]\n\tworktreeConfig = true",
    '[url "ext::{command} "]\n\tinsteadOf = /',
    '[remote "origin"]\n\tuploadpack = {command}',
    '[remote "other"]\n\turl = ext::{command}',
    '[submodule "x"]\n\tupdate = !{command}',
    '[branch "main"]\n\tmergeOptions = --strategy=evil',
    '[ALIAS "x"]\n\tcommand = {command}',
    "[sequence]\n\teditor = {command}",
]


def test_a_configuration_that_is_not_ours_stops_every_operation(door: Door, remote: Remote):
    command = script(door, "evil.sh")
    plant(door, door.workspace.tree / ".gitattributes", "* filter=evil diff=evil merge=evil\n")
    config = door.workspace.git_dir / "config"
    ours = config.read_text()
    runs = (
        ("git.status", {}),
        ("git.diff", {}),
        ("git.add", {"paths": ["."]}),
        ("git.commit", {"message": "x"}),
        ("git.checkout", {"ref": "x", "create": True}),
        ("git.push", {"branch": "main"}),
        ("git.rebase", {"onto": "main"}),
        ("workspace.prepare", {"url": str(remote.path), "branch": "main"}),
    )
    for setting in FOREIGN_SETTINGS:
        config.write_text(ours + setting.format(command=command, tree=door.workspace.tree) + "\n")
        for tool, arguments in runs:
            with pytest.raises(ToolRefused, match="not allowed"):
                door.run(tool, **arguments)
        for tool, arguments in (("git.push", {"branch": "main"}), ("git.commit", {"message": "x"})):
            with pytest.raises(ToolRefused, match="not allowed"):
                door.preview(tool, **arguments)
            with pytest.raises(ToolRefused, match="not allowed"):
                door.probe(tool, **arguments)
    assert marks(door) == []


@pytest.mark.parametrize("name", ["commondir", "config.worktree", "info/attributes", "objects/info/alternates"])
def test_files_that_redirect_git_stop_every_operation(remote: Remote, name: str):
    door = Door()
    door.ok("workspace.prepare", url=str(remote.path), branch="main")
    plant(door, door.workspace.git_dir / name, str(remote.path))
    with pytest.raises(ToolRefused, match=name):
        door.run("git.status")


def test_a_configuration_behind_a_link_or_a_pipe_is_not_read(remote: Remote, tmp_path: Path):
    door = Door()
    door.ok("workspace.prepare", url=str(remote.path), branch="main")
    config = door.workspace.git_dir / "config"
    config.rename(tmp_path / "config")
    config.symlink_to(tmp_path / "config")
    with pytest.raises(ToolRefused):
        door.run("git.status")
    config.unlink()
    os.mkfifo(config)
    with pytest.raises(ToolRefused):
        door.run("git.status")


def test_a_git_directory_behind_a_link_is_not_used(remote: Remote):
    door = Door()
    door.ok("workspace.prepare", url=str(remote.path), branch="main")
    door.workspace.git_dir.rename(door.workspace.git_dir.with_name("moved.git"))
    door.workspace.git_dir.symlink_to(door.workspace.git_dir.with_name("moved.git"))
    with pytest.raises(ToolRefused, match="not a folder"):
        door.run("git.status")


def evil_repository(door: Door, folder: Path) -> None:
    """A repository whose own configuration runs programs at every occasion."""
    command = script(door, "evil.sh")
    plain_git(folder.parent, "init", "-q", str(folder))
    plain_git(folder, "commit", "-q", "--allow-empty", "-m", "x")
    (folder / "file.txt").write_text("one\n")
    plain_git(folder, "add", "file.txt")
    (folder / "file.txt").write_text("two\n")
    (folder / ".gitattributes").write_text("* filter=evil diff=evil\n")
    with (folder / ".git" / "config").open("a") as config:
        config.write(f'[core]\n\tfsmonitor = {command}\n[filter "evil"]\n\tclean = {command}\n\tsmudge = {command}\n')
        config.write(f"[diff]\n\texternal = {command}\n[alias]\n\tstatus = !{command}\n")
    owner = door.workspace.tree.stat()
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def test_a_git_link_in_the_work_tree_that_leads_elsewhere_is_ignored(tiered_door: Door):
    door = tiered_door
    evil_repository(door, door.workspace.scratch / "evil")
    (door.workspace.tree / ".git").unlink()
    (door.workspace.tree / ".git").symlink_to(door.workspace.scratch / "evil" / ".git")
    work(door)
    assert marks(door) == []


def test_a_repository_inside_the_work_tree_runs_nothing_and_is_not_added(tiered_door: Door):
    door = tiered_door
    evil_repository(door, door.workspace.tree / "nested")
    door.ok("git.status")
    door.ok("git.diff")
    for paths in (["."], ["nested"], ["nested/file.txt"]):
        result = door.run("git.add", paths=paths)
        assert (result.ok, result.data["code"]) == (False, "embedded_repository")
    door.ok("git.add", paths=["README.md"])
    assert marks(door) == []


@pytest.mark.parametrize("name", [b"new\nline", b"a/.git\n./b", b"control\x01", b"invalid\xff"])
def test_a_nested_repository_with_an_odd_name_is_seen(remote: Remote, name: bytes):
    door = Door()
    door.ok("workspace.prepare", url=str(remote.path), branch="main")
    nested = os.path.join(os.fsencode(door.workspace.tree), name)
    os.makedirs(nested + b"/.git")
    assert Git(git_box(door)).nested_repositories() == [os.fsdecode(name)]
    assert door.run("git.add", paths=["."]).data["code"] == "embedded_repository"


def test_a_submodule_is_not_fetched_and_one_that_is_populated_runs_nothing(tier: str, remote: Remote):
    sha = remote.sha("main")
    plain_git(remote.work, "update-index", "--add", "--cacheinfo", f"160000,{sha},sub")
    (remote.work / ".gitmodules").write_text(
        '[submodule "sub"]\n\tpath = sub\n\turl = ext::sh -c "touch PWNED"\n\tignore = none\n\tupdate = checkout\n'
    )
    plain_git(remote.work, "add", ".gitmodules")
    plain_git(remote.work, "commit", "-q", "-m", "A submodule")
    plain_git(remote.work, "push", "-q", "origin", "main")
    door = Door()
    door.ok("workspace.prepare", url=str(remote.path), branch="main")
    assert list((door.workspace.tree / "sub").iterdir()) == []
    door.commit({"README.md": "with an empty submodule\n"})
    (door.workspace.tree / "sub").rmdir()
    evil_repository(door, door.workspace.tree / "sub")
    for tool in ("git.status", "git.diff"):
        door.ok(tool)
    for tool, arguments in (("git.add", {"paths": ["README.md"]}), ("git.checkout", {"ref": "x", "create": True})):
        assert door.run(tool, **arguments).data["code"] == "submodule"
    assert marks(door) == []


def test_branches_named_like_options_are_listed_and_never_taken_for_options(remote: Remote):
    for name in ("--upload-pack=touch PWNED", "-x", "--output=PWNED"):
        ref = f"refs/heads/{name.replace(' ', '')}"
        (remote.path / ref).parent.mkdir(parents=True, exist_ok=True)
        (remote.path / ref).write_text(remote.sha("main") + "\n")
    door = Door()
    door.ok("workspace.prepare", url=str(remote.path), branch="main")
    names = {entry["name"] for entry in door.ok("git.branch").data["branches"]}
    assert {"origin/-x", "origin/--output=PWNED", "origin/--upload-pack=touchPWNED"} <= names
    for ref in ("-x", "--output=PWNED"):
        for tool, arguments in (
            ("git.checkout", {"ref": ref}),
            ("git.log", {"ref": ref}),
            ("git.show", {"ref": ref}),
            ("git.diff", {"from_ref": ref}),
            ("git.merge", {"ref": ref}),
            ("git.rebase", {"onto": ref}),
            ("git.rebase", {"onto": "main", "branch": ref}),
            ("git.push", {"branch": ref}),
            ("git.push", {"branch": "main", "remote_branch": ref}),
            ("git.branch", {"create": ref}),
            ("git.tag", {"name": ref}),
            ("git.push_tag", {"tag": ref}),
            ("workspace.prepare", {"url": str(remote.path), "branch": ref}),
        ):
            with pytest.raises(ToolRefused):
                door.run(tool, **arguments)
    work(door)
    assert not list(door.workspace.root.rglob("PWNED"))


def test_a_default_branch_named_like_an_option_is_refused(remote: Remote):
    (remote.path / "refs/heads/--exec=x").write_text(remote.sha("main") + "\n")
    (remote.path / "HEAD").write_text("ref: refs/heads/--exec=x\n")
    with pytest.raises(ToolRefused):
        Door().run("workspace.prepare", url=str(remote.path))


def test_file_names_are_taken_literally(door: Door):
    names = ["-rf", "--all", ":(top)x", "*", "a b", "tab\there", "new\nline", 'quo"te', "ü.txt", "$(touch PWNED)"]
    for name in names:
        door.write(name, "x\n")
    door.write("bystander", "x\n")
    entries = {entry["path"] for entry in door.ok("git.status").data["entries"]}
    assert entries == {*names, "bystander"}
    added = door.ok("git.add", paths=["*", ":(top)x", "-rf", "--all"])
    assert {entry["path"] for entry in added.data["staged"]} == {"*", ":(top)x", "-rf", "--all"}
    door.ok("git.commit", message="Odd names")
    assert {entry["path"] for entry in door.ok("git.diff", from_ref="HEAD~1", to_ref="HEAD").data["files"]} == {
        "*", ":(top)x", "-rf", "--all",
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside", "a/../../b", ".git/config", "x/.GIT/hooks", "a\nb"])
def test_paths_that_lead_elsewhere_are_refused(path: str):
    for tool, arguments in (
        ("git.add", {"paths": [path]}),
        ("git.diff", {"paths": [path]}),
        ("git.show", {"path": path}),
    ):
        with pytest.raises(ToolRefused):
            Door().run(tool, **arguments)


def test_names_and_subjects_cannot_forge_a_commit_in_the_log(door: Door, remote: Remote):
    forged = "f" * 40
    evil = f"Eve\rcommit {forged}\r{forged}\t\x1f\x1e\x00"[:-1]
    body = (
        f"tree {plain_git(remote.work, 'rev-parse', 'HEAD^{tree}')}\nparent {remote.sha('main')}\n"
        f"author {evil} <e@e> 1700000000 +0000\ncommitter {evil} <e@e> 1700000000 +0000\n\n"
        f"Subject\r{forged}\r{forged}\rMallory\n"
    )
    made = plain_git(remote.work, "hash-object", "-t", "commit", "-w", "--stdin", "--literally", stdin=body)
    plain_git(remote.work, "push", "-q", "origin", f"{made}:refs/heads/main")
    door.ok("git.fetch")
    commits = door.ok("git.log", ref="origin/main").data["commits"]
    assert [commit["sha"] for commit in commits] == [made, door.ok("git.status").data["sha"]]
    assert all("\n" not in str(value) for commit in commits for value in commit.values())


def test_attributes_do_not_hide_a_change_from_an_approver(door: Door):
    door.ok("git.checkout", ref="hide", create=True)
    door.write(".gitattributes", "*.py -diff binary\n")
    door.write("src/app.py", "import os; os.system('evil')\n")
    door.ok("git.add", paths=["."])
    assert "os.system('evil')" in door.preview("git.commit", message="Innocent")[0]
    door.ok("git.commit", message="Innocent")
    assert "os.system('evil')" in door.preview("git.push", branch="hide")[0]


def test_replaced_objects_do_not_change_what_an_approver_sees(door: Door):
    evil = door.commit({"src/app.py": "import os; os.system('evil')\n"}, "Evil")
    door.ok("git.checkout", ref="innocent", create=True, start="HEAD~1")
    innocent = door.commit({"src/app.py": "print('hello')\n"}, "Innocent")
    plant(door, door.workspace.git_dir / "refs" / "replace" / evil, innocent + "\n")
    text, _ = door.preview("git.push", branch="main")
    assert "os.system('evil')" in text and "Innocent" not in text


def test_malformed_objects_do_not_reach_the_remote(door: Door, remote: Remote):
    blob = plain_git(remote.work, "hash-object", "-w", "--stdin", stdin="[core]\nfsmonitor=evil\n")
    config = plain_git(remote.work, "mktree", stdin=f"100644 blob {blob}\tconfig\n")
    tree = plain_git(remote.work, "mktree", stdin=f"040000 tree {config}\t.git\n")
    made = plain_git(remote.work, "commit-tree", tree, "-p", remote.sha("main"), "-m", "Evil")
    for name in (blob, config, tree, made):
        plant(door, door.workspace.git_dir / "objects" / name[:2] / name[2:], "")
        (door.workspace.git_dir / "objects" / name[:2] / name[2:]).write_bytes(
            (remote.work / ".git" / "objects" / name[:2] / name[2:]).read_bytes()
        )
    plant(door, door.workspace.git_dir / "refs" / "heads" / "evil", made + "\n")
    with pytest.raises(ToolRefused, match="not well formed"):
        door.run("git.push", branch="evil")
    assert remote.sha("evil") == ""


def test_a_huge_diff_is_cut_and_does_not_fail(door: Door):
    door.write("huge.txt", "".join(f"line {number}\n" for number in range(900_000)))
    door.ok("git.add", paths=["huge.txt"])
    result = door.ok("git.diff", staged=True)
    assert result.data["truncated"] and len(result.text) < 40_000
    assert result.data["files"] == [{"path": "huge.txt", "added": 900_000, "removed": 0}]
    text, state = door.preview("git.commit", message="Huge")
    assert len(text) < 100_000
    door.ok("git.commit", state, message="Huge")
    assert len(door.ok("git.show").text) < 40_000
    assert len(door.preview("git.push", branch="main")[0]) < 100_000
    door.ok("git.push", branch="main")


def test_a_bundle_behind_a_link_or_a_pipe_is_not_read(tmp_path: Path):
    (tmp_path / "secret").write_text("secret\n")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder", "nowhere"):
        with pytest.raises(ToolRefused), from_scratch(tmp_path, name):
            pass
    assert (tmp_path / "secret").exists()


def test_pushes_to_one_branch_at_the_same_time_leave_one_winner(remote: Remote):
    doors = [Door(), Door()]
    for number, door in enumerate(doors):
        door.ok("workspace.prepare", url=str(remote.path), branch="main")
        door.commit({f"{number}.txt": "x\n"})
    results = []
    boxes = [(get("git.push"), git_box(door)) for door in doors]
    threads = [threading.Thread(target=lambda t=t, b=b: results.append(t.run({"branch": "main"}, b))) for t, b in boxes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(result.ok for result in results) == [False, True]
    winner = next(result for result in results if result.ok)
    assert remote.sha("main") == winner.data["local_sha"]
