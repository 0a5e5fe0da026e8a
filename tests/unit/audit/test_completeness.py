"""Completeness: what ran had leave, what had leave came to an end; told from the order of records."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from audit.checking.completeness import Completeness, Counted
from audit.checking.findings import Report, Verdict

BEGAN = datetime(2030, 1, 1, tzinfo=UTC)
Line = tuple[str, str, str, dict[str, Any]]

PROPOSED: Line = ("step.proposed", "s1", "ok", {"job": "j", "tool": "git.push"})
ALLOWED: Line = ("step.decided", "s1", "allow", {"job": "j", "tool": "git.push", "digest": "d"})
ASKED: Line = ("step.decided", "s1", "ask", {"job": "j", "tool": "git.push", "digest": "d0"})
REQUESTED: Line = ("approval.requested", "r1", "ok", {"subject": "step:s1", "kind": "approval", "digest": "d"})
VOTED: Line = ("approval.voted", "r1", "approve", {"by": "7"})
APPROVED: Line = ("approval.closed", "r1", "approved", {"quorum": 1})
VOID: Line = ("approval.closed", "r1", "void", {})
CONFIRMED: Line = ("step.confirmed", "s1", "ok", {"job": "j"})
FINISHED: Line = ("job.finished", "j", "succeeded", {})


def dispatched(permit: str = "p1", digest: str = "d") -> Line:
    return ("step.dispatched", "s1", "ok", {"job": "j", "permit": permit, "digest": digest})


def check(lines: Iterable[Line], *, later: timedelta = timedelta()) -> tuple[Report, Counted]:
    report = Report()
    found = Completeness(report)
    for index, (event, target, outcome, context) in enumerate(lines):
        at = BEGAN + timedelta(seconds=index)
        found.take(index, uuid4(), body(event, target, outcome, context, at))
    if later:
        found.take(99, uuid4(), body("job.submitted", "other", "ok", {}, BEGAN + later))
    return report, found.end()


def body(event: str, target: str, outcome: str, context: dict[str, Any], at: datetime) -> dict[str, Any]:
    return {
        "ts": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "event": event,
        "target": {"type": "x", "id": target},
        "actor": {"type": "user", "id": context.get("by", "1"), "on_behalf_of": None},
        "outcome": outcome,
        "context": context,
    }


def codes(*lines: Line) -> list[str]:
    return [finding.code for finding in check(lines)[0].findings]


WHOLE = {
    "allowed by policy": (PROPOSED, ALLOWED, dispatched(), CONFIRMED, FINISHED),
    "approved by people": (PROPOSED, ASKED, REQUESTED, VOTED, APPROVED, dispatched(), CONFIRMED, FINISHED),
    "lost and run again": (
        *(PROPOSED, ALLOWED, dispatched(), ("step.requeued", "s1", "lost", {"job": "j"})),
        *(dispatched("p2"), CONFIRMED, FINISHED),
    ),
    "in doubt, then known": (
        *(PROPOSED, ALLOWED, dispatched(), ("step.in_doubt", "s1", "ok", {"job": "j"})),
        *(("step.answered", "s1", "happened", {"job": "j"}), CONFIRMED, FINISHED),
    ),
    "void, and asked again": (
        *(PROPOSED, ASKED, REQUESTED, VOTED, APPROVED, ("permit.refused", "s1", "mismatch", {"job": "j"}), VOID),
        *(ASKED, ("approval.requested", "r2", "ok", {"subject": "step:s1", "kind": "approval", "digest": "d2"})),
        *(("approval.voted", "r2", "approve", {}), ("approval.closed", "r2", "approved", {})),
        *(dispatched("p2", "d2"), CONFIRMED, FINISHED),
    ),
    "a question": (
        *(PROPOSED, ALLOWED, ("approval.requested", "r1", "ok", {"subject": "step:s1", "kind": "question"})),
        *(("approval.voted", "r1", "answer", {}), APPROVED, CONFIRMED, FINISHED),
    ),
    "a job of its own": (
        ("step.decided", "s1", "allow", {"job": "j", "tool": "job.delegate", "digest": "d"}),
        *(CONFIRMED, FINISHED),
    ),
    "allowed, then cancelled": (PROPOSED, ALLOWED, ("step.cancelled", "s1", "ok", {"job": "j"}), FINISHED),
    "refused": (PROPOSED, ("step.decided", "s1", "deny", {"job": "j"}), ("step.refused", "s1", "denied", {}), FINISHED),
}

WRONG = {
    "unauthorized": {
        "nothing before it": (PROPOSED, dispatched(), CONFIRMED),
        "denied": (PROPOSED, ("step.decided", "s1", "deny", {"job": "j", "digest": "d"}), dispatched(), CONFIRMED),
        "asked and not answered": (PROPOSED, ASKED, REQUESTED, dispatched(), CONFIRMED),
        "leave for another call": (PROPOSED, ALLOWED, dispatched(digest="other"), CONFIRMED),
        "leave that came after": (PROPOSED, dispatched(), ALLOWED),
        "void": (PROPOSED, ASKED, REQUESTED, VOTED, APPROVED, VOID, dispatched(), CONFIRMED),
        "taken back": (
            *(PROPOSED, ASKED, REQUESTED, VOTED, APPROVED, ("approval.taken_back", "r1", "ok", {"by": "7"})),
            *(dispatched(), CONFIRMED),
        ),
        "decided anew since": (PROPOSED, ALLOWED, ASKED, dispatched(), CONFIRMED),
        "another step's leave": (
            ("step.decided", "s2", "allow", {"job": "j", "digest": "d"}),
            *(dispatched(), CONFIRMED),
        ),
    },
    "permit_used_twice": {
        "in one step": (
            *(PROPOSED, ALLOWED, dispatched(), ("step.requeued", "s1", "lost", {"job": "j"})),
            *(dispatched(), CONFIRMED),
        ),
    },
    "approval_without_votes": {
        "none": (PROPOSED, ASKED, REQUESTED, APPROVED),
        "one person twice": (
            *(PROPOSED, ASKED, REQUESTED, VOTED, VOTED, ("approval.closed", "r1", "approved", {"quorum": 2})),
        ),
    },
    "approval_from_nowhere": {"no request": (VOTED, APPROVED)},
    "outcome_missing": {
        "job finished": (PROPOSED, ALLOWED, dispatched(), FINISHED),
        "dispatched again": (PROPOSED, ALLOWED, dispatched(), dispatched("p2"), CONFIRMED),
    },
    "leave_without_outcome": {"job finished": (PROPOSED, ALLOWED, FINISHED)},
    "outcome_from_nowhere": {"no dispatch": (PROPOSED, ALLOWED, CONFIRMED)},
}


@pytest.mark.parametrize("lines", WHOLE.values(), ids=WHOLE)
def test_what_is_complete_has_no_finding(lines):
    assert codes(*lines) == []


@pytest.mark.parametrize(
    ("code", "lines"),
    [(code, lines) for code, cases in WRONG.items() for lines in cases.values()],
    ids=[f"{code}-{name}" for code, cases in WRONG.items() for name in cases],
)
def test_what_is_not_is_named(code, lines):
    assert set(codes(*lines)) == {code}


def test_a_grant_and_the_broken_glass_stand_for_votes():
    glass = ("glass.broken", "r1", "ok", {})
    grant = ("grant.used", "g1", "ok", {"step": "s1"})
    for instead in (glass, grant):
        assert codes(PROPOSED, ASKED, REQUESTED, instead, APPROVED, dispatched(), CONFIRMED, FINISHED) == []


def test_what_is_under_way_is_counted_and_a_finding_only_after_long():
    report, counted = check([PROPOSED, ALLOWED, dispatched()])
    assert (report.findings, counted.under_way, counted.waiting) == ([], 1, 0)
    report, counted = check([PROPOSED, ALLOWED])
    assert (report.findings, counted.under_way, counted.waiting) == ([], 0, 1)
    report, _ = check([PROPOSED, ALLOWED, dispatched()], later=timedelta(days=3))
    assert [(finding.code, finding.level) for finding in report.findings] == [("outcome_missing", Verdict.STALE)]


def test_where_the_beginning_was_archived_what_begins_in_the_middle_proves_nothing():
    report = Report()
    found = Completeness(report, partial=True)
    lines = (dispatched(), CONFIRMED, APPROVED, ("step.dispatched", "s2", "ok", {"job": "k", "digest": "d"}))
    for index, (event, target, outcome, context) in enumerate(lines):
        found.take(index, uuid4(), body(event, target, outcome, context, BEGAN))
    assert report.findings == []
    assert found.end().unknown == 2
    seen = Completeness(report, partial=True)
    for index, (event, target, outcome, context) in enumerate((PROPOSED, dispatched())):
        seen.take(index, uuid4(), body(event, target, outcome, context, BEGAN))
    assert [finding.code for finding in report.findings] == ["unauthorized"]


def test_what_it_counts():
    _, counted = check(WHOLE["approved by people"])
    assert (counted.steps, counted.dispatched, counted.by_people, counted.by_policy, counted.outcomes) == (
        1,
        1,
        1,
        0,
        1,
    )
