"""A job as a small pure state machine: what the engine must come to, without a database, workers or time.

One method an event. `tests/integration/agents/test_properties.py` drives it and the engine side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

DONE = {"succeeded", "failed", "refused", "cancelled", "skipped"}
PARKED = {"waiting_approval", "in_doubt"}
JOB_DONE = {"succeeded", "failed", "cancelled"}
TRIES, POISON = 3, 3


@dataclass(slots=True)
class Plan:
    """A step as given. rule: what policy says of it (allow, ask, deny)."""

    key: str
    needs: Sequence[str]
    once: bool
    rule: str


@dataclass(slots=True)
class Modelled:
    plan: Plan
    state: str = "pending"
    approved: bool = False
    attempts: int = 0
    most: int = TRIES
    losses: int = 0
    began: bool = False  # the attempt under way may have had its effect
    needs_person: bool = False
    runs: int = 0


@dataclass(slots=True)
class JobModel:
    plans: Sequence[Plan]
    state: str = "queued"
    cancelled: bool = False
    started: bool = False
    steps: dict[str, Modelled] = field(default_factory=dict)
    claimed: list[str] = field(default_factory=list)  # running steps, the longest first

    def __post_init__(self) -> None:
        self.steps = {plan.key: Modelled(plan) for plan in self.plans}
        self.advance()

    def states(self) -> dict[str, tuple[str, int]]:
        return {key: (one.state, one.attempts) for key, one in self.steps.items()}

    def where(self, *states: str) -> list[str]:
        return [key for key, one in self.steps.items() if one.state in states]

    # what workers do

    def claim(self, key: str) -> None:
        one = self.steps[key]
        assert one.state == "queued", f"{key} began while it was {one.state}"
        assert all(self.steps[need].state == "succeeded" for need in one.plan.needs), f"{key} began before its needs"
        assert one.plan.rule == "allow" or one.approved, f"{key} began without a decision"
        one.state, one.began = "running", False
        one.attempts += 1
        self.claimed.append(key)
        self._move("running")

    def run(self, key: str, outcome: str) -> None:
        """One attempt: ok, not_ok, transient, or died."""
        self.claim(key)
        one = self.steps[key]
        one.began = True
        one.runs += 1
        if outcome == "died":
            return
        self.claimed.remove(key)
        if outcome == "ok":
            one.state = "succeeded"
        elif self.cancelled:
            one.state = "cancelled"
        elif outcome == "not_ok":
            one.state = "failed"
        elif one.plan.once:
            self._doubt(one)
        else:
            self._again(one)
        self.advance()

    def previewed(self, key: str) -> None:
        one = self.steps[key]
        assert one.state == "ready" and one.plan.rule == "ask"
        one.state = "waiting_approval"
        self.advance()

    # what the sweeper and probes do

    def expire(self) -> None:
        """The leases of all running steps."""
        for key in list(self.claimed):
            self.claimed.remove(key)
            one = self.steps[key]
            one.losses += 1
            if self.cancelled:
                one.state = "cancelled"
            elif one.plan.once and one.began:
                self._doubt(one)
            else:
                self._again(one)
            self.advance()

    def answered(self, key: str, *, happened: bool) -> None:
        """Somebody knows whether a step in doubt happened."""
        one = self.steps[key]
        assert one.state == "in_doubt"
        if happened:
            one.state = "succeeded"
        else:
            self._again(one)
        self.advance()

    def unsure(self, key: str) -> None:
        self.steps[key].needs_person = True

    # what people do

    def decided(self, key: str, *, approved: bool) -> None:
        one = self.steps[key]
        assert one.state == "waiting_approval"
        one.approved = approved
        one.state = ("pending" if self._paused() else "queued") if approved else "refused"
        self.advance()

    def cancel(self) -> None:
        if self.state in JOB_DONE or self.cancelled:
            return
        self.cancelled = True
        for one in self.steps.values():
            if one.state not in DONE | {"running"}:
                one.state = "cancelled"
        self.advance()

    def pause(self) -> bool:
        """False: refused."""
        if self.state in JOB_DONE or self.cancelled:
            return False
        self.state = "paused"
        for one in self.steps.values():
            if one.state in {"ready", "queued"}:
                one.state = "pending"
        return True

    def resume(self) -> bool:
        if self.state in JOB_DONE:
            return False
        if self.state == "paused":
            self._move("running" if self.started else "queued")
            self.advance()
        return True

    def retry(self) -> bool:
        if self.state not in {"failed", "cancelled"}:
            return False
        self.cancelled = False
        self._move("running")
        for one in self.steps.values():
            if one.state in {"failed", "refused", "skipped", "cancelled"}:
                one.state, one.approved, one.losses, one.most = "pending", False, 0, one.attempts + TRIES
        self.advance()
        return True

    # what follows

    def advance(self) -> None:
        moved = not self._paused()
        while moved:
            moved = False
            for one in self.steps.values():
                needs = [self.steps[need].state for need in one.plan.needs]
                if one.state == "pending" and all(state in DONE for state in needs):
                    one.state = self._released(one, needs)
                    moved = moved or one.state in DONE
        self._settle()

    def _released(self, one: Modelled, needs: Sequence[str]) -> str:
        if self.cancelled:
            return "cancelled"
        if any(state != "succeeded" for state in needs):
            return "skipped"
        if one.approved:
            return "queued"
        return {"allow": "queued", "ask": "ready", "deny": "refused"}[one.plan.rule]

    def _again(self, one: Modelled) -> None:
        if one.losses >= POISON or one.attempts >= one.most:
            one.state = "failed"
        else:
            one.state = "pending" if self.state == "paused" else "queued"

    def _doubt(self, one: Modelled) -> None:
        one.state, one.needs_person = "in_doubt", False

    def _settle(self) -> None:
        states = {one.state for one in self.steps.values()}
        still = states - DONE
        if still:
            active = still - {"pending"}
            if self.state == "paused":
                return
            if active and active <= PARKED:
                self._move("waiting")
            elif self.state == "waiting" or "running" in active:
                self._move("running")
        elif self.state not in JOB_DONE:
            self._move("cancelled" if self.cancelled else "succeeded" if states == {"succeeded"} else "failed")

    def _paused(self) -> bool:
        return self.state == "paused" and not self.cancelled

    def _move(self, state: str) -> None:
        self.state = state
        self.started = self.started or state == "running"
