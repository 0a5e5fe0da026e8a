"""Reading git's output: bounded text, quoted paths, `--numstat`."""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

TEXT_MAX_CHARS = 24_000
ENTRIES_MAX = 500

_ESCAPE = re.compile(rb"\\([abtnvfr\"\\]|[0-7]{3})")
_SAYS_NOTHING = re.compile(
    r"hint:|fatal: Could not read from remote repository|Please make sure you have the correct|and the repository exists"
)
_PLAIN = {b"a": b"\a", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f", b"r": b"\r"}


def bounded(text: str, limit: int = TEXT_MAX_CHARS) -> str:
    """`text`, or its beginning and its end with a line between that says how much is missing."""
    if len(text) <= limit:
        return text
    head, tail = text[: limit * 3 // 4], text[-limit // 4 :]
    return f"{head}\n[... {len(text) - len(head) - len(tail)} characters not shown ...]\n{tail}"


def unquote(path: str) -> str:
    """A path as git prints it: in double quotes with C escapes where it holds unusual bytes (core.quotePath)."""
    if not (len(path) >= 2 and path.startswith('"') and path.endswith('"')):
        return path
    return _ESCAPE.sub(_unescape, path[1:-1].encode()).decode("utf-8", "backslashreplace")


def _unescape(match: re.Match[bytes]) -> bytes:
    escaped = match.group(1)
    if len(escaped) == 3:
        return bytes([int(escaped, 8) & 0xFF])
    return _PLAIN.get(escaped, escaped)


def numstat(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Entries of `--numstat`: path, added and removed lines (None where the file is binary)."""
    entries: list[dict[str, Any]] = []
    for line in lines:
        added, _, rest = line.partition("\t")
        removed, _, path = rest.partition("\t")
        if not path or not re.fullmatch(r"\d+|-", added) or not re.fullmatch(r"\d+|-", removed):
            continue
        entries.append({"path": unquote(path), "added": _count(added), "removed": _count(removed)})
    return entries


def _count(text: str) -> int | None:
    return None if text == "-" else int(text)


def plural(count: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def diffstat(entries: list[dict[str, Any]]) -> str:
    """`3 files changed, 10 lines added, 2 removed`."""
    added = sum(entry["added"] or 0 for entry in entries)
    removed = sum(entry["removed"] or 0 for entry in entries)
    return f"{plural(len(entries), 'file')} changed, {plural(added, 'line')} added, {removed} removed"


def last_line(text: str) -> str:
    """The last line that says something, without git's `fatal:` and `error:`."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _SAYS_NOTHING.match(line)]
    for line in lines:
        if line.startswith(("fatal:", "error:")):
            return line.partition(":")[2].strip()[:500]
    return lines[-1][:500] if lines else ""


def records(fields: Sequence[str]) -> tuple[str, Callable[[str], Iterator[list[str]]]]:
    """A layout for `--format` and the parser of what comes back.

    A marker that nobody can guess stands between the fields: names and subjects are written by others, and with any
    fixed separator they could forge a record.
    """
    between, end = f"@{secrets.token_hex(8)}@", f"@{secrets.token_hex(8)}@"

    def parse(stdout: str) -> Iterator[list[str]]:
        for record in stdout.split(end)[:-1]:
            values = [" ".join(value.split()) for value in record.split(between)]
            if len(values) == len(fields):
                yield values

    return between.join(fields) + end, parse
