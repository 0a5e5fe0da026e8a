"""A candidate tried by the command of its search: in a copy of the work tree, in the sandbox, without network."""

import io
import json
import math
import statistics
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.errors import ToolFailed
from tools.spec import Box, Completed

OUTPUT_MAX = 4000
# A candidate that writes to the work tree would change what the next one is measured in: so it has a copy.
_COPY = 'set -e; rm -rf "$2"; mkdir -p "$2"; cp -a "$1/." "$2"; exec tar -xf - -C "$2"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """score: None where it does not work; output: the end of what the command wrote, or why there is no score."""

    score: float | None
    output: str

    @property
    def viable(self) -> bool:
        return self.score is not None


def measure(
    box: Box, files: Mapping[str, str], command: Sequence[str], *, runs: int, timeout_s: float, place: str
) -> Measured:
    """Runs the command `runs` times; the score is the median of what it printed last.

    place: names the copy, which is gone afterwards.

    Raises:
        ToolFailed: the copy could not be made, or somebody cancelled.
    """
    copy = box.workspace.scratch / "evolution" / place
    made = box.run(
        ["/bin/sh", "-c", _COPY, "sh", str(box.workspace.tree), str(copy)],
        stdin=_archive(files),
        profile="read",
        stream=False,
    )
    if not made.ok:
        raise ToolFailed(f"The work tree could not be copied: {made.stderr.strip()[:300] or made.ended_by}")
    try:
        return _measured(box, copy, command, runs=runs, timeout_s=timeout_s)
    finally:
        box.run(["/bin/rm", "-rf", str(copy)], profile="read", stream=False)


def _measured(box: Box, copy: Path, command: Sequence[str], *, runs: int, timeout_s: float) -> Measured:
    scores, output = [], ""
    for _ in range(runs):
        ended = box.run(list(command), cwd=copy, timeout_s=timeout_s, profile="read")
        if ended.ended_by == "cancelled":
            raise ToolFailed("It was cancelled.", transient=True)
        score = _score(ended.stdout) if ended.ok else None
        output = _tail(ended, timeout_s, score)
        if score is None:
            return Measured(score=None, output=output)
        scores.append(score)
    return Measured(score=statistics.median(scores), output=output)


def _score(stdout: str) -> float | None:
    """The last line: a number, or a JSON object with `score`."""
    lines = [line.strip() for line in stdout.splitlines() if line.strip()]
    try:
        value = json.loads(lines[-1]) if lines else None
    except (ValueError, RecursionError):
        return None
    found = value.get("score") if isinstance(value, dict) else value
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    try:
        score = float(found)
    except OverflowError:
        return None
    return score if math.isfinite(score) else None


def _tail(ended: Completed, timeout_s: float, score: float | None) -> str:
    """The end of what it wrote, and how it ended where that explains why there is no score."""
    how = f"[exit code {ended.exit_code}]"
    if ended.ended_by == "timeout":
        how = f"[it took longer than {timeout_s:g} s]"
    elif ended.ended_by:
        how = f"[{ended.ended_by}]"
    elif ended.ok and score is None:
        how = "[its last line is no number]"
    said = "\n".join(part for part in (ended.stdout.rstrip(), ended.stderr.rstrip(), how) if part)
    return said[-OUTPUT_MAX:]


def _archive(files: Mapping[str, str]) -> bytes:
    """A tar of the files, by their paths."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for path, text in files.items():
            content = text.encode()
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(content), 0o644
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()
