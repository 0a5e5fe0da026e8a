"""What this thread is working on, for logs: job and step ids."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_bound: ContextVar[dict[str, str] | None] = ContextVar("countersign_bound", default=None)


def bound() -> dict[str, str]:
    """The ids bound by the innermost `bind`."""
    return _bound.get() or {}


@contextmanager
def bind(**ids: object) -> Iterator[None]:
    """Adds ids to every log line written inside the block."""
    token = _bound.set({**bound(), **{key: str(value) for key, value in ids.items()}})
    try:
        yield
    finally:
        _bound.reset(token)
