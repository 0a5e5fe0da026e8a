"""A small repository for a search: a function that is slow, and what tells whether it is right and how much it does."""

from pathlib import Path

from agents.demo.history import Commit
from agents.demo.repository import made

FILES = Path(__file__).parent / "primes"  # as texts: they are no part of this program
NAME = "primes.git"


def create(folder: Path) -> Path:
    """A bare repository with one commit, in `folder`; its path. One that is there already is kept."""
    files = {one.name.removesuffix(".txt"): one.read_text(encoding="utf-8") for one in sorted(FILES.glob("*.txt"))}
    first = Commit(
        author="Sample", email="sample@example.invalid", at="2026-01-05T09:00:00+00:00", message="Primes", files=files
    )
    return made(folder, NAME, [first])
