"""Command lines, benign and hostile, with the level that each must have and where its trick was published."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent


def cases() -> Iterator[tuple[str, str, str]]:
    """(level, text of a script, source) of every line."""
    for path in sorted(HERE.glob("*.toml")):
        for group in tomllib.loads(path.read_text(encoding="utf-8"))["set"]:
            for level, text in group["lines"]:
                yield level, text, group["source"]
