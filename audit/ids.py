"""Identifiers that sort by time."""

import os
import threading
import time
from uuid import UUID

_lock = threading.Lock()
_last = 0


def uuid7() -> UUID:
    """A version 7 UUID (RFC 9562, 5.7): 48 bits of Unix milliseconds, 12 bits of their fraction (6.2, method 3), then
    62 random bits. Within a process each is greater than the one before, also when the clock is set back."""
    global _last
    nanos = time.time_ns()
    millis, rest = divmod(nanos, 1_000_000)
    with _lock:
        _last = moment = max((millis << 12) | (rest * 4096 // 1_000_000), _last + 1)
    value = ((moment >> 12) & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76
    value |= (moment & 0xFFF) << 64
    value |= 0b10 << 62
    value |= int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    return UUID(int=value)
