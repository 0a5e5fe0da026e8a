"""From the bytes of a pipe to text that can be stored and shown: bounded, decoded, stripped, redacted, batched."""

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tools import storable

# CSI, OSC and the other string controls (ended by BEL or ST), two-byte escapes.
_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-Z\\^-~]|\x9b[0-?]*[ -/]*[@-~]"
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ASCII_CONTROL = dict.fromkeys([*range(0x09), *range(0x0B, 0x20), 0x7F])
# Characters that reorder or hide what a person reads.
_DECEIVING = re.compile("[\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_UNFINISHED_MAX = 4096


class Filter(Protocol):
    """A streaming text filter, such as `tools.redact.Redactor`."""

    def feed(self, text: str) -> str: ...

    def flush(self) -> str: ...


class Cleaner:
    """Bytes in, clean text out, whatever the chunks: UTF-8 with invalid bytes escaped, no escape sequences, no
    control characters but newline and tab, characters that reorder text made visible, secrets redacted."""

    def __init__(self, redactor: Filter) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="backslashreplace")
        self._redactor = redactor
        self._held = ""

    def feed(self, chunk: bytes) -> str:
        return self._redactor.feed(self._strip(self._decoder.decode(chunk), last=False))

    def flush(self) -> str:
        rest = self._strip(self._decoder.decode(b"", final=True), last=True)
        return self._redactor.feed(rest) + self._redactor.flush()

    def _strip(self, text: str, *, last: bool) -> str:
        text = self._held + text
        self._held = ""
        if not last:
            unfinished = _UNFINISHED.search(text, max(0, len(text) - _UNFINISHED_MAX))
            cut = unfinished.start() if unfinished else len(text) - text.endswith("\r")
            text, self._held = text[:cut], text[cut:]
        if "\x1b" in text or "\x9b" in text:
            text = _ESCAPE.sub("", text)
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        if text.isascii():  # quicker by far
            return text.translate(_ASCII_CONTROL)
        return _DECEIVING.sub(lambda found: f"\\u{ord(found[0]):04x}", _CONTROL.sub("", text))


def clean(text: str) -> str:
    """`text` without escape sequences and control characters, deceiving characters made visible."""
    cleaner = Cleaner(Unfiltered())
    return cleaner.feed(storable.text(text).encode()) + cleaner.flush()


class Unfiltered:
    """The filter that lets everything through."""

    def feed(self, text: str) -> str:
        return text

    def flush(self) -> str:
        return ""


@dataclass(slots=True)
class HeadAndTail:
    """Keeps the first and the last bytes of a text (as UTF-8) and counts exactly what lies between."""

    head_bytes: int
    tail_bytes: int
    total_bytes: int = 0
    _head: bytearray = field(default_factory=bytearray)
    _tail: bytearray = field(default_factory=bytearray)

    def add(self, text: str) -> None:
        data = text.encode()
        self.total_bytes += len(data)
        room = self.head_bytes - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        if len(self._tail) > 2 * self.tail_bytes + 65536:
            del self._tail[: len(self._tail) - self.tail_bytes]

    def skip(self, size_bytes: int) -> None:
        """Bytes that are left out here: the head ends before them, and the tail begins after them."""
        if size_bytes:
            self.total_bytes += size_bytes
            self.head_bytes = len(self._head)
            self._tail.clear()

    def finish(self) -> tuple[str, int]:
        """The text, with a line that names the gap where there is one, and the gap's size in bytes."""
        tail = bytes(self._tail[max(0, len(self._tail) - self.tail_bytes) :])
        missing = self.total_bytes - len(self._head) - len(tail)
        if not missing:
            return (bytes(self._head) + tail).decode(errors="replace"), 0
        head = bytes(self._head)
        head_text = head.decode(errors="ignore")
        tail_text = tail.decode(errors="ignore")
        missing = self.total_bytes - len(head_text.encode()) - len(tail_text.encode())
        return f"{head_text}\n[... {missing} bytes left out ...]\n{tail_text}", missing


class Batcher:
    """Passes text on at most every `interval_s`, at most `size` characters at a time, so that a flood of output stays
    a trickle of messages. What is skipped is named."""

    def __init__(self, sink: Callable[[str], None], *, interval_s: float = 0.25, size: int = 16_384) -> None:
        self._sink = sink
        self._interval_s = interval_s
        self._size = size
        self._parts: list[str] = []
        self._length = 0
        self._gap: int | None = None  # how many characters came before what was skipped first
        self._skipped = 0
        self._last_s = float("-inf")

    def add(self, text: str, now_s: float) -> None:
        if text:
            self._parts.append(text)
            self._length += len(text)
        self.tick(now_s)

    def skip(self, size_bytes: int) -> None:
        """Output that is left out here."""
        if size_bytes:
            self._skipped += size_bytes
            self._gap = self._length if self._gap is None else self._gap

    def tick(self, now_s: float) -> None:
        """Called now and then, also when nothing came."""
        if self._parts and now_s - self._last_s >= self._interval_s:
            self.flush(now_s)

    def flush(self, now_s: float) -> None:
        if not self._parts and not self._skipped:
            return
        text, gap, skipped = "".join(self._parts), self._gap, self._skipped
        self._parts, self._length, self._gap, self._skipped = [], 0, None, 0
        if gap is not None or len(text) > self._size:
            half = self._size // 2
            before = text[:half] if gap is None else text[: min(gap, half)]
            after = text[max(gap or 0, len(text) - half) :]
            skipped += len(text) - len(before) - len(after)
            text = f"{before}\n[... {skipped} characters not shown live ...]\n{after}"
        self._last_s = now_s
        self._sink(text)
