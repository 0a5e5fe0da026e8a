"""The campaign's people: one approves what is asked, one answers steps in doubt by what the ledger and git say."""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg

from bench.campaign.api import Api, GaveUp
from bench.campaign.ledger import Ledger
from bench.campaign.stack import Stack
from bench.campaign.truth import happened

LOOK_S = 0.3
SETTLED_AFTER_S = 1.0  # a worker that was just killed may still have a request under way

_ASKED = "SELECT id FROM approvals_approvalrequest WHERE state = 'pending'"
_DOUBTS = """
    SELECT s.id::text, s.job_id::text, s.key, s.tool, s.arguments FROM agents_step s
     WHERE s.state = 'in_doubt' AND s.error_code = 'needs_person'
"""


@dataclass(slots=True)
class People:
    """quiet: clear while a process is stopped (SIGSTOP): what it did, and will not do any more, cannot be told yet."""

    stack: Stack
    ledger: Ledger
    approver: Api
    requester: Api
    quiet: threading.Event
    approved: int = 0
    answered: list[tuple[str, bool]] = field(default_factory=list)  # step, did it happen
    _seen: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        for run in (self._approve, self._answer):
            threading.Thread(target=self._until_stopped, args=(run,), name="people", daemon=True).start()

    def _until_stopped(self, run: object) -> None:
        assert callable(run)
        while not self.approver.stop.is_set():
            with suppress(psycopg.Error, GaveUp, OSError):
                run()
            time.sleep(LOOK_S)

    def _approve(self) -> None:
        for (request,) in self.stack.query(_ASKED):
            # 409: decided meanwhile, or its job was cancelled
            status, _ = self.approver.post(f"/approvals/{request}/approve", {})
            self.approved += status == 200

    def _answer(self) -> None:
        if not self.quiet.is_set():
            return
        now = time.monotonic()
        for step, job, key, tool, arguments in self.stack.query(_DOUBTS):
            if now - self._seen.setdefault(step, now) < SETTLED_AFTER_S or not self.quiet.is_set():
                continue
            truth = happened(self.stack, self.ledger, step=step, tool=tool, arguments=arguments)
            status, _ = self.requester.post(f"/jobs/{job}/steps/{key}/resolve", {"happened": truth})
            if status == 200:
                self.answered.append((step, truth))
                del self._seen[step]  # it may come into doubt again
