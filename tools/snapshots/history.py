"""The snapshots of one workspace, in the order in which they were taken, and which step began where.

They stand in `<workspace>/snapshots`, where no command of the sandbox can write, and go when the workspace goes:
`heap` (see `tools.snapshots.contents`) and `history.json`, which is replaced as a whole under a lock of the host.
"""

import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings

from tools import workspaces
from tools.sandbox.identity import identity_for
from tools.snapshots import contents
from tools.snapshots.contents import Kept, NoRoom, NotKept
from tools.spec import Workspace

log = logging.getLogger(__name__)

_PARTS = ("tree", "repo.git", "scratch")
_RECORDS = ("origin.json",)  # the server's own, beside them
_MIB = 2**20
_TOLD_MAX = 200  # entries in the book where nothing is kept
WAIT_S = 60.0
_POLL_S = 0.01


class NoSnapshot(Exception):
    """The workspace as it was then cannot be had; the message says why, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """number: from 1, in the order of time; step: whose end it is, "" for what was there before; under_way: steps that
    had begun and not ended; missing: why there is nothing to restore, "" where there is."""

    number: int
    step: str
    under_way: frozenset[str]
    missing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """began: of each step, the number of the last snapshot before it began; whole: all that ever worked there is told
    of; busy: steps that have begun and not ended."""

    snapshots: dict[int, Snapshot]
    began: dict[str, int]
    busy: frozenset[str]
    latest: int
    whole: bool

    def end_of(self, step: str) -> int | None:
        """The first snapshot that holds all that the step did; None where it was never taken."""
        own = [one.number for one in self.snapshots.values() if one.step == step]
        if own:
            return max(own)
        # it was lost: the next one that began looked first
        seen = (n for n, one in self.snapshots.items() if step in one.under_way and n > self.began.get(step, n))
        return min(seen, default=None)


@dataclass(slots=True)
class _Book:
    latest: int = 0
    snapshots: dict[str, dict[str, Any]] = field(default_factory=dict)
    began: dict[str, dict[str, Any]] = field(default_factory=dict)
    heap_bytes: int = 0
    whole: bool = True


class Keeper:
    """Of one attempt of a step that may write: `open` before it touches the workspace, `close` when it has ended.

    No failure of it is the step's: where a snapshot cannot be taken, the book says why, or says nothing.
    """

    def __init__(self, step: str) -> None:
        self._step = step
        self._workspace: Workspace | None = None

    def open(self, workspace: Workspace) -> Workspace:
        """Notes that the step begins on what is there now; what an attempt that was lost left there is kept first."""
        if self._workspace is None:
            self._workspace = workspace
            with _forgiven(workspace, self._step), _book(workspace) as book:
                _begin(workspace, book, self._step)
        return workspace

    def close(self) -> None:
        """Keeps what the step has left there. Not for an attempt that lost its lease, which ends elsewhere."""
        if self._workspace is None:
            return
        with _forgiven(self._workspace, self._step), _book(self._workspace) as book:
            _take(self._workspace, book, self._step)


def keep_found(workspace: Workspace, step: str) -> None:
    """An attempt that was lost had its effect after all: keeps what it left there."""
    if not _file(workspace).exists():
        return
    with _forgiven(workspace, step), _book(workspace) as book:
        if book.began.get(step, {}).get("open"):
            _take(workspace, book, step)


def history(workspace_id: str) -> History | None:
    """What is known of the workspace; None where no step ever told of itself there.

    Raises:
        ToolRefused: `workspace_id` is not a UUID in its usual form.
    """
    place = workspaces.place_of(workspace_id)
    if not _file(place).exists():
        return None
    book = _read(place)
    return History(
        snapshots={
            int(number): Snapshot(
                number=int(number),
                step=one["step"],
                under_way=frozenset(one["under_way"]),
                missing=one["missing"],
            )
            for number, one in book.snapshots.items()
        },
        began={step: one["after"] for step, one in book.began.items()},
        busy=frozenset(step for step, one in book.began.items() if one["open"]),
        latest=book.latest,
        whole=book.whole,
    )


def fork(source_id: str, number: int, target_id: str) -> None:
    """A new workspace that holds what another held at its snapshot `number`, as its own first snapshot. Whatever runs in
    the source goes on.

    Raises:
        NoSnapshot: it was not taken, is no longer kept, or is damaged; nothing is left of the new one.
        ToolRefused: an id is not a UUID in its usual form, or the new workspace is there already.
    """
    source = workspaces.place_of(source_id)
    workspaces.refuse_if_there(target_id)
    target = workspaces.workspace_for(target_id)
    try:
        _make_heap(target)
        with _locked(source):
            one = _read(source).snapshots.get(str(number))
            if one is None or one["missing"]:
                raise NoSnapshot(one["missing"] if one else "it is no longer kept")
            size = contents.share(_heap(source), _heap(target), one["listing"])
        contents.put_back(_heap(target), one["listing"], target, identity_for(target_id))
        for name, text in one["records"].items():
            (target.root / name).write_text(text)
        workspaces.point_to(target)
        _write(target, _Book(latest=1, snapshots={"1": {**one, "step": "", "under_way": []}}, heap_bytes=size))
    except (NotKept, OSError) as error:
        workspaces.remove(target_id)
        raise NoSnapshot(str(error)) from error
    except BaseException:
        workspaces.remove(target_id)
        raise


def _begin(workspace: Workspace, book: _Book, step: str) -> None:
    if not book.latest and any(any((workspace.root / part).iterdir()) for part in ("tree", "repo.git")):
        book.whole = False  # somebody worked here before there were snapshots
        _take(workspace, book, "")
    lost = [one for name, one in book.began.items() if name != step and one["open"] and not one["seen"]]
    if lost:  # of a dead worker, or of a live one beside us: kept once
        _take(workspace, book, "")
        for one in lost:
            one["seen"] = True
    mine = book.began.get(step)
    between = mine is not None and any(
        one["step"] not in ("", step) for number, one in book.snapshots.items() if int(number) > mine["after"]
    )
    if mine is None or between:
        mine = book.began[step] = {"after": book.latest, "open": True, "seen": False}
    mine["open"] = True


def _take(workspace: Workspace, book: _Book, step: str) -> None:
    began_s = time.monotonic()
    if step in book.began:
        book.began[step]["open"] = False
    one: dict[str, Any] = {"step": step, "listing": "", "missing": "", "records": _records(workspace)}
    one["under_way"] = sorted(name for name, mark in book.began.items() if mark["open"])
    try:
        kept = _kept(workspace, book)
        one["listing"] = kept.listing
        book.heap_bytes += kept.added_bytes
    except (NotKept, OSError) as error:
        one["missing"] = str(error)
        level = logging.WARNING if settings.WORKSPACE_SNAPSHOTS > 0 else logging.DEBUG
        log.log(level, "snapshot.not_taken", extra={"workspace": workspace.id, "step": step, "why": str(error)[:200]})
    book.latest += 1
    book.snapshots[str(book.latest)] = one
    if len(book.snapshots) > (settings.WORKSPACE_SNAPSHOTS or _TOLD_MAX):
        _forget(workspace, book, len(book.snapshots) // 4 or 1)
    log.debug("snapshot.taken", extra={"workspace": workspace.id, "step": step, "s": time.monotonic() - began_s})


def _kept(workspace: Workspace, book: _Book) -> Kept:
    if settings.WORKSPACE_SNAPSHOTS <= 0:
        raise NotKept("snapshots are switched off (WORKSPACE_SNAPSHOTS)")
    heap, most = _heap(workspace), settings.WORKSPACE_SNAPSHOT_MB * _MIB
    while True:
        last = next((one["listing"] for one in reversed(book.snapshots.values()) if one["listing"]), "")
        try:
            return contents.keep(workspace, _PARTS, heap, last=last, size_max=most, room=most - book.heap_bytes)
        except NoRoom:
            if not book.snapshots:
                raise
            _forget(workspace, book, (len(book.snapshots) + 1) // 2)
        except BaseException:
            _tidy(workspace, book)
            raise


def _forget(workspace: Workspace, book: _Book, count: int) -> None:
    """The oldest are no longer kept, nor which steps began on them."""
    for number in list(book.snapshots)[:count]:
        del book.snapshots[number]
    oldest = min(map(int, book.snapshots), default=book.latest + 1)
    book.began = {step: one for step, one in book.began.items() if one["open"] or one["after"] >= oldest}
    book.whole = False
    _tidy(workspace, book)


def _tidy(workspace: Workspace, book: _Book) -> None:
    used: set[str] = set()
    for one in book.snapshots.values():
        if one["listing"]:
            used |= contents.names(_heap(workspace), one["listing"])
    book.heap_bytes = contents.clear(_heap(workspace), used)


def _records(workspace: Workspace) -> dict[str, str]:
    found = {}
    for name in _RECORDS:
        try:
            found[name] = (workspace.root / name).read_text()
        except FileNotFoundError:
            continue
    return found


@contextmanager
def _forgiven(workspace: Workspace, step: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        log.warning("snapshot.failed", extra={"workspace": workspace.id, "step": step, "error": repr(error)[:200]})


@contextmanager
def _book(workspace: Workspace) -> Iterator[_Book]:
    """The book, to be changed; it is written at the end of the block."""
    _make_heap(workspace)
    with _locked(workspace):
        book = _read(workspace)
        yield book
        _write(workspace, book)


@contextmanager
def _locked(workspace: Workspace) -> Iterator[None]:
    """Raises NotKept where somebody else holds it for too long."""
    descriptor = os.open(_heap(workspace).parent / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        until = time.monotonic() + WAIT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise NotKept("another snapshot is being taken") from None
                time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _read(workspace: Workspace) -> _Book:
    try:
        found = json.loads(_file(workspace).read_text())
    except FileNotFoundError:
        return _Book()
    except ValueError:  # torn by a power cut
        shutil.rmtree(_heap(workspace), ignore_errors=True)
        _heap(workspace).mkdir(mode=0o700)
        return _Book(whole=False)
    return _Book(**found)


def _write(workspace: Workspace, book: _Book) -> None:
    new = _file(workspace).with_suffix(".new")
    body = {name: getattr(book, name) for name in _Book.__slots__}
    new.write_text(json.dumps(body))
    os.replace(new, _file(workspace))


def _make_heap(workspace: Workspace) -> None:
    heap = _heap(workspace)
    if not heap.is_dir():
        heap.parent.mkdir(mode=0o700, exist_ok=True)
        heap.mkdir(mode=0o700, exist_ok=True)


def _file(workspace: Workspace) -> Path:
    return workspace.root / workspaces.SNAPSHOTS / "history.json"


def _heap(workspace: Workspace) -> Path:
    return workspace.root / workspaces.SNAPSHOTS / "heap"
