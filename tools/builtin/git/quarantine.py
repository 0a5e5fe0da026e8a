"""What a commit would hold, worked out without writing to the repository."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from tools.builtin.git.cli import Git


@contextmanager
def staged_tree(git: Git) -> Iterator[tuple[str, dict[str, str]]]:
    """The id of the tree that the index makes ("" with unmerged files), and the variables with which git finds it.

    The index is copied and new objects go to a folder of their own in the workspace's scratch space, which is
    removed at the end of the block.
    """
    folder = git.workspace.scratch / f"quarantine-{secrets.token_hex(8)}"
    env = {
        "GIT_OBJECT_DIRECTORY": str(folder / "objects"),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(git.workspace.git_dir / "objects"),
    }
    try:
        git.tool("mkdir", "-p", str(folder / "objects" / "info"), str(folder / "objects" / "pack"))
        git.tool("cp", str(git.workspace.git_dir / "index"), str(folder / "index"))
        done = git.run("write-tree", env={**env, "GIT_INDEX_FILE": str(folder / "index")})
        yield (done.stdout.strip() if done.exit_code == 0 else ""), env
    finally:
        git.tool("rm", "-rf", str(folder))
