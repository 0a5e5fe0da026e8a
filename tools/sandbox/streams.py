"""One stream of a command's output on its way from the pipe: read whole while it is slow, sampled while it is a flood.

Cleaning and redacting cost far more than reading, so nobody does them for bytes that nobody keeps. Every interval a stream
may have so many bytes cleaned; what comes beyond waits in a ring of the latest bytes. If the ring overflows, what fell
out is counted, and what is read on after the gap starts far enough before what is kept that a secret which began in
the gap has ended: that lead is cleaned and redacted like all else, and then thrown away.
"""

from collections import deque
from collections.abc import Callable

from tools.sandbox.output import Batcher, Cleaner, Filter, HeadAndTail

# No secret that is looked for, and no private key's block, has more than 16,384 characters (`tools.spellings`,
# `tools.tokenshapes`); broken over lines or with blanks between, and with marks in place of others, twice as many.
LEAD_CHARS = 36 * 1024

_INTERVAL_S = 0.25
_BUDGET_BYTES = 192 * 1024  # cleaned for each interval
_RING_MIN_BYTES = 4 * LEAD_CHARS  # a character has four bytes at most


class Stream:
    """Takes bytes, keeps head and tail as clean text, and sends the live log on. Every byte is kept, shown or counted.

    head_bytes, tail_bytes: how much text is kept; sink: gets the live log, or None.
    """

    def __init__(
        self,
        *,
        head_bytes: int,
        tail_bytes: int,
        redactor: Callable[[], Filter],
        sink: Callable[[str], None] | None = None,
    ) -> None:
        self._redactor = redactor
        self._cleaner = Cleaner(redactor())
        self._kept = HeadAndTail(head_bytes, tail_bytes)
        self._batcher = Batcher(sink) if sink else None
        self._ring: deque[bytes] = deque()
        self._ring_bytes = 0
        self._ring_max_bytes = _RING_MIN_BYTES + 2 * tail_bytes
        self._dropped_bytes = 0  # at the end, beyond every bound
        self._gap_bytes = 0  # what fell out of the ring
        self._lead_chars = 0  # what is still thrown away after a gap
        self._budget_bytes = 2 * head_bytes + _BUDGET_BYTES
        self._renewed_s: float | None = None

    def feed(self, chunk: bytes, now_s: float) -> None:
        """More bytes of the pipe."""
        if not self._ring and self._budget_bytes:
            now, chunk = chunk[: self._budget_bytes], chunk[self._budget_bytes :]
            self._budget_bytes -= len(now)
            self._keep(self._cleaner.feed(now), now_s)
        if not chunk:
            return
        self._ring.append(chunk)
        self._ring_bytes += len(chunk)
        while self._ring_bytes - len(self._ring[0]) >= self._ring_max_bytes:
            gone = len(self._ring.popleft())
            self._ring_bytes -= gone
            self._gap_bytes += gone

    def skip(self, size_bytes: int) -> None:
        """Bytes that were read and are not even looked at."""
        self._dropped_bytes += size_bytes

    def tick(self, now_s: float) -> None:
        """Called now and then, also when nothing came: a new interval begins when it is time."""
        if self._renewed_s is None:
            self._renewed_s = now_s
        elif now_s - self._renewed_s >= _INTERVAL_S:
            self._renewed_s = now_s
            self._budget_bytes = max(self._budget_bytes, _BUDGET_BYTES)
            self._release(now_s)
        if self._batcher:
            self._batcher.tick(now_s)

    def finish(self, now_s: float) -> tuple[str, int]:
        """The text that is kept, and how many bytes of the output it leaves out."""
        self._release(now_s)
        self._keep(self._cleaner.flush(), now_s)
        if self._batcher:
            self._batcher.flush(now_s)
        text, missing = self._kept.finish()
        return text, missing + self._dropped_bytes

    def _release(self, now_s: float) -> None:
        """What waits in the ring is cleaned, after a gap with a cleaner of its own."""
        if not self._ring:
            return
        if self._gap_bytes:
            # What the cleaner holds back may be the beginning of a secret whose end fell out: it goes, too.
            self._skip(self._gap_bytes + len(self._cleaner.flush().encode()))
            self._cleaner = Cleaner(self._redactor())
            self._gap_bytes, self._lead_chars = 0, LEAD_CHARS
        waiting = b"".join(self._ring)
        self._ring.clear()
        self._ring_bytes = 0
        self._keep(self._cleaner.feed(waiting), now_s)

    def _keep(self, text: str, now_s: float) -> None:
        if self._lead_chars and text:
            lead, text = text[: self._lead_chars], text[self._lead_chars :]
            self._lead_chars -= len(lead)
            self._skip(len(lead.encode()))
        self._kept.add(text)
        if self._batcher:
            self._batcher.add(text, now_s)

    def _skip(self, size_bytes: int) -> None:
        self._kept.skip(size_bytes)
        if self._batcher:
            self._batcher.skip(size_bytes)
