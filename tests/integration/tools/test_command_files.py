"""What a command runs of the workspace is held fast: each file, whatever its size, number and place."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.ids import uuid7
from tools.box import SandboxBox
from tools.registry import get
from tools.spec import Limits
from tools.workspaces import remove, workspace_for


@pytest.fixture
def box() -> Iterator[SandboxBox]:
    workspace = workspace_for(str(uuid7()))
    yield SandboxBox(workspace, limits=Limits(), call_id="test")
    remove(workspace.id)


def held(box: SandboxBox, text: str, cwd: str = ".") -> dict[str, str]:
    return get("shell.script").target_state({"script": text, "cwd": cwd}, box).get("files", {})


def put(tree: Path, path: str, content: bytes = b"true\n") -> str:
    place = tree / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def test_files_that_a_command_runs_by_itself_are_held_fast(box: SandboxBox) -> None:
    tree = box.workspace.tree
    for path in (
        "Makefile",
        "package.json",
        "sub/Makefile",
        "tool.py",
        "pkg/__main__.py",
        "prog.awk",
        "build.rs",
        "Cargo.toml",
    ):
        put(tree, path)
    assert set(held(box, "make test")) == {"Makefile"}
    assert set(held(box, "make -C sub")) == {"sub/Makefile"}
    assert set(held(box, "npm test")) == {"package.json"}
    assert set(held(box, "cargo test")) == {"build.rs", "Cargo.toml"}
    assert set(held(box, "timeout 5 python3 tool.py")) == {"tool.py"}
    assert set(held(box, "find . -name x -exec sh ./tool.py ';'")) == {"tool.py"}
    assert set(held(box, "python3 -m pkg")) == {"pkg/__main__.py"}
    assert set(held(box, "awk -f prog.awk x")) == {"prog.awk"}
    assert held(box, "cat tool.py") == {}


def test_a_script_that_changes_folders_is_followed_wherever_it_may_be(box: SandboxBox) -> None:
    tree = box.workspace.tree
    inner, outer = put(tree, "sub/x.sh", b"inner"), put(tree, "x.sh", b"outer")
    assert held(box, "cd sub && ./x.sh") == {"sub/x.sh": inner, "x.sh": outer}
    assert held(box, "./x.sh", cwd="sub") == {"sub/x.sh": inner}


def test_neither_size_nor_number_nor_a_link_hides_a_file(box: SandboxBox) -> None:
    tree = box.workspace.tree
    large = put(tree, "large.py", b"#" * (3 << 20))
    assert held(box, "python3 large.py") == {"large.py": large}
    for number in range(60):
        put(tree, f"s{number}.sh")
    assert len(held(box, "\n".join(f"sh s{number}.sh" for number in range(60)))) == 60
    (tree / "link.py").symlink_to("large.py")
    assert held(box, "python3 link.py") == {"link.py": large}
    (tree / "out.py").symlink_to("/etc/passwd")
    assert held(box, "python3 out.py") == {}
    shown = get("shell.script").preview({"script": "\n".join(f"sh s{number}.sh" for number in range(60))}, box)
    assert shown.count("== s") == 20
    assert "not shown" in shown
