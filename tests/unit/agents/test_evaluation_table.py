"""The numbers of an evaluation, against values that are known, and the suite's checks."""

from dataclasses import dataclass
from decimal import Decimal
from xml.etree import ElementTree

import pytest

from agents.errors import InvalidPrompt
from agents.evaluation import picture, suite, table


@dataclass
class Tried:
    case: str
    arm: str
    ok: bool | None
    why: str = ""
    repeat: int = 1
    tokens: int = 100
    cost: Decimal = Decimal("0.01")
    latency_ms: int = 1000


def test_intervals_and_the_exact_test_are_those_of_the_books():
    low, high = table.interval(8, 10)  # Wilson: 0.4902 to 0.9433
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)
    assert table.interval(0, 0) == (0.0, 1.0)
    assert round(table.mcnemar(1, 8), 4) == 0.0391  # 2 * (1 + 9) / 2^9
    assert table.mcnemar(3, 3) == 1.0
    assert table.mcnemar(0, 0) == 1.0


def test_arms_are_compared_on_the_trials_that_both_have_ended():
    trials = [Tried(f"c{number}", "a", number < 2) for number in range(10)]
    trials += [Tried(f"c{number}", "b", True) for number in range(9)] + [Tried("c9", "b", None)]
    first, second = table.lines(trials, ["a", "b"])
    assert (first.passed, first.judged, second.passed, second.judged, second.waiting) == (2, 10, 9, 9, 1)
    (found,) = table.differences(trials, ["a", "b"])
    assert (found.both, found.only_first, found.only_second, found.neither) == (2, 0, 7, 0)
    assert found.words == "b passed 7 more than a (p = 0.016)."
    few = [Tried("c", "a", False), Tried("c", "b", True)]
    assert "may be chance" in table.differences(few, ["a", "b"])[0].words
    said = table.text([first, second])
    assert "9/9 +1" in said
    assert "20%" in said


def test_bounds_hold_for_all_but_the_first_and_nothing_judged_holds_none():
    trials = [Tried("c", "a", False), Tried("c", "b", True, cost=Decimal("0.5"), latency_ms=3000)]
    assert table.Bounds(success=1.0, no_worse=True, tokens=100).missed(trials, ["a", "b"]) == []
    assert table.Bounds(success=0.5).missed(trials[:1], ["a"]) == ["a passed 0.0%, less than 50.0%."]
    missed = table.Bounds(cost=Decimal("0.1"), tokens=99, latency_ms=2500.0).missed(trials, ["a", "b"])
    assert [one.split()[1] for one in missed] == ["cost", "took", "took"]
    assert table.Bounds(no_worse=True).missed(trials, ["b", "a"]) == ["a passed 1 fewer than b."]
    dropped = [Tried("c", "a", None, why="It was cancelled.")]
    assert table.Bounds(cost=Decimal(1)).missed(dropped, ["a"]) == ["a: nothing was judged."]
    (line,) = table.lines(dropped, ["a"])
    assert (line.waiting, line.dropped) == (0, 1)


def test_the_picture_is_svg_with_a_bar_an_arm():
    made = picture.svg(table.lines([Tried("c", "<a>", True), Tried("c", "b", False)], ["<a>", "b"]), title="A & B")
    root = ElementTree.fromstring(made)
    bars = [one.get("width") for one in root.iter("{http://www.w3.org/2000/svg}rect") if one.get("class") == "bar"]
    assert bars == ["100.00%", "0.00%"]


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("{name: a}", "A case has inputs, for prompts, or a goal, for agents"),
        ("{name: a, inputs: {}, goal: x, expect: ['true']}", "A case has inputs"),
        ("{name: a, inputs: {}}", "Say what is expected"),
        ("{name: a, inputs: {}, check: [x]}", "Only a goal has a check"),
        ("{name: a, inputs: {x: '${{ 1 }}'}, expect: ['true']}", "Expressions"),
        ("{name: a, goal: x, expect: ['nobody']}", "Unknown name 'nobody'"),
    ],
)
def test_what_is_wrong_with_a_suite_is_told(case, said):
    with pytest.raises(InvalidPrompt) as refused:
        suite.read(f"name: s\ncases:\n  - {case}\n")
    assert said in refused.value.message
