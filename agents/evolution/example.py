"""A small repository for a search: a function that is slow, and what tells whether it is right and how much it does."""

import shutil
import subprocess
from pathlib import Path

FILES = Path(__file__).parent / "primes"  # as texts: they are no part of this program


def create(folder: Path) -> Path:
    """A git repository with one commit, in `folder`; its path."""
    made = folder / "primes"
    made.mkdir(parents=True)
    for one in FILES.iterdir():
        if one.is_file():
            shutil.copyfile(one, made / one.name.removesuffix(".txt"))
    _git(made, "init", "-q", "-b", "main")
    _git(made, "add", ".")
    _git(made, "-c", "user.name=Sample", "-c", "user.email=sample@example.invalid", "commit", "-qm", "Primes")
    return made


def _git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, timeout=60)
