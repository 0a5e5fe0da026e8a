"""The picture of a job: what is drawn where."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agents.models import Attempt, Job, Step
from agents.web.steps import spans_of
from agents.web.timeline import Axis, Span, bars
from approvals.models import ApprovalRequest

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def step(state: str, ready: float | None = 0, ended: float | None = None) -> Step:
    return Step(
        job=Job(),
        key="a",
        tool="test.note",
        queue="shell",
        state=state,
        ready_at=None if ready is None else at(ready),
        finished_at=None if ended is None else at(ended),
    )


def attempt(number: int, start: float, end: float | None) -> Attempt:
    return Attempt(number=number, worker="w", claimed_at=at(start), ended_at=None if end is None else at(end))


def request(state: str, asked: float, decided: float | None) -> ApprovalRequest:
    return ApprovalRequest(state=state, created_at=at(asked), decided_at=None if decided is None else at(decided))


def drawn(spans: list[Span]) -> list[tuple[str, float, float]]:
    return [(one.kind, (one.start - T0).total_seconds(), (one.end - T0).total_seconds()) for one in spans]


@given(st.lists(st.floats(0, 1e7), min_size=1, max_size=40))
def test_the_axis_keeps_the_order_of_times_and_stays_within_the_width(seconds):
    times = [at(one) for one in seconds]
    axis = Axis(times)
    places = [axis.x(one) for one in sorted(times)]
    assert all(0 <= place <= 100.0001 for place in places)
    assert all(a <= b for a, b in pairwise(places))


def test_a_short_step_beside_a_long_wait_can_be_seen():
    axis = Axis([at(0), at(2), at(3_602)])
    assert axis.x(at(2)) > 4
    assert axis.x(at(1_800)) < axis.x(at(3_602)) == 100


def test_room_is_kept_for_steps_that_have_not_begun():
    assert Axis([at(0), at(9)], future=True).x(at(9)) == Axis([at(0), at(9)], future=True).end < 95


def test_ticks_say_the_real_time():
    labels = [tick.label for tick in Axis([at(0), at(1), at(3_601)]).ticks()]
    assert labels[0] == "0 s"
    assert labels[-1] == "1 h"
    assert Axis([at(0)]).ticks() == []


def test_the_times_in_queue_waiting_and_running_do_not_overlap():
    one = step("succeeded", 0, 20)
    spans = spans_of(one, [attempt(1, 12, 20)], [request("approved", 1, 10)], at(99))
    assert sorted(drawn(spans), key=lambda span: span[1]) == [
        ("queue", 0, 1),
        ("wait", 1, 10),
        ("queue", 10, 12),
        ("good", 12, 20),
    ]


def test_what_is_not_over_is_drawn_until_now():
    assert drawn(spans_of(step("running"), [attempt(1, 2, None)], [], at(9))) == [("run", 2, 9), ("queue", 0, 2)]
    assert drawn(spans_of(step("waiting_approval"), [], [request("pending", 1, None)], at(9))) == [
        ("wait", 1, 9),
        ("queue", 0, 1),
    ]


def test_a_lost_attempt_shows_as_failed_and_the_next_one_by_the_step():
    spans = spans_of(step("succeeded", 0, 9), [attempt(1, 1, 3), attempt(2, 5, 9)], [], at(99))
    assert [kind for kind, *_ in drawn(spans)] == ["failed", "good", "queue", "queue"]


def test_a_planned_step_has_no_bar_and_a_refused_one_has_a_mark():
    assert spans_of(step("pending", ready=None), [], [], at(9)) == []
    assert drawn(spans_of(step("skipped", ready=None, ended=4), [], [], at(9))) == [("mark", 4, 4)]


def test_bars_are_percentages():
    (bar,) = bars(Axis([at(0), at(4)]), [Span("run", at(0), at(4), "t")])
    assert (bar.x, bar.width) == ("0.00%", "100.00%")
