"""What came of it: the ledger and git against the database. Every defect is a line; none is the promise."""

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import redis

from bench.campaign import truth
from bench.campaign.faults import Fault
from bench.campaign.jobs import Submitted
from bench.campaign.ledger import Ledger
from bench.campaign.stack import Stack

ONCE = {"campaign.once", "campaign.asked", "campaign.blind"}
WRITES = {*ONCE, "campaign.repeat"}
OUTAGES = {"restart_postgres", "crash_postgres", "pause_postgres", "slow_disk"}
STOPS = {"stop_worker", "stop_sweeper", "stop_web"}
AROUND_S = 2.0  # an outage's end is seen by us a moment after it, and by a worker's lease a moment later

_STEPS = """
    SELECT s.id::text, s.job_id::text, s.key, s.tool, s.effect, s.state, s.arguments, s.attempt, s.error, j.state
      FROM agents_step s JOIN agents_job j ON j.id = s.job_id
"""
_ATTEMPTS = """
    SELECT a.step_id::text, a.number, a.worker, a.outcome, extract(epoch FROM a.claimed_at)::float8,
           extract(epoch FROM a.ended_at)::float8, a.error
      FROM agents_attempt a ORDER BY a.step_id, a.number
"""
_DOUBTS = """
    SELECT DISTINCT body::jsonb #>> '{target,id}', (body::jsonb #>> '{context,attempt}')::int
      FROM audit_event WHERE event = 'step.in_doubt'
"""
_FINISHED = "SELECT id::text, extract(epoch FROM finished_at)::float8 FROM agents_step WHERE finished_at IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Attempt:
    number: int
    worker: str
    outcome: str
    claimed_at: float
    ended_at: float | None
    error: str


@dataclass(slots=True)
class Verdict:
    """lost, doubled, unexplained, unfinished: what must be empty."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)  # jobs that failed though no fault explains it
    backlog: int = 0
    audit: str = ""
    counts: dict[str, Any] = field(default_factory=dict)
    recoveries: list[float] = field(default_factory=list)  # of steps whose worker was killed, nothing else being wrong
    others: list[float] = field(default_factory=list)  # of those whose worker was killed in some other trouble
    noticed: list[float] = field(default_factory=list)  # of the first: until the sweeper had moved the step on

    @property
    def ok(self) -> bool:
        return not (self.lost or self.doubled or self.unexplained or self.unfinished or self.broken) and not (
            self.backlog or self.audit
        )


def judge(stack: Stack, ledger: Ledger, submitted: list[Submitted], faults: list[Fault]) -> Verdict:
    """Everything has ended, or should have."""
    verdict = Verdict()
    steps = stack.query(_STEPS)
    attempts = _attempts(stack)
    doubts = {(step, number) for step, number in stack.query(_DOUBTS)}
    _jobs(stack, verdict, submitted)
    _effects(verdict, ledger, steps)
    _git(stack, verdict, submitted, steps)
    _lost_attempts(verdict, steps, attempts, doubts, faults, stack.lease_s)
    _failures(verdict, steps, attempts)
    _recoveries(stack, verdict, attempts, doubts, faults)
    verdict.counts |= {
        "steps": len(steps),
        "step states": dict(Counter(step[5] for step in steps)),
        "attempts": dict(Counter(one.outcome or "open" for found in attempts.values() for one in found)),
        "in doubt": len(doubts),
        "repeated REPEATABLE effects": sum(
            len(found) - 1 for found in ledger.every().values() if found[0].kind == "campaign.repeat"
        ),
        "effects in the ledger": sum(map(len, ledger.every().values())),
    }
    return verdict


def backlog(stack: Stack, queues: set[str]) -> int:
    """Messages that wait in Redis."""
    try:
        with redis.Redis.from_url(stack.environ()["REDIS_URL"]) as client:
            return sum(int(client.llen(queue)) for queue in queues)
    except redis.RedisError:
        return -1


def audit_is_whole(stack: Stack, *, timeout_s: float = 90) -> str:
    """ "" where `audit_verify` finds nothing wrong, once the sequencer has caught up; else what it said."""
    deadline = time.monotonic() + timeout_s
    while True:
        done = stack.manage("audit_verify", "--completeness")
        if done.returncode == 0:
            return ""
        if time.monotonic() > deadline:
            return (done.stdout + done.stderr).strip()[-2000:]
        time.sleep(1)


def _attempts(stack: Stack) -> dict[str, list[Attempt]]:
    found: dict[str, list[Attempt]] = {}
    for step, *rest in stack.query(_ATTEMPTS):
        found.setdefault(step, []).append(Attempt(*rest))
    return found


def _jobs(stack: Stack, verdict: Verdict, submitted: list[Submitted]) -> None:
    states = dict(stack.query("SELECT id::text, state FROM agents_job"))
    verdict.lost += [f"job {one.job} was acknowledged and is not there" for one in submitted if one.job not in states]
    done = {"succeeded", "failed", "cancelled", "compensated"}
    verdict.unfinished += [f"job {job} is {state}" for job, state in states.items() if state not in done]
    known = {one.job for one in submitted}
    verdict.doubled += [f"job {job} was not submitted, or twice" for job in states if job not in known]
    verdict.counts |= {"jobs": len(states), "job states": dict(Counter(states.values()))}
    verdict.counts["jobs by kind"] = dict(Counter(one.kind for one in submitted))


def _effects(verdict: Verdict, ledger: Ledger, steps: list[tuple[Any, ...]]) -> None:
    known = set()
    for step, job, key, tool, _effect, state, _arguments, _attempt, _error, job_state in steps:
        known.add(step)
        count = len(ledger.of(step))
        name = f"{tool} {key} of {job}"
        if state in {"running", "queued", "ready", "in_doubt", "pending", "waiting_approval"}:
            verdict.unfinished.append(f"{name} is {state} in a job that has {job_state}")
        if tool in WRITES and state == "succeeded" and not count:
            verdict.lost.append(f"{name} succeeded without its effect")
        if tool in ONCE and count > 1:
            verdict.doubled.append(f"{name} had its effect {count} times")
        if count and state in {"skipped", "refused", "pending"}:
            verdict.doubled.append(f"{name} is {state}, and had its effect")
    verdict.doubled += [
        f"the ledger knows {step}, the database does not" for step in ledger.every() if step not in known
    ]


def _git(stack: Stack, verdict: Verdict, submitted: list[Submitted], steps: list[tuple[Any, ...]]) -> None:
    accepted = Counter(truth.pushes(stack.remote))
    there = truth.branches(stack.remote)
    numbers = {one.job: one.number for one in submitted}
    for _step, job, _key, tool, _effect, state, *_ in steps:
        if tool != "git.push" or job not in numbers:
            continue
        branch = f"chaos-{numbers[job]}"
        if state == "succeeded" and branch not in there:
            verdict.lost.append(f"the push of {branch} succeeded, and origin has no such branch")
        if accepted[f"refs/heads/{branch}"] > 1:
            verdict.doubled.append(f"{branch} was pushed {accepted[f'refs/heads/{branch}']} times")
        if branch in there and truth.commits(stack.remote, branch) != 1:
            verdict.doubled.append(f"{branch} has {truth.commits(stack.remote, branch)} commits")
    verdict.counts["branches pushed"] = len(there) - 1


def _hit(attempt: Attempt, faults: list[Fault], lease_s: float) -> Fault | None:
    """The fault that took this attempt: its worker was killed or stopped in it, or the database was away.

    A lease counts from the moment at which the claim was asked for, so a claim that had to wait may come with a lease
    that is over: for the database, or for the row locks of another process that stood still in mid-transaction.
    """
    ended = attempt.ended_at or time.time()
    for fault in faults:
        theirs = fault.name == f"worker-{attempt.worker.partition('@')[0]}"
        if theirs and attempt.claimed_at - AROUND_S <= fault.ended and fault.began <= ended:
            return fault
    asked = attempt.claimed_at - lease_s - AROUND_S
    for fault in faults:
        if fault.kind in OUTAGES | STOPS and asked <= fault.ended and fault.began - AROUND_S <= ended:
            return fault
    return None


def _lost_attempts(
    verdict: Verdict,
    steps: list[tuple[Any, ...]],
    attempts: dict[str, list[Attempt]],
    doubts: set[tuple[str, int]],
    faults: list[Fault],
    lease_s: float,
) -> None:
    """Each lost, late or doubtful attempt must have been hit by a fault in mid-act."""
    names = {step[0]: f"{step[3]} {step[2]} of {step[1]}" for step in steps}
    why: Counter[str] = Counter()
    for step, found in attempts.items():
        for one in found:
            doubtful = (step, one.number) in doubts
            if not doubtful and one.outcome not in {"lost", "late"} and one.ended_at is not None:
                continue
            fault = _hit(one, faults, lease_s)
            if fault is None:
                what = "in doubt" if doubtful else one.outcome or "open"
                verdict.unexplained.append(f"{names[step]}: attempt {one.number} of {one.worker} {what}: {one.error}")
            elif doubtful:
                why[fault.kind] += 1
    verdict.counts["in doubt because of"] = dict(why)


def _failures(verdict: Verdict, steps: list[tuple[Any, ...]], attempts: dict[str, list[Attempt]]) -> None:
    """A step may fail when faults took all its attempts, and for nothing else."""
    spent = 0
    for step, job, key, tool, _effect, state, _arguments, _attempt, error, _job_state in steps:
        if state not in {"failed", "refused"}:
            continue
        outcomes = [one.outcome for one in attempts.get(step, [])]
        taken = {"lost", "late", "requeued"}
        if state == "failed" and outcomes and taken.issuperset(outcomes) and outcomes[-1] != "requeued":
            spent += 1
            continue
        verdict.broken.append(f"{tool} {key} of {job} {state} after {outcomes}: {error}")
    verdict.counts["steps whose attempts were all taken by faults"] = spent


def _recoveries(
    stack: Stack,
    verdict: Verdict,
    attempts: dict[str, list[Attempt]],
    doubts: set[tuple[str, int]],
    faults: list[Fault],
) -> None:
    """Seconds from a worker's death until its step was claimed again, settled by its probe, or put before people."""
    finished = dict(stack.query(_FINISHED))
    kills = [fault for fault in faults if fault.kind == "kill_worker"]
    for step, found in attempts.items():
        for place, one in enumerate(found):
            if one.outcome != "lost" or one.ended_at is None:
                continue
            name = f"worker-{one.worker.partition('@')[0]}"
            kill = next(
                (kill for kill in kills if kill.name == name and one.claimed_at <= kill.began <= one.ended_at), None
            )
            if kill is None:
                continue
            after = found[place + 1].claimed_at if place + 1 < len(found) else finished.get(step, one.ended_at)
            back = min(after, one.ended_at) if (step, one.number) in doubts else after
            (verdict.recoveries if kill.clean else verdict.others).append(back - kill.began)
            if kill.clean:
                verdict.noticed.append(one.ended_at - kill.began)


def as_text(verdict: Verdict, faults: list[Fault]) -> str:
    """The report: what was done, what came of it, each defect by its line."""
    lines = ["faults: " + ", ".join(f"{count} x {kind}" for kind, count in Counter(f.kind for f in faults).items())]
    lines += [f"{name}: {json.dumps(value)}" for name, value in verdict.counts.items()]
    for title in ("lost", "doubled", "unexplained", "unfinished", "broken"):
        found = getattr(verdict, title)
        lines.append(f"{title}: {len(found)}")
        lines += [f"    {line}" for line in found[:50]]
    lines.append(f"messages left: {verdict.backlog}")
    lines.append(f"audit log: {verdict.audit or 'whole'}")
    return "\n".join(lines)
