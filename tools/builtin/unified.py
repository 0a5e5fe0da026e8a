"""Unified diffs: read strictly, applied exactly. Pure.

A hunk applies where its old lines stand, byte for byte: at the line that it names, or at the one other place where they
stand. There is no fuzz. What a diff can say beyond the text of files (renames, copies, modes of files that are there,
links, submodules, binary changes) is refused.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

FILES_MAX = 200
_HUNK = re.compile(rb"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")
_COMPARED_MAX = 5_000_000  # lines looked at while a hunk's place is sought
_NO_NEWLINE = b"\\ No newline at end of file"
_REFUSED = {
    b"rename from": "renames a file; files.move does that",
    b"copy from": "copies a file",
    b"old mode": "changes a file's mode",
    b"GIT binary patch": "is binary",
    b"Binary files": "is binary",
}
_MODES = {b"100644": 0o644, b"100755": 0o755}
_ESCAPES = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, '"': 34, "\\": 92}
_NOWHERE = "/dev/null"


class PatchError(Exception):
    """This is no patch that can be read, or it does not apply; the message says what and where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunk:
    """at: the index of the first old line in the file, from 0; old, new: the lines, with their newlines."""

    at: int
    old: tuple[bytes, ...]
    new: tuple[bytes, ...]
    added: int
    removed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePatch:
    """path: as the patch names it, without a/ or b/; makes: the file must not be there; removes: nothing is left of it;
    mode: of a new file."""

    path: str
    hunks: tuple[Hunk, ...]
    makes: bool = False
    removes: bool = False
    mode: int = 0o644

    @property
    def added(self) -> int:
        return sum(hunk.added for hunk in self.hunks)

    @property
    def removed(self) -> int:
        return sum(hunk.removed for hunk in self.hunks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """content: the file afterwards; moved: (number of the hunk, line it named, line it was found at), from 1."""

    content: bytes
    moved: tuple[tuple[int, int, int], ...] = ()


def parse(text: str) -> list[FilePatch]:
    """The files that the patch changes, in its order.

    Raises:
        PatchError
    """
    found = _Reader(text.encode()).files()
    if not found:
        raise PatchError("There is no change in this patch: it has no --- and +++ lines.")
    if len(found) > FILES_MAX:
        raise PatchError(f"The patch changes {len(found)} files; {FILES_MAX} are the most.")
    seen: set[str] = set()
    for one in found:
        if one.path in seen:
            raise PatchError(f"The patch changes {one.path} twice.")
        seen.add(one.path)
    return found


def apply(patch: FilePatch, before: bytes) -> Applied:
    """`before` with every hunk applied.

    Raises:
        PatchError: one does not apply, or would in several places.
    """
    lines = _lines(before)
    made: list[bytes] = []
    moved: list[tuple[int, int, int]] = []
    cursor, drift, places = 0, 0, _Places(lines)
    for number, hunk in enumerate(patch.hunks, start=1):
        at = places.find(hunk, cursor, drift, number, patch.path)
        if at != hunk.at:
            moved.append((number, hunk.at + 1, at + 1))
        drift = at - hunk.at
        made += lines[cursor:at]
        made += hunk.new
        cursor = at + len(hunk.old)
    made += lines[cursor:]
    if any(not line.endswith(b"\n") for line in made[:-1]):
        raise PatchError(f"{patch.path}: the patch adds lines after one that has no newline at its end.")
    content = b"".join(made)
    if patch.removes and content:
        raise PatchError(f"{patch.path}: the patch deletes the file, but not all of its lines.")
    return Applied(content=content, moved=tuple(moved))


class _Places:
    """Where the lines of hunks stand in a file."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        self._lines = lines
        self._index: dict[bytes, list[int]] | None = None
        self._left = _COMPARED_MAX

    def find(self, hunk: Hunk, cursor: int, drift: int, number: int, path: str) -> int:
        """The index of the hunk's first line, at or after `cursor`; drift: how far the hunk before it was off."""
        for at in (hunk.at + drift, hunk.at):
            if at >= cursor and self._stands(hunk.old, at):
                return at
        if not hunk.old:
            raise PatchError(f"{path}: hunk {number} adds lines at line {hunk.at + 1}, and there is no such place.")
        others = self._others(hunk.old, cursor)
        if len(others) == 1:
            return others[0]
        if others:
            more = ", ".join(str(at + 1) for at in others[:5])
            raise PatchError(f"{path}: hunk {number} does not stand at line {hunk.at + 1}, and elsewhere at {more}.")
        raise PatchError(f"{path}: hunk {number} does not apply. {self._difference(hunk)}")

    def _stands(self, old: Sequence[bytes], at: int) -> bool:
        return at + len(old) <= len(self._lines) and tuple(self._lines[at : at + len(old)]) == tuple(old)

    def _others(self, old: Sequence[bytes], cursor: int) -> list[int]:
        if self._index is None:
            self._index = {}
            for place, line in enumerate(self._lines):
                self._index.setdefault(line, []).append(place)
        rarest = min(range(len(old)), key=lambda number: len((self._index or {}).get(old[number], ())))
        found = []
        for place in self._index.get(old[rarest], ()):
            self._left -= len(old)
            if self._left < 0:
                raise PatchError("The patch has too many places where it might belong; name the lines exactly.")
            if place - rarest >= cursor and self._stands(old, place - rarest):
                found.append(place - rarest)
        return found

    def _difference(self, hunk: Hunk) -> str:
        for offset, wanted in enumerate(hunk.old):
            place = hunk.at + offset
            if place >= len(self._lines):
                return f"It names line {place + 1}; the file has {len(self._lines)}."
            found = self._lines[place]
            if found != wanted:
                if found.rstrip(b"\r\n") == wanted.rstrip(b"\r\n"):
                    return f"Line {place + 1} ends with {_ending(found)}, in the patch with {_ending(wanted)}."
                return f"Line {place + 1} is {_shown(found)}, in the patch {_shown(wanted)}."
        return "Its lines overlap those of the hunk before it."


class _Reader:
    def __init__(self, data: bytes) -> None:
        lines = data.split(b"\n")
        self._lines = lines[:-1] if lines and not lines[-1] else lines
        self._at = 0
        self._ended = -1  # the line after the last hunk

    def files(self) -> list[FilePatch]:
        found = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if line.startswith(b"diff --git "):
                one = self._git()
                if one is not None:
                    found.append(one)
            elif line.startswith(b"--- ") and self._peek(1).startswith(b"+++ "):
                found.append(self._file(None, None))
            elif line.rstrip() == b"--":  # a mail's signature
                return found
            elif line.startswith(b"@@ ") or (self._at == self._ended and line.startswith((b" ", b"+", b"-"))):
                raise PatchError(f"Line {self._at + 1} belongs to no hunk, by the counts of its header: {_shown(line)}")
            else:
                self._at += 1
        return found

    def _git(self) -> FilePatch | None:
        """A file with git's header lines; None of one that has nothing but a header."""
        first = self._lines[self._at]
        mode: int | None = None
        makes = removes = False
        self._at += 1
        while self._at < len(self._lines):
            line = self._lines[self._at].rstrip(b"\r")
            for start, why in _REFUSED.items():
                if line.startswith(start):
                    raise PatchError(f"The patch {why} (line {self._at + 1}); it may only change text.")
            if line.startswith((b"new file mode ", b"deleted file mode ")):
                makes, removes = line.startswith(b"new"), line.startswith(b"deleted")
                if makes:
                    mode = _MODES.get(line.rsplit(b" ", 1)[-1])
                if (makes and mode is None) or (removes and line.rsplit(b" ", 1)[-1] not in _MODES):
                    raise PatchError(f"The patch makes or removes what is no regular file (line {self._at + 1}).")
            elif line.startswith(b"index ") and line.endswith((b" 120000", b" 160000")):
                raise PatchError(f"The patch changes a link or a submodule (line {self._at + 1}).")
            elif line.startswith(b"--- ") and self._peek(1).startswith(b"+++ "):
                return self._file(mode, (makes, removes))
            elif not line.startswith((b"index ", b"similarity ", b"dissimilarity ")):
                break
            self._at += 1
        if makes or removes:
            return FilePatch(path=_both(first), hunks=(), makes=makes, removes=removes, mode=mode or 0o644)
        return None

    def _file(self, mode: int | None, said: tuple[bool, bool] | None) -> FilePatch:
        old, new = _name(self._lines[self._at][4:]), _name(self._lines[self._at + 1][4:])
        makes, removes = old == _NOWHERE, new == _NOWHERE
        if (makes and removes) or (said is not None and any(said) and said != (makes, removes)):
            raise PatchError(f"Line {self._at + 1}: it is not said which file this is.")
        if (makes or old.startswith("a/")) and (removes or new.startswith("b/")):
            old, new = old.removeprefix("a/"), new.removeprefix("b/")
        path = new if makes else old
        if not makes and not removes and old != new:
            raise PatchError(f"The patch renames {old} to {new}; files.move does that.")
        self._at += 2
        hunks: list[Hunk] = []
        while self._at < len(self._lines) and self._lines[self._at].startswith(b"@@ "):
            hunks.append(self._hunk())
        self._ended = self._at
        if not hunks:
            raise PatchError(f"{path}: there is no hunk (@@ -1,2 +1,3 @@) after its names.")
        if makes and (len(hunks) > 1 or hunks[0].old):
            raise PatchError(f"{path}: a new file is one hunk of added lines.")
        return FilePatch(path=path, hunks=tuple(hunks), makes=makes, removes=removes, mode=mode or 0o644)

    def _hunk(self) -> Hunk:
        begin = self._at + 1
        found = _HUNK.match(self._lines[self._at])
        if found is None:
            raise PatchError(f"Line {begin} is no hunk's header: {_shown(self._lines[self._at])}")
        start = int(found[1])
        old_left, new_left = (1 if found[place] is None else int(found[place]) for place in (2, 4))
        at = start - 1 if old_left else start
        if at < 0:
            raise PatchError(f"Line {begin}: lines are counted from 1.")
        old: list[bytes] = []
        new: list[bytes] = []
        added = removed = 0
        self._at += 1
        while old_left or new_left:
            line = self._peek(0) if self._at < len(self._lines) else None
            tag = b"" if line is None else (line[:1] if line not in (b"", b"\r") else b" ")
            sides = {b" ": (1, 1), b"-": (1, 0), b"+": (0, 1)}.get(tag)
            if line is None or sides is None or sides[0] > old_left or sides[1] > new_left:
                raise PatchError(
                    f"The hunk at line {begin} has fewer or other lines than its header counts "
                    f"({old_left} old and {new_left} new ones are missing at line {self._at + 1})."
                )
            body = (line if line in (b"", b"\r") else line[1:]) + b"\n"
            self._at += 1
            if self._at < len(self._lines) and self._lines[self._at].startswith(b"\\ "):
                body = body[:-1]
                self._at += 1
            old_left, new_left = old_left - sides[0], new_left - sides[1]
            if sides[0]:
                old.append(body)
            if sides[1]:
                new.append(body)
            added, removed = added + (tag == b"+"), removed + (tag == b"-")
        return Hunk(at=at, old=tuple(old), new=tuple(new), added=added, removed=removed)

    def _peek(self, further: int) -> bytes:
        place = self._at + further
        return self._lines[place] if place < len(self._lines) else b""


def _name(field: bytes) -> str:
    """The name in a --- or +++ line: quoted as git quotes, or as it is up to a tab."""
    field = field.rstrip(b"\r")
    if field.startswith(b'"'):
        return _unquoted(field.decode())[0]
    return field.split(b"\t")[0].rstrip(b" ").decode()


def _both(line: bytes) -> str:
    """The one name in `diff --git a/NAME b/NAME`."""
    rest = line[len(b"diff --git ") :].rstrip(b"\r").decode()
    if rest.startswith('"'):
        first, end = _unquoted(rest)
        second = _unquoted(rest[end + 1 :])[0] if rest[end + 1 : end + 2] == '"' else rest[end + 1 :]
    else:
        first, second = rest[: len(rest) // 2], rest[len(rest) // 2 + 1 :]
    if first.removeprefix("a/") != second.removeprefix("b/"):
        raise PatchError(f"It is not clear which file this is: {_shown(line)}")
    return first.removeprefix("a/")


def _unquoted(text: str) -> tuple[str, int]:
    """(what a C string literal says, the index after it)"""
    made = bytearray()
    place = 1
    while place < len(text) and text[place] != '"':
        if text[place] != "\\":
            made += text[place].encode()
            place += 1
        elif re.match(r"[0-3][0-7]{2}", text[place + 1 : place + 4]):
            made.append(int(text[place + 1 : place + 4], 8))
            place += 4
        elif text[place + 1 : place + 2] in _ESCAPES and text[place + 1 : place + 2]:
            made.append(_ESCAPES[text[place + 1]])
            place += 2
        else:
            break
    if place >= len(text) or text[place] != '"':
        raise PatchError(f"A quoted name is not well formed: {text[:200]}")
    try:
        return made.decode(), place + 1
    except UnicodeDecodeError:
        raise PatchError("A quoted name is not UTF-8.") from None


def _lines(content: bytes) -> list[bytes]:
    """Ended by a newline and nothing else; the last may lack it."""
    lines = content.split(b"\n")
    return [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _ending(line: bytes) -> str:
    return "CR LF" if line.endswith(b"\r\n") else "a newline" if line.endswith(b"\n") else "no newline"


def _shown(line: bytes) -> str:
    text = line.rstrip(b"\r\n").decode(errors="backslashreplace")
    return repr(text if len(text) <= 120 else text[:119] + "…")
