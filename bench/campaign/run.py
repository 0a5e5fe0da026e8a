"""One campaign from beginning to end."""

import random
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.campaign import verdict
from bench.campaign.api import Api
from bench.campaign.doubler import Doubler
from bench.campaign.faults import FULL, QUICK, SHORT, Fault, Faults
from bench.campaign.jobs import Submitter
from bench.campaign.ledger import Ledger
from bench.campaign.people import People
from bench.campaign.stack import Stack, until

QUEUES = {"llm", "shell", "files", "git", "control"}
_OPEN = "SELECT count(*) FROM agents_job WHERE finished_at IS NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """jobs: at least so many; rounds: how often the faults of the schedule come; drain_s: how long the end may take."""

    jobs: int
    schedule: tuple[str, ...]
    rounds: int
    lease_s: int
    window: int
    gap_s: tuple[float, float]
    drain_s: float
    stale_after_s: float
    seed: int

    @classmethod
    def quick(cls, seed: int) -> "Plan":
        return cls(
            jobs=40,
            schedule=QUICK,
            rounds=1,
            lease_s=3,
            window=24,
            gap_s=(0.2, 0.6),
            drain_s=120,
            stale_after_s=5,
            seed=seed,
        )

    @classmethod
    def short(cls, seed: int) -> "Plan":
        """For the tests: generous to a slow machine. A lease that no stall of it outlasts, long deadlines."""
        return cls(
            jobs=50,
            schedule=SHORT,
            rounds=1,
            lease_s=6,
            window=16,
            gap_s=(0.2, 0.6),
            drain_s=300,
            stale_after_s=5,
            seed=seed,
        )

    @classmethod
    def full(cls, seed: int) -> "Plan":
        return cls(
            jobs=1000,
            schedule=FULL,
            rounds=4,
            lease_s=4,
            window=24,
            gap_s=(0.5, 3.0),
            drain_s=300,
            stale_after_s=30,
            seed=seed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    verdict: verdict.Verdict
    faults: list[Fault]
    doubled: int
    stale: int
    approved: int
    answered: int
    under_faults_s: float
    left: dict[str, int]


def campaign(plan: Plan, *, say: Callable[[str], None], keep: Path | None = None) -> Outcome:
    """Starts a stack, strikes it, waits until all is still, judges, and ends the stack.

    keep: a folder for everything, which stays. Raises AssertionError where it cannot be driven to its end.
    """
    with tempfile.TemporaryDirectory(prefix="countersign-chaos-", dir="/tmp", ignore_cleanup_errors=True) as name:
        scratch = keep or Path(name)
        scratch.mkdir(parents=True, exist_ok=True)
        scratch.chmod(0o755)
        ledger = Ledger(scratch / "ledger.jsonl")
        stack = Stack(scratch / "data", lease_s=plan.lease_s, ledger=ledger.address)
        stop = threading.Event()
        left: dict[str, int] = {}
        try:
            say("the stack starts")
            stack.start()
            outcome = _strike(plan, stack, ledger, stop, left, say)
        finally:
            stop.set()
            left |= stack.stop()
            ledger.close()
        return outcome


def _strike(
    plan: Plan, stack: Stack, ledger: Ledger, stop: threading.Event, left: dict[str, int], say: Callable[[str], None]
) -> Outcome:
    tokens = stack.tokens()
    requester, approver = (Api(stack.port, tokens[name], stop) for name in ("requester", "approver"))
    quiet = threading.Event()
    quiet.set()
    doubler = Doubler(stack.environ()["REDIS_URL"], QUEUES, plan.seed, stale_after_s=plan.stale_after_s)
    submitter = Submitter(requester, plan.seed, plan.jobs, plan.window)
    people = People(stack, ledger, approver, requester, quiet)
    faults = Faults(stack, quiet, random.Random(plan.seed), submitter.hold)
    counter = threading.Thread(target=_count, args=(stack, submitter, stop), daemon=True)
    began = time.monotonic()
    for part in (submitter, people, counter):
        part.start()
    schedule = list(plan.schedule) * plan.rounds
    if plan.rounds > 1:
        random.Random(plan.seed).shuffle(schedule)
    until(lambda: submitter.acknowledged, 150, "a job was submitted")
    faults.run(schedule, gap_s=plan.gap_s, say=lambda what: say(f"{len(submitter.acknowledged):>5} jobs; {what}"))
    submitter.finish()
    try:
        assert submitter.join(900), "the jobs could not all be submitted"
    finally:
        faults.take_back()
    under_faults_s = time.monotonic() - began
    say(f"{len(submitter.acknowledged):>5} jobs; the faults are over")
    still = _settle(plan, stack, doubler)
    doubler.stop()
    found = verdict.judge(stack, ledger, submitter.acknowledged, faults.done)
    found.broken += submitter.refused
    found.unfinished += still
    found.backlog = verdict.backlog(stack, QUEUES)
    found.audit = verdict.audit_is_whole(stack)
    return Outcome(
        verdict=found,
        faults=faults.done,
        doubled=doubler.doubled,
        stale=doubler.stale,
        approved=people.approved,
        answered=len(people.answered),
        under_faults_s=under_faults_s,
        left=left,
    )


def _settle(plan: Plan, stack: Stack, doubler: Doubler) -> list[str]:
    """Waits until every job has ended and every message was taken; gives what did not come to its end."""
    try:
        until(lambda: stack.query(_OPEN)[0][0] == 0, plan.drain_s, "every job has ended")
        doubler.finish()
        until(lambda: not doubler.waiting, 90, "the last stale copy was sent")
        until(lambda: verdict.backlog(stack, QUEUES) == 0, 60, "every message was taken")
    except AssertionError as error:
        return [str(error)]
    return []


def _count(stack: Stack, submitter: Submitter, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            submitter.unfinished = int(stack.query(_OPEN, timeout_s=1)[0][0])
        except Exception:  # the database is away: no new jobs meanwhile
            submitter.unfinished = submitter.window
        time.sleep(0.2)
