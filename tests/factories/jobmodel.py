"""A job as a small pure state machine: what the engine must come to, without a database, workers or time.

One method an event. `tests/integration/agents/test_properties.py` drives it and the engine side by side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

DONE = {"succeeded", "failed", "refused", "cancelled", "skipped", "compensated"}
PARKED = {"waiting_approval", "in_doubt"}
JOB_DONE = {"succeeded", "failed", "cancelled", "compensated"}
AGAIN = {"failed", "refused", "skipped", "cancelled"}
TRIES, POISON = 3, 3


@dataclass(slots=True)
class Plan:
    """A step as given. rule: what policy says of it (allow, ask, deny); items: of a map, each a chunk of its own;
    undo: it says how to undo it."""

    key: str
    needs: Sequence[str]
    once: bool
    rule: str
    items: int = 0
    undo: bool = False


@dataclass(slots=True)
class Modelled:
    """name: what the tool is told; parent: a chunk's map; undoes: the step that it undoes; ended: when, as a number;
    good: of a chunk, that its item succeeded; doubtful: it was cancelled and may have happened."""

    plan: Plan
    name: str
    rule: str
    parent: str = ""
    undoes: str = ""
    state: str = "pending"
    approved: bool = False
    attempts: int = 0
    claims: list[int] = field(default_factory=list)
    most: int = TRIES
    losses: int = 0
    began: bool = False  # the attempt under way may have had its effect
    needs_person: bool = False
    runs: int = 0
    fanned_out: bool = False
    ended: int = 0
    good: bool = False
    doubtful: bool = False
    stopped: bool = False

    @property
    def batch(self) -> bool:
        """Is it a chunk that ends well whatever its item comes to?"""
        return bool(self.parent) and not self.plan.once


@dataclass(slots=True)
class JobModel:
    """copies: of a fork, the steps that have ended in the other job."""

    plans: Sequence[Plan]
    copies: frozenset[str] = frozenset()
    state: str = "queued"
    cancelled: bool = False
    started: bool = False
    steps: dict[str, Modelled] = field(default_factory=dict)
    claimed: list[str] = field(default_factory=list)  # running steps, the longest first
    clock: int = 0

    def __post_init__(self) -> None:
        self.steps = {plan.key: Modelled(plan, plan.key, plan.rule) for plan in self.plans}
        for key in self.copies:
            self.steps[key].state = "succeeded"
        self.advance()

    def states(self) -> dict[str, tuple[str, int]]:
        return {key: (one.state, one.attempts) for key, one in self.steps.items()}

    def where(self, *states: str) -> list[str]:
        return [key for key, one in self.steps.items() if one.state in states and not one.fanned_out]

    def editable(self) -> list[str]:
        if self.state in JOB_DONE or self.cancelled:
            return []
        return [
            key
            for key in self.where("pending", "waiting_approval")
            if not (self.steps[key].undoes or self.steps[key].parent or self.steps[key].plan.items)
        ]

    def named(self, name: str) -> str:
        """The step that a call of this name belongs to now: of a map that was retried, the last chunk."""
        return [key for key, one in self.steps.items() if one.name == name and not one.fanned_out][-1]

    # what workers do

    def claim(self, key: str) -> None:
        one = self.steps[key]
        assert one.state == "queued", f"{key} began while it was {one.state}"
        assert all(self.steps[need].state == "succeeded" for need in one.plan.needs), f"{key} began before its needs"
        assert one.rule == "allow" or one.approved, f"{key} began without a decision"
        one.state, one.began = "running", False
        one.attempts += 1
        one.claims.append(one.attempts)
        self.claimed.append(key)
        if self.state != "compensating":
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
        if outcome == "ok" or one.batch:
            self._end(one, "succeeded")
            one.good = outcome == "ok"
        elif outcome == "not_ok":
            self._end(one, "failed")
        elif one.plan.once:
            self._doubt(one)
        else:
            self._again(one)
        self.advance()

    def previewed(self, key: str) -> None:
        one = self.steps[key]
        assert one.state == "ready" and one.rule == "ask"
        one.state = "waiting_approval"
        self.advance()

    # what the sweeper and probes do

    def expire(self) -> None:
        """The leases of all running steps."""
        for key in list(self.claimed):
            self.claimed.remove(key)
            one = self.steps[key]
            one.losses += 1
            doubtful = one.plan.once and one.began
            if self._stops(one):
                self._end(one, "cancelled")
                one.doubtful = doubtful
            elif doubtful:
                self._doubt(one)
            else:
                self._again(one)
            self.advance()

    def answered(self, key: str, *, happened: bool) -> None:
        """Somebody knows whether a step in doubt happened."""
        one = self.steps[key]
        assert one.state == "in_doubt"
        if happened:
            self._end(one, "succeeded")
            one.good = True
        elif self._stops(one):
            self._end(one, "cancelled")
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
        if not approved:
            self._end(one, "refused")
        else:
            one.state = "pending" if self._paused() else "queued"
        self.advance()

    def edit(self, key: str, rule: str) -> None:
        """Other arguments, of which policy says `rule`."""
        one = self.steps[key]
        if one.rule == rule:
            return
        one.rule, one.state, one.approved = rule, "pending", False
        one.attempts += 1
        one.most += 1
        self.advance()

    def cancel(self) -> None:
        if self.state in JOB_DONE or self.cancelled or self._undoing():
            return
        wanted = bool(self._to_undo())
        self.cancelled = True
        self.clock += 1
        for one in self.steps.values():
            if one.state in DONE | {"running"} or (one.state == "in_doubt" and wanted):
                continue
            one.doubtful = one.state == "in_doubt"
            one.state, one.ended = "cancelled", self.clock
        self.advance()

    def stop_undoing(self) -> bool:
        """False: refused."""
        if not self._undoing():
            return False
        for one in self.steps.values():
            if one.undoes and one.state not in DONE:
                one.stopped = True
                if one.state != "running":
                    one.state = "cancelled"
        self.state = "compensating"
        self.advance()
        return True

    def pause(self) -> bool:
        """False: refused."""
        if self.state in JOB_DONE or (self.cancelled and not self._undoing()):
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
            self._move("compensating" if self._undoing() else "running" if self.started else "queued")
            self.advance()
        return True

    def retry(self) -> bool:
        if self.state not in {"failed", "cancelled"} or any(one.undoes for one in self.steps.values()):
            return False
        self.cancelled = False
        self._move("running")
        for one in self.steps.values():
            if one.state in AGAIN:
                one.state, one.approved, one.losses, one.most = "pending", False, 0, one.attempts + TRIES
                one.doubtful = False
        for key, one in list(self.steps.items()):
            if one.fanned_out and one.state == "pending":
                self._retry_items(key)
        self.advance()
        return True

    def forked(self, at: str) -> "JobModel | None":
        """The job that begins at this step; None: refused."""
        own = [one.plan.key for one in self.steps.values() if not (one.parent or one.undoes)]
        if any(one.state == "compensated" for one in self.steps.values()):
            return None
        copies = frozenset(key for key in own[: own.index(at)] if self.steps[key].state == "succeeded")
        plans = [
            Plan(
                plan.key,
                plan.needs,
                plan.once,
                self.steps[plan.key].rule,
                plan.items,
                plan.undo and plan.key not in copies,
            )
            for plan in self.plans
        ]
        return JobModel(plans, copies)

    # what follows

    def advance(self) -> None:
        if self.state == "compensating":
            self._undo()
            return
        if self.state == "paused" and self._undoing():
            return
        moved = not self._paused()
        while moved:
            moved = False
            for key, one in list(self.steps.items()):
                if one.state == "pending" and not (one.parent or one.fanned_out or one.undoes):
                    moved = self._release(key, one) or moved
            for key, one in list(self.steps.items()):
                if one.fanned_out and one.state == "pending":
                    moved = self._work_through(key) or moved
        self._settle()

    def _release(self, key: str, one: Modelled) -> bool:
        """True where something ended or fanned out by it."""
        needs = [self.steps[need].state for need in one.plan.needs]
        if not all(state in DONE for state in needs):
            return False
        if one.plan.items and not self.cancelled and all(state == "succeeded" for state in needs):
            one.fanned_out = True
            names = [f"{key}.{number}" for number in range(1, one.plan.items + 1)]
            self._chunks(key, names, one.plan.once, one.rule)
            return True
        state = self._released(one, needs)
        if state in DONE:
            self._end(one, state)
        one.state = state
        return state in DONE

    def _chunks(self, key: str, names: Sequence[str], once: bool, rule: str, *, undoes: str = "") -> None:
        before = len(self._chunks_of(key))
        for number, name in enumerate(names, start=before + 1):
            chunk = f"{key}.{number}"
            self.steps[chunk] = Modelled(Plan(chunk, (), once, rule), name, rule, parent=key, undoes=undoes)

    def _chunks_of(self, key: str) -> Mapping[str, Modelled]:
        return {name: one for name, one in self.steps.items() if one.parent == key}

    def _work_through(self, key: str, *, at_once: int = 16) -> bool:
        """Begins the chunks of a map for which there is room, and ends it after the last; True where something ended."""
        one, chunks = self.steps[key], self._chunks_of(key).values()
        pending = [chunk for chunk in chunks if chunk.state == "pending"]
        busy = [chunk for chunk in chunks if chunk.state not in DONE | {"pending"}]
        ended = False
        for chunk in pending[: max(0, at_once - len(busy))]:
            state = self._released(chunk, ())
            if state in DONE:
                self._end(chunk, state)
                ended = True
            chunk.state = state
        if not pending and not busy:
            items = {chunk.name for chunk in chunks}
            self._end(one, "succeeded" if items == self._good(key) else "failed")
            ended = True
        return ended

    def _good(self, key: str) -> set[str]:
        return {chunk.name for chunk in self._chunks_of(key).values() if chunk.good and chunk.state == "succeeded"}

    def _retry_items(self, key: str) -> None:
        """Items that failed in chunks which ended well get chunks of their own."""
        chunks = self._chunks_of(key).values()
        open_ = {chunk.name for chunk in chunks if chunk.state != "succeeded"}
        tried = {chunk.name for chunk in chunks} - open_ - self._good(key)
        one = self.steps[key]
        self._chunks(key, sorted(tried), one.plan.once, one.rule)

    def _released(self, one: Modelled, needs: Sequence[str]) -> str:
        if self.cancelled and not one.undoes:
            return "cancelled"
        if any(state != "succeeded" for state in needs):
            return "skipped"
        if one.approved:
            return "queued"
        return {"allow": "queued", "ask": "ready", "deny": "refused"}[one.rule]

    def _again(self, one: Modelled) -> None:
        if self._stops(one):
            self._end(one, "cancelled")
        elif one.losses >= POISON or one.attempts >= one.most:
            self._end(one, "failed")
        else:
            one.state = "pending" if self.state == "paused" else "queued"

    def _stops(self, one: Modelled) -> bool:
        return one.stopped or (self.cancelled and not one.undoes)

    def _doubt(self, one: Modelled) -> None:
        if self._stops(one):
            self._end(one, "cancelled")
            one.doubtful = True
        else:
            one.state, one.needs_person = "in_doubt", False

    def _end(self, one: Modelled, state: str) -> None:
        self.clock += 1
        one.state, one.ended = "cancelled" if state == "failed" and self._stops(one) else state, self.clock

    def _settle(self) -> None:
        own = [one for one in self.steps.values() if not (one.parent or one.undoes)]
        still = {one.state for one in self.steps.values()} - DONE
        if still:
            active = still - {"pending"}
            if self.state == "paused":
                return
            if active and active <= PARKED:
                self._move("waiting")
            elif self.state == "waiting" or "running" in active:
                self._move("running")
        elif self.state not in JOB_DONE:
            good = {one.state for one in own} == {"succeeded"}
            end = "cancelled" if self.cancelled else "succeeded" if good else "failed"
            if end != "succeeded" and self._to_undo():
                self._move("compensating")
                self._undo()
            else:
                self._move(end)

    # undoing

    def _undoing(self) -> bool:
        return self.state == "compensating" or (
            self.state == "paused" and any(one.undoes for one in self.steps.values())
        )

    def _to_undo(self) -> list[str]:
        """What was done and says how to undo it, the latest first."""
        found = [
            key
            for key, one in self.steps.items()
            if one.plan.undo
            and not (one.parent or one.undoes)
            and (one.state == "succeeded" or (one.state in {"failed", "cancelled"} and self._good(key)))
        ]
        order = list(self.steps)
        return sorted(found, key=lambda key: (self.steps[key].ended, order.index(key)), reverse=True)

    def _undo(self) -> None:
        while True:
            for one in self.steps.values():
                if one.undoes and not one.parent and not one.fanned_out and one.state == "pending":
                    one.state = "queued"
            for key, one in list(self.steps.items()):
                if one.undoes and one.fanned_out and one.state == "pending":
                    self._work_through(key, at_once=1)
            if any(one.state not in DONE for one in self.steps.values()):
                return
            undos = {one.undoes: one for one in self.steps.values() if one.undoes and not one.parent}
            undone = {target for target, one in undos.items() if one.state == "succeeded"}
            for target in undone:
                if self.steps[target].state == "succeeded":
                    self.steps[target].state = "compensated"
            left = [key for key in self._to_undo() if key not in undone]
            following = next((key for key in left if key not in undos), None)
            if following is None or any(one.stopped for one in self.steps.values()):
                doubtful = any(one.doubtful and one.plan.undo for one in self.steps.values())
                self._move("failed" if left or doubtful else "compensated")
                return
            self._undo_one(following)

    def _undo_one(self, target: str) -> None:
        key, plan = f"undo-{target}", self.steps[target].plan
        names = sorted(self._good(target), reverse=True) if plan.items else []
        one = Modelled(Plan(key, (), False, "allow", len(names)), key, "allow", undoes=target)
        self.steps[key] = one
        if names:
            one.fanned_out = True
            self._chunks(key, [f"undo-{name}" for name in names], False, "allow", undoes=target)

    def _paused(self) -> bool:
        return self.state == "paused" and (not self.cancelled or self._undoing())

    def _move(self, state: str) -> None:
        self.state = state
        self.started = self.started or state == "running"
