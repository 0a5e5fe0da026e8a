"""The sample repository, as a bare remote that a job clones and pushes to."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from agents.demo.history import HISTORY, Commit
from agents.errors import AgentsError

NAME = "sample.git"
BRANCH = "main"


class DemoFailed(AgentsError):
    """The sample repository could not be made; the message says which command failed and how."""

    code = "demo_failed"


def create(folder: Path) -> Path:
    """The bare repository `folder/sample.git`, as `made` makes it."""
    return made(folder, NAME, HISTORY)


def made(folder: Path, name: str, history: Sequence[Commit]) -> Path:
    """Makes a bare repository in `folder`, and returns its path; one that is there already is kept.

    It appears at once and whole, since it is built beside its place and then renamed.

    Raises:
        DemoFailed: git is missing or failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remote = folder / name
    if remote.exists():
        return remote
    with tempfile.TemporaryDirectory(prefix=".sample-", dir=folder) as beside:
        tree, bare = Path(beside) / "tree", Path(beside) / name
        tree.mkdir()
        _git(tree, "init", "--quiet")
        _git(tree, "symbolic-ref", "HEAD", f"refs/heads/{BRANCH}")
        for commit in history:
            _commit(tree, commit)
        _git(tree, "clone", "--quiet", "--bare", "--no-hardlinks", str(tree), str(bare))
        _git(bare, "remote", "remove", "origin")
        try:
            bare.rename(remote)
        except OSError:
            # Somebody else made it in the meantime: theirs is as good.
            if not remote.exists():
                raise
    return remote


def _commit(tree: Path, commit: Commit) -> None:
    for path, text in commit.files.items():
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    _git(tree, "add", "--all")
    who = {
        "GIT_AUTHOR_NAME": commit.author,
        "GIT_AUTHOR_EMAIL": commit.email,
        "GIT_AUTHOR_DATE": commit.at,
        "GIT_COMMITTER_NAME": commit.author,
        "GIT_COMMITTER_EMAIL": commit.email,
        "GIT_COMMITTER_DATE": commit.at,
    }
    _git(tree, "commit", "--quiet", "-m", commit.message, environ=who)


def _git(folder: Path, *arguments: str, environ: dict[str, str] | None = None) -> None:
    """Runs git with nothing of the machine's or the user's configuration, so that every sample is the same."""
    program = shutil.which("git")
    if program is None:
        raise DemoFailed("git is not installed.")
    clean = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        **(environ or {}),
    }
    command = [program, "-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false", "-c", "init.defaultBranch=main"]
    try:
        subprocess.run([*command, *arguments], cwd=folder, env=clean, check=True, capture_output=True, timeout=60)
    except subprocess.CalledProcessError as error:
        told = error.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {error.returncode}"]
        raise DemoFailed(f"git {arguments[0]}: {told[0]}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DemoFailed(f"git {arguments[0]}: {error}") from None
