"""A file of a workspace, read once, into a new file of the server's own, without the secrets in it."""

import codecs
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tools import redact
from tools.builtin.beneath import Beneath, NotThere
from tools.errors import OverQuota, ToolFailed, ToolRefused

_CHUNK = 1 << 16
_LOOKED_AT = 8192  # bytes by which text is told from what is not


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """sha256, size_bytes: of what was written; redacted: how many secrets were taken out; text: is it text."""

    sha256: str
    size_bytes: int
    redacted: int
    text: bool


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
    redactor = redact.Redactor()
    # surrogates carry bytes that are not UTF-8 through, so that what holds no secret comes out as it went in
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    digest, plain = hashlib.sha256(), hashlib.sha256()
    size = read = marks = 0
    text = True

    def write(piece: str) -> None:
        nonlocal size, marks
        data = piece.encode("utf-8", "surrogateescape")
        marks += piece.count(redact.MARK)
        digest.update(data)
        size += len(data)
        out.write(data)

    while chunk := os.read(source, _CHUNK):
        if not read:
            text = b"\0" not in chunk[:_LOOKED_AT]
        read += len(chunk)
        if read > most_bytes:
            raise _too_large(path, most_bytes)
        plain.update(chunk)
        piece = decoder.decode(chunk)
        marks -= piece.count(redact.MARK)
        write(redactor.feed(piece))
    write(redactor.feed(decoder.decode(b"", final=True)))
    write(redactor.flush())
    out.flush()
    os.fsync(out.fileno())
    changed = digest.digest() != plain.digest()
    if changed and not text:
        raise ToolRefused(f"{path} is not text, and holds a secret.", path=path)
    return Copied(sha256=digest.hexdigest(), size_bytes=size, redacted=max(1, marks) if changed else 0, text=text)


def _too_large(path: str, most_bytes: int) -> OverQuota:
    return OverQuota(f"{path} is larger than the {most_bytes // 2**20} MiB that one artifact may have.", path=path)
