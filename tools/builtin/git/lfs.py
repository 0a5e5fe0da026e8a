"""Files of Git LFS: here they are the pointers that git itself keeps, and nothing else.

No filter of a repository runs here, so git-lfs never does: a clone has pointers in the place of such files, and a file that
should become a pointer would become a blob like any other. That is refused where it is added.
"""

from tools.builtin.git.cli import Declined, Git
from tools.builtin.git.hardening import environment
from tools.builtin.git.text import unquote
from tools.errors import ToolFailed

_MARK = ": filter: lfs"
_LISTED = """
tree=$1; place=$2; shift 2
git --literal-pathspecs --git-dir="$place" --work-tree="$tree" ls-files "$@" |
git --git-dir="$place" --work-tree="$tree" check-attr --stdin filter | sed -n '/: filter: lfs$/p'
"""


def files(git: Git, *listing: str) -> list[str]:
    """Of the files that `git ls-files` lists (all that are staged where no further options are given), those with the
    attribute `filter=lfs`, up to 1,000.

    Raises:
        ToolFailed: it cannot be told.
    """
    place = git.workspace
    done = git.box.run(
        ["/bin/sh", "-c", _LISTED, "sh", str(place.tree), str(place.git_dir), *listing],
        cwd=place.tree,
        env=environment(),
        profile="read",
        stream=False,
    )
    if done.exit_code != 0:
        raise ToolFailed("Which files are Git LFS's cannot be told.")
    lines = [line for line in done.stdout.splitlines() if line.endswith(_MARK)]
    return [unquote(line.removesuffix(_MARK)) for line in lines][:1000]


def refuse(git: Git, paths: list[str]) -> None:
    """Raises Declined where one of the paths to add holds a changed file that Git LFS should keep."""
    found = files(git, "--modified", "--others", "--exclude-standard", "--", *paths)
    if found:
        raise Declined(
            f"{found[0]} is kept by Git LFS, which is not supported here: it stays as it is.", code="lfs", paths=found
        )
