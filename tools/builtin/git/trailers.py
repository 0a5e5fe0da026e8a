"""The trailer that ties a commit to the step that made it, so that a lost attempt can be found again."""

import re

from tools.builtin.git.cli import Git
from tools.errors import ToolFailed

STEP_TRAILER = "Countersign-Step"
_TRAILER_LINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*: \S.*")


def with_trailer(message: str, step_id: str) -> str:
    """`message` with the step's trailer, in the last paragraph where that holds trailers already."""
    text = message.replace("\r\n", "\n").strip()
    paragraphs = text.split("\n\n")
    has_trailers = len(paragraphs) > 1 and all(_TRAILER_LINE.fullmatch(line) for line in paragraphs[-1].split("\n"))
    return f"{text}{chr(10) if has_trailers else chr(10) * 2}{STEP_TRAILER}: {step_id}\n"


def find_step(git: Git, step_id: str, *, within: int = 500) -> str:
    """Full id of the commit on the current branch that carries the step's trailer, or "".

    Raises:
        ToolFailed: without a step's id it cannot be told.
    """
    if not step_id:
        raise ToolFailed("Which step made the commit is not known.")
    if not git.head():
        return ""
    stdout = git.out(
        "log", f"--max-count={within}", "--fixed-strings", f"--grep={STEP_TRAILER}: {step_id}",
        "--no-show-signature", "--no-notes",
        f"--format=%H %(trailers:key={STEP_TRAILER},valueonly,separator=%x2C)", "HEAD", "--",
    )  # fmt: skip
    for line in stdout.splitlines():
        sha, _, values = line.partition(" ")
        if step_id in values.split(","):
            return sha
    return ""
