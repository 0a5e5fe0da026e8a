"""Who the parents of a candidate are, patches, and how a score is read."""

from uuid import uuid4

import pytest

from agents.evolution import population
from agents.evolution.measure import _score
from agents.models import Candidate
from tools.builtin import unified


def test_parents_are_the_same_whenever_they_are_asked_for():
    job = uuid4()
    best_first = [
        Candidate(job_id=job, generation=1, number=number, sha256=str(number), score=float(number))
        for number in range(6)
    ]
    for number in range(8):
        first, again = (population.brood(best_first, seed="x", generation=2, number=number) for _ in range(2))
        assert first == again
        assert first.operator == ("cross" if number % 2 else "mutate")
        assert len({one.sha256 for one in first.parents}) == len(first.parents) == 1 + number % 2
        assert all((one.score or 0) < 3 for one in first.parents)
    assert population.brood(best_first, seed="x", generation=2, number=0).parents == (best_first[0],)


def test_one_text_alone_is_only_mutated():
    job = uuid4()
    same = [Candidate(job_id=job, generation=0, number=number, sha256="x", score=1.0) for number in range(3)]
    made = population.brood(same, seed="x", generation=1, number=1)
    assert (made.operator, made.parents) == ("mutate", (same[0],))


@pytest.mark.parametrize("old", ["a\nb\nc\n", "a\nb\nc", "a\r\nb\r\n", "", "x\x0cy\n"])
@pytest.mark.parametrize("new", ["a\nB\nc\n", "a\nB", "one\u2028two\n", "a\r\nc\r\n"])
def test_a_patch_gives_exactly_the_new_text(old, new):
    (parsed,) = unified.parse(population.patch({"a.txt": old}, {"a.txt": new}))
    assert unified.apply(parsed, old.encode()).content == new.encode()


@pytest.mark.parametrize(
    ("printed", "score"),
    [
        ("ok\n12\n", 12.0),
        ('{"score": 1.5}\n\n', 1.5),
        ("-3e2", -300.0),
        ("12\ndone\n", None),
        ("", None),
        ("true", None),
        ("NaN", None),
        ("Infinity", None),
        ('{"other": 1}', None),
        ("[" * 100_000, None),
        ("1" + "0" * 400, None),
    ],
)
def test_the_last_line_is_the_score(printed, score):
    assert _score(printed) == score
