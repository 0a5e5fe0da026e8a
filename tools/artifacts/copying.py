"""A file of a workspace, read once, into a new file of the server's own, without the secrets in it."""

import codecs
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tools import redact
from tools.artifacts.kinds import kind_of
from tools.builtin.beneath import Beneath, NotThere
from tools.errors import OverQuota, ToolFailed, ToolRefused

_CHUNK = 1 << 18
_OVERLAP = 1 << 15
_READABLE = re.compile(rb"[\t\n\r -~]{8,}")  # no secret that is looked for is shorter
_LOOKED_AT = 8192  # bytes by which text is told from what is not


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """sha256, size_bytes: of what was written; redacted: how many secrets were taken out; text: is it text; kind: what its
    first bytes say that it is, "" where they say nothing."""

    sha256: str
    size_bytes: int
    redacted: int
    text: bool
    kind: str = ""


def copy(tree: Beneath, path: str, target: Path, *, most_bytes: int) -> Copied:
    """Copies the workspace's file `path` to `target`, a new file of mode 0600, on the disk when this returns.

    Text loses the secrets that it holds (`tools.redact`). What is not text cannot: where a secret stands in it as it
    is, it is refused. Archives and other packed forms are not looked into.

    Raises:
        ToolRefused: it is no regular file, the way leads over a link, or it is not text and holds a secret.
        ToolFailed: there is no such file.
        OverQuota: it is larger than `most_bytes`.
    """
    try:
        with tree.opened(path) as source:
            if os.fstat(source).st_size > most_bytes:
                raise _too_large(path, most_bytes)
            with open(target, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as out:
                return _through(source, out, path, most_bytes)
    except NotThere as error:
        raise ToolFailed(str(error), path=path) from None


def _through(source: int, out: IO[bytes], path: str, most_bytes: int) -> Copied:
    first = os.pread(source, _LOOKED_AT, 0)
    text = b"\0" not in first
    written = _Written(out)
    taken_out = (_text if text else _other)(_parts(source, path, most_bytes), written, path)
    out.flush()
    os.fsync(out.fileno())
    return Copied(
        sha256=written.digest.hexdigest(),
        size_bytes=written.size_bytes,
        redacted=taken_out,
        text=text,
        kind=kind_of(first),
    )


class _Written:
    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self.digest = hashlib.sha256()
        self.size_bytes = 0

    def add(self, data: bytes) -> None:
        self.digest.update(data)
        self.size_bytes += len(data)
        self._out.write(data)


def _parts(source: int, path: str, most_bytes: int) -> Iterator[bytes]:
    read = 0
    while chunk := os.read(source, _CHUNK):
        read += len(chunk)
        if read > most_bytes:
            raise _too_large(path, most_bytes)
        yield chunk


def _text(parts: Iterable[bytes], written: _Written, path: str) -> int:
    """How many secrets were taken out."""
    redactor = redact.Redactor()
    # surrogates carry bytes that are not UTF-8 through, so that what holds no secret comes out as it went in
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    plain, marks = hashlib.sha256(), 0

    def write(piece: str) -> None:
        nonlocal marks
        marks += piece.count(redact.MARK)
        written.add(piece.encode("utf-8", "surrogateescape"))

    for chunk in parts:
        plain.update(chunk)
        piece = decoder.decode(chunk)
        marks -= piece.count(redact.MARK)
        write(redactor.feed(piece))
    write(redactor.feed(decoder.decode(b"", final=True)))
    write(redactor.flush())
    return max(1, marks) if written.digest.digest() != plain.digest() else 0


def _other(parts: Iterable[bytes], written: _Written, path: str) -> int:
    """What is not text goes through as it is; its runs of readable characters must hold no secret."""
    end = b""
    for chunk in parts:
        written.add(chunk)
        runs = "\0".join(run.decode("ascii") for run in _READABLE.findall(end + chunk))
        if redact.text(runs) != runs:
            raise ToolRefused(f"{path} is not text, and holds a secret.", path=path)
        end = (end + chunk)[-_OVERLAP:]
    return 0


def _too_large(path: str, most_bytes: int) -> OverQuota:
    return OverQuota(f"{path} is larger than the {most_bytes // 2**20} MiB that one artifact may have.", path=path)
