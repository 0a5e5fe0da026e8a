"""Many threads' wishes in one transaction: whoever comes first works for all who wait (flat combining).

A thread that finds nobody at work takes every wish that waits, its own too, and answers them; others sleep until
theirs is answered, or until they are asked to take over. A lone thread pays a lock and no waiting.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Wish = TypeVar("Wish")
Answer = TypeVar("Answer")


class _Waiting(Generic[Wish, Answer]):
    __slots__ = ("answer", "error", "wish", "woken")

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.answer: Answer | None = None
        self.error: BaseException | None = None
        self.woken: threading.Lock | None = None


class Combiner(Generic[Wish, Answer]):
    """`work` gets the wishes in the order in which they came and gives an answer for each.

    most: how many at a time.
    """

    def __init__(self, work: Callable[[Sequence[Wish]], Sequence[Answer]], *, most: int = 32) -> None:
        self._work = work
        self._most = most
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting[Wish, Answer]] = deque()
        self._working = False

    def __call__(self, wish: Wish) -> Answer:
        """The answer to this wish; what `work` raises reaches all whose wishes it had."""
        mine: _Waiting[Wish, Answer] = _Waiting(wish)
        with self._lock:
            self._waiting.append(mine)
            if self._working:
                mine.woken = threading.Lock()
                mine.woken.acquire()
            else:
                self._working = True
        if mine.woken is not None:
            mine.woken.acquire()
            if mine.answer is not None or mine.error is not None:
                return _told(mine)
        self._lead()
        return _told(mine)

    def _lead(self) -> None:
        """Answers one batch, which holds the leader's own wish, and hands on what came meanwhile."""
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        try:
            for one, answer in zip(batch, self._work([one.wish for one in batch]), strict=True):
                one.answer = answer
        except BaseException as error:
            for one in batch:
                one.error = error
        with self._lock:
            heir = self._waiting[0] if self._waiting else None
            if heir is None:
                self._working = False
        if heir is not None:
            assert heir.woken is not None
            heir.woken.release()  # its wish is the first that waits: it leads
        for one in batch:
            if one.woken is not None:
                one.woken.release()


def _told(one: _Waiting[Wish, Answer]) -> Answer:
    if one.error is not None:
        raise one.error
    assert one.answer is not None
    return one.answer
