"""Did anything run without leave, and did all that had leave come to an end? Told from the log's records alone.

A step's records are linked by its id (the target) and by the digest of the exact call: proposed, decided, where people
were asked the request, its votes and its end, dispatched, and the outcome. What is checked, in the order of the log:

- what was dispatched was authorized before, for this very digest: by a policy that allowed it, or by a request about it
  that people approved, whose approval was not void by then;
- a permit serves one dispatch;
- a request was approved by votes (or by a grant, or by breaking the glass), and not before it was made;
- every dispatch has its outcome before the next one of the same step, and before its job is finished;
- what was allowed was dispatched, or its record says why not, before its job is finished;
- no outcome comes from nowhere.

Steps that are under way at the log's end are counted, and are findings only when they have been under way for long.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from audit.checking.findings import Report, Verdict
from audit.checking.records import parse_time
from audit.kinds import Event

BATCH = 5_000
OPEN_FOR = timedelta(days=2)  # longer than any step may run

# How an attempt that was dispatched may end.
OUTCOMES = frozenset(
    {
        Event.STEP_CONFIRMED,
        Event.STEP_FAILED,
        Event.STEP_REFUSED,
        Event.STEP_REQUEUED,
        Event.STEP_IN_DOUBT,
        Event.STEP_CANCELLED,
        Event.STEP_FELL_BACK,
        Event.PERMIT_REFUSED,
    }
)
# How a step that was allowed may end without having been dispatched (again).
SETTLED = OUTCOMES | {Event.STEP_SKIPPED, Event.STEP_EDITED, Event.STEP_EXPANDED, Event.STEP_COMPENSATED}
_EVENTS = sorted(
    SETTLED
    | {
        Event.JOB_SUBMITTED,
        Event.JOB_FINISHED,
        Event.STEP_PROPOSED,
        Event.STEP_DECIDED,
        Event.STEP_DISPATCHED,
        Event.STEP_ANSWERED,
        Event.STEP_LATE_RESULT,
        Event.APPROVAL_REQUESTED,
        Event.APPROVAL_VOTED,
        Event.APPROVAL_TAKEN_BACK,
        Event.APPROVAL_CLOSED,
        Event.GLASS_BROKEN,
        Event.GRANT_USED,
    }
)
_ROWS = """
SELECT l.index, e.id, e.body::json FROM audit_leaf l JOIN audit_event e ON e.id = l.event_id
  WHERE l.index >= %s AND l.index < %s AND e.event = ANY(%s) ORDER BY l.index
"""


@dataclass(slots=True)
class Counted:
    """What the check came to. under_way: dispatched without an outcome yet; waiting: allowed and not dispatched yet;
    unknown: dispatches of steps whose beginning was archived."""

    steps: int = 0
    dispatched: int = 0
    by_policy: int = 0
    by_people: int = 0
    outcomes: int = 0
    under_way: int = 0
    waiting: int = 0
    unknown: int = 0

    def as_json(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}

    def words(self) -> str:
        """One line for people."""
        said = (
            f"{self.dispatched:,} dispatches of {self.steps:,} steps: {self.by_policy:,} by leave of a policy, "
            f"{self.by_people:,} of people; {self.outcomes:,} came to an end, {self.under_way:,} are under way."
        )
        return said + (f" Of {self.unknown:,} the beginning was archived." if self.unknown else "")


@dataclass(slots=True)
class _Where:
    index: int
    record: UUID
    event: str

    def as_details(self) -> dict[str, Any]:
        return {"index": self.index, "record": self.record, "event": self.event}


@dataclass(slots=True)
class _Step:
    """What the log has said of a step so far. allowed: digests, by whom; dispatch: the one that has no outcome yet."""

    job: str
    begun: bool = False  # its proposal or a decision about it was seen
    allowed: dict[str, str] = field(default_factory=dict)
    leave: tuple[_Where, datetime] | None = None  # an authorization that nothing followed yet
    dispatch: tuple[_Where, datetime] | None = None
    ran: bool = False
    answered: bool = False  # people answered: a question has its outcome without a dispatch
    starts_job: bool = False
    expanded: bool = False


@dataclass(slots=True)
class _Request:
    step: str
    kind: str
    digest: str
    voters: set[str] = field(default_factory=set)
    otherwise: bool = False  # a grant was used, or the glass was broken


class Completeness:
    """Takes the records in the order of the log, then `end`. Findings go to the report.

    partial: the log's beginning was archived, so what begins in the middle proves nothing.
    """

    def __init__(self, report: Report, *, partial: bool = False) -> None:
        self.report = report
        self.partial = partial
        self.counted = Counted()
        self._steps: dict[str, _Step] = {}
        self._of_job: dict[str, set[str]] = {}
        self._requests: dict[str, _Request] = {}
        self._permits: dict[str, int] = {}
        self._granted: set[str] = set()  # steps for which a grant was used, or the glass was broken
        self._latest: datetime | None = None

    def take(self, index: int, record: UUID, facts: Mapping[str, Any]) -> None:
        """One record. Raises KeyError, TypeError, ValueError where its body is malformed (another check names it)."""
        event, target = str(facts["event"]), str(facts["target"]["id"])
        context: Mapping[str, Any] = facts.get("context") or {}
        where, at = _Where(index, record, event), parse_time(facts["ts"])
        self._latest = max(self._latest or at, at)
        if event.startswith("job."):
            self._job(event, target, where)
        elif event.startswith(("approval.", "glass.", "grant.")):
            self._approval(event, target, context, facts, where, at)
        elif event in _EVENTS:
            self._step(event, target, context, facts, where, at)

    def end(self) -> Counted:
        """Judges what is still open at the end of the log."""
        for step in self._steps.values():
            self._open(step)
        return self.counted

    def _step(
        self,
        event: str,
        target: str,
        context: Mapping[str, Any],
        facts: Mapping[str, Any],
        where: _Where,
        at: datetime,
    ) -> None:
        step = self._known(target, str(context.get("job", "")))
        step.starts_job = step.starts_job or str(context.get("tool", "")).startswith("job.")
        if event == Event.STEP_PROPOSED:
            step.begun = True
        elif event == Event.STEP_DECIDED:
            self._decided(step, context, facts["outcome"], where, at)
        elif event == Event.STEP_DISPATCHED:
            self._dispatched(step, context, where, at)
        elif event == Event.STEP_EXPANDED:
            step.expanded, step.leave = True, None
        elif event == Event.STEP_ANSWERED:
            step.answered = True
        elif event in SETTLED:
            self._ended(step, event, where)

    def _decided(self, step: _Step, context: Mapping[str, Any], outcome: str, where: _Where, at: datetime) -> None:
        step.allowed.clear()
        step.leave, step.begun = None, True
        if outcome == "allow":
            step.allowed[str(context["digest"])] = "policy"
            step.leave = (where, at)

    def _dispatched(self, step: _Step, context: Mapping[str, Any], where: _Where, at: datetime) -> None:
        self.counted.dispatched += 1
        by = step.allowed.get(str(context.get("digest")))
        if by is None and self.partial and not step.begun:
            self.counted.unknown += 1
        elif by is None:
            self.report.add(
                "unauthorized",
                "The step was dispatched, and nothing before it in the log gave leave to this exact call.",
                **where.as_details(),
            )
        elif by == "policy":
            self.counted.by_policy += 1
        else:
            self.counted.by_people += 1
        permit = str(context.get("permit", ""))
        earlier = self._permits.setdefault(permit, where.index) if permit else where.index
        if earlier != where.index:
            self.report.add(
                "permit_used_twice",
                f"The permit {permit} served the dispatch at index {earlier} already.",
                **where.as_details(),
            )
        self._unfinished(step, "before it was dispatched again")
        step.dispatch, step.leave, step.ran = (where, at), None, True

    def _ended(self, step: _Step, event: str, where: _Where) -> None:
        effect = event == Event.STEP_CONFIRMED
        known = step.begun or not self.partial
        if effect and known and not (step.ran or step.answered or step.expanded or step.starts_job):
            self.report.add(
                "outcome_from_nowhere",
                "The step has an effect, and the log holds no dispatch, answer or job of its own before it.",
                **where.as_details(),
            )
        self.counted.outcomes += step.dispatch is not None
        step.dispatch = step.leave = None

    def _approval(
        self,
        event: str,
        target: str,
        context: Mapping[str, Any],
        facts: Mapping[str, Any],
        where: _Where,
        at: datetime,
    ) -> None:
        if event == Event.APPROVAL_REQUESTED:
            subject = str(context.get("subject", ""))
            if subject.startswith("step:"):
                self._requests[target] = _Request(
                    subject.removeprefix("step:"),
                    str(context.get("kind")),
                    str(context.get("call") or context.get("digest")),
                )
            return
        if event == Event.GRANT_USED:
            step = str(context.get("step") or context.get("subject") or "").removeprefix("step:")
            self._granted.add(step)
            return
        request = self._requests.get(target if event != Event.GLASS_BROKEN else str(context.get("approval", target)))
        if request is None:
            if event == Event.APPROVAL_CLOSED and facts["outcome"] == "approved" and not self.partial:
                self.report.add(
                    "approval_from_nowhere",
                    "A request was approved that the log does not know.",
                    **where.as_details(),
                )
            return
        if event == Event.APPROVAL_VOTED and facts["outcome"] in {"approve", "answer"}:
            request.voters.add(str(facts["actor"]["id"]))
        elif event == Event.APPROVAL_TAKEN_BACK:
            request.voters.discard(str(facts["actor"]["id"]))
            self._known(request.step, "").allowed.pop(request.digest, None)
        elif event == Event.GLASS_BROKEN:
            request.otherwise = True
        elif event == Event.APPROVAL_CLOSED:
            self._closed(request, context, str(facts["outcome"]), where, at)

    def _closed(self, request: _Request, context: Mapping[str, Any], outcome: str, where: _Where, at: datetime) -> None:
        step = self._known(request.step, "")
        if outcome != "approved":
            if step.allowed.pop(request.digest, None) is not None:
                step.leave = None
            return
        needed = int(context.get("quorum") or 1)
        if len(request.voters) < needed and not (request.otherwise or request.step in self._granted):
            self.report.add(
                "approval_without_votes",
                f"The request was approved by {len(request.voters)} of the {needed} that it needs.",
                **where.as_details(),
            )
            return
        if request.kind == "question":
            step.answered = True
            return
        step.allowed[request.digest] = "people"
        step.leave = (where, at)

    def _job(self, event: str, job: str, where: _Where) -> None:
        if event != Event.JOB_FINISHED:
            return
        for target in self._of_job.pop(job, ()):
            step = self._steps.pop(target, None)
            if step is None:
                continue
            self._unfinished(step, "when its job was finished")
            if step.leave is not None:
                self.report.add(
                    "leave_without_outcome",
                    f"The step had leave to run when its job was finished at index {where.index}, and the log does "
                    "not say what became of it.",
                    **step.leave[0].as_details(),
                )

    def _unfinished(self, step: _Step, when: str) -> None:
        if step.dispatch is not None:
            self.report.add(
                "outcome_missing",
                f"The step was dispatched, and had no outcome {when}.",
                **step.dispatch[0].as_details(),
            )
            step.dispatch = None

    def _open(self, step: _Step) -> None:
        for found, name, code, words in (
            (step.dispatch, "under_way", "outcome_missing", "was dispatched long ago, and has no outcome yet"),
            (step.leave, "waiting", "leave_without_outcome", "had leave to run long ago, and was not dispatched yet"),
        ):
            if found is None:
                continue
            setattr(self.counted, name, getattr(self.counted, name) + 1)
            where, at = found
            if self._latest is not None and self._latest - at > OPEN_FOR:
                self.report.add(code, f"The step {words}.", level=Verdict.STALE, **where.as_details())

    def _known(self, target: str, job: str) -> _Step:
        step = self._steps.get(target)
        if step is None:
            step = self._steps[target] = _Step(job)
            self.counted.steps += 1
        if job:
            step.job = job
            self._of_job.setdefault(job, set()).add(target)
        return step


def check_completeness(report: Report, *, progress: Callable[[int, int], None] = lambda done, of: None) -> Counted:
    """Checks the records that `report` was made of, in a snapshot of its own. Call it after `audit.verify.verify`: a
    record that was changed may say anything.

    progress: is called with (records behind, records in all).
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SELECT EXISTS (SELECT FROM audit_partition WHERE archived_at IS NOT NULL)")
        (partial,) = cursor.fetchone()
        check = Completeness(report, partial=partial)
        for index, record, facts in _records(report.size):
            try:
                check.take(index, record, facts)
            except (KeyError, TypeError, ValueError, AttributeError):
                report.add("body_malformed", "The body lacks what every record has.", index=index, record=record)
            if index % BATCH == 0:
                progress(index, report.size)
        return check.end()


def _records(size: int) -> Iterator[tuple[int, UUID, Mapping[str, Any]]]:
    for start in range(0, size, BATCH):
        with connection.cursor() as cursor:
            cursor.execute(_ROWS, (start, min(start + BATCH, size), list(_EVENTS)))
            yield from cursor.fetchall()
