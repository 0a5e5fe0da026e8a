"""The campaign's jobs: mixed effects by a seeded generator, submitted by HTTP with an idempotency key each."""

import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from bench.campaign.api import Api

# kind: share of the jobs
MIX = {"effects": 0.78, "files": 0.06, "git": 0.06, "asked": 0.07, "cancelled": 0.03}
SUBMITTERS = 3


@dataclass(frozen=True, slots=True)
class Submitted:
    job: str
    kind: str
    number: int


@dataclass(slots=True)
class Submitter:
    """Keeps at most `window` jobs unfinished, until `finish()` and then until `least` were submitted."""

    api: Api
    seed: int
    least: int
    window: int
    unfinished: int = 0  # kept up to date by the campaign
    acknowledged: list[Submitted] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    _next: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _enough: threading.Event = field(default_factory=threading.Event)
    _held: bool = False
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self._threads = [threading.Thread(target=self._run, name="submitter", daemon=True) for _ in range(SUBMITTERS)]
        for thread in self._threads:
            thread.start()

    def hold(self, held: bool) -> None:
        """Submits nothing for a while."""
        self._held = held

    def finish(self) -> None:
        """The faults are over: only what is missing to `least` is still submitted."""
        self._enough.set()

    def join(self, timeout_s: float) -> bool:
        """True: all that was to be submitted was."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while not self.api.stop.is_set():
            with self._lock:
                if self._enough.is_set() and self._next >= self.least:
                    return
                full = self._held or self.unfinished >= self.window
                if not full:
                    number, self._next, self.unfinished = self._next, self._next + 1, self.unfinished + 1
            if full:
                time.sleep(0.02)
                continue
            try:
                self._submit(number)
            except Exception as error:  # told in the verdict
                self.refused.append(f"job {number}: {type(error).__name__}: {error}")

    def _submit(self, number: int) -> None:
        kind, payload = make(number, self.seed)
        status, answer = self.api.post("/jobs", payload, key=f"chaos-{self.seed}-{number}")
        if status not in (200, 201):
            self.refused.append(f"job {number}: {status} {answer}")
            return
        job = str(answer["id"])
        self.acknowledged.append(Submitted(job, kind, number))
        if kind == "cancelled":
            self.api.post(f"/jobs/{job}/cancel")


def make(number: int, seed: int) -> tuple[str, dict[str, Any]]:
    """(kind, body of POST /jobs); the same for the same number and seed."""
    chosen = random.Random(f"{seed}/{number}")
    kind = chosen.choices(list(MIX), weights=list(MIX.values()))[0]
    steps = {"effects": _effects, "files": _files, "git": _git, "asked": _asked, "cancelled": _effects}[kind](
        chosen, number
    )
    body: dict[str, Any] = {"title": f"chaos {number}: {kind}", "steps": steps, "priority": chosen.randrange(10)}
    if kind == "git":
        body["repository"] = "sample"
    return kind, body


def _ledger_step(key: str, tool: str, chosen: random.Random, needs: list[str]) -> dict[str, Any]:
    # most are short; some last long enough that a kill is likely to find them in mid-act
    most = 800 if chosen.random() < 0.25 else 60
    arguments = {"before_ms": chosen.randrange(most), "after_ms": chosen.randrange(most)}
    return {"key": key, "tool": f"campaign.{tool}", "arguments": arguments, "needs": needs}


def _effects(chosen: random.Random, number: int) -> list[dict[str, Any]]:
    """Up to five steps, each needing some of those before it."""
    steps: list[dict[str, Any]] = []
    for place in range(chosen.randint(2, 5)):
        tool = chosen.choices(["look", "repeat", "once", "blind"], weights=[2, 3, 4, 1])[0]
        before = [step["key"] for step in steps]
        needs = chosen.sample(before, k=min(len(before), chosen.randint(0, 2)))
        steps.append(_ledger_step(f"s{place}", tool, chosen, needs))
    return steps


def _asked(chosen: random.Random, number: int) -> list[dict[str, Any]]:
    return [
        _ledger_step("before", "once", chosen, []),
        _ledger_step("asked", "asked", chosen, ["before"]),
        _ledger_step("after", "repeat", chosen, ["asked"]),
    ]


def _files(chosen: random.Random, number: int) -> list[dict[str, Any]]:
    content = f"{number} {chosen.random()}\n"
    return [
        {"key": "write", "tool": "files.write", "arguments": {"path": "a.txt", "content": content}},
        {"key": "copy", "tool": "shell.exec", "arguments": {"argv": ["cp", "a.txt", "b.txt"]}, "needs": ["write"]},
        {"key": "read", "tool": "files.read", "arguments": {"path": "b.txt"}, "needs": ["copy"]},
    ]


def _git(chosen: random.Random, number: int) -> list[dict[str, Any]]:
    """A branch of its own with one commit, pushed."""
    branch, path = f"chaos-{number}", f"chaos-{number}.txt"
    content = f"{number}\n"
    return [
        {"key": "branch", "tool": "git.checkout", "arguments": {"ref": branch, "create": True}},
        {"key": "write", "tool": "files.write", "arguments": {"path": path, "content": content}, "needs": ["branch"]},
        {"key": "add", "tool": "git.add", "arguments": {"paths": [path]}, "needs": ["write"]},
        {"key": "commit", "tool": "git.commit", "arguments": {"message": f"Chaos {number}"}, "needs": ["add"]},
        {"key": "push", "tool": "git.push", "arguments": {"branch": branch}, "needs": ["commit"]},
    ]
