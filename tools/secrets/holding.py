"""For whom a tool runs just now, so that a handle can say whether it may be used. Set by the runner around a tool."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Whose job it is. agent: its name, "" where the job has none; groups: of the job's owner."""

    agent: str = ""
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Acting:
    """subject: the step's id, "" where nobody said; worker: who runs it; purpose: "run", "preview" or "probe"; used:
    names of the handles used so far."""

    subject: str
    worker: str
    purpose: str
    used: list[str] = field(default_factory=list)


NOBODY = Acting(subject="", worker="", purpose="")
_now: ContextVar[Acting] = ContextVar("tools_secrets_acting", default=NOBODY)
_find: Callable[[str], Holder | None] | None = None


def told_by(find: Callable[[str], Holder | None]) -> None:
    """Says who knows the holder of a step's id: the app above that has the steps."""
    global _find
    _find = find


def current() -> Acting:
    """What runs in this thread."""
    return _now.get()


def holder(subject: str) -> Holder:
    """Whose step it is; nobody in particular where that is not known."""
    found = _find(subject) if _find is not None and subject else None
    return found or Holder()


@contextmanager
def acting(subject: str, *, worker: str = "", purpose: str) -> Iterator[Acting]:
    """Inside, handles are resolved for this step."""
    mine = Acting(subject=subject, worker=worker, purpose=purpose)
    token = _now.set(mine)
    try:
        yield mine
    finally:
        _now.reset(token)
