"""A preview as a page shows it: complete, in parts that fold. Pure."""

import json
from dataclasses import dataclass
from typing import Any

FILE = "diff --git "
OPEN_LINES = 150  # a longer part is shown on a click


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stretch of the preview. name: the file whose changes these are, "" for what stands before the first file;
    added and removed: lines; folded: too long to be open from the start."""

    text: str
    name: str
    lines: int
    added: int
    removed: int
    folded: bool


def argument_text(value: Any) -> tuple[str, bool]:
    """An argument as people read and write it, and whether that is text as it is; else it is JSON."""
    if isinstance(value, str):
        return value, True
    return json.dumps(value, ensure_ascii=False, indent=2), False


def parts(preview: str) -> list[Part]:
    """What the tool said, then a part a file; joined by newlines their texts are the preview, to the character."""
    stretches: list[list[str]] = [[]]
    for line in preview.split("\n"):
        if line.startswith(FILE):
            stretches.append([])
        stretches[-1].append(line)
    return [_part(lines) for lines in stretches if lines]


def _part(lines: list[str]) -> Part:
    file = lines[0].startswith(FILE)
    body = next((place for place, line in enumerate(lines) if line.startswith("@@ ")), len(lines))
    return Part(
        text="\n".join(lines),
        name=_name(lines[:body]) if file else "",
        lines=len(lines),
        added=sum(line.startswith("+") for line in lines[body:]) if file else 0,
        removed=sum(line.startswith("-") for line in lines[body:]) if file else 0,
        folded=len(lines) > OPEN_LINES,
    )


def _name(head: list[str]) -> str:
    """The path after the change, or before it where the file goes."""
    for start, side in (("+++ ", "b/"), ("--- ", "a/")):
        path = next((line[len(start) :].rstrip("\t") for line in head if line.startswith(start)), "")
        if path and path != "/dev/null":
            return path.removeprefix(side)
    return head[0].removeprefix(FILE)
