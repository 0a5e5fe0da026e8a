"""Who the parents of a candidate are, patches, and how a score is read."""

from uuid import uuid4

import pytest

from agents.evolution import picture, population
from agents.evolution.example import FILES
from agents.evolution.measure import _score
from agents.evolution.measuring import Begin
from agents.llm.scripted import searching
from agents.models import Candidate
from tools.builtin import unified
from tools.errors import InvalidArguments


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


def test_the_picture_of_a_search_leads_from_the_origin_to_the_best():
    origin = Candidate(generation=0, number=0, operator="origin", viable=True, score=1000.0)
    good = Candidate(generation=1, number=0, operator="mutate", parents=[origin.pk], viable=True, score=100.0)
    bad = Candidate(generation=1, number=1, operator="mutate", parents=[origin.pk], viable=False)
    best = Candidate(generation=2, number=0, operator="cross", parents=[good.pk, origin.pk], viable=True, score=10.0)
    found = picture.draw([origin, good, bad, best], "min")
    assert [dot.mark for dot in found.dots] == ["viable", "viable", "failed", "best"]
    assert [line.best for line in found.lines] == [True, False, True, True]
    high, middle, low = (dot.y for dot in (found.dots[0], found.dots[1], found.dots[3]))
    assert middle == pytest.approx((high + low) / 2)  # a factor of ten each
    assert found.dots[2].y > low
    assert [x for x, _ in found.generations] == ["16.67%", "50.00%", "83.33%"]
    assert picture.draw([], "max").dots == []
    assert picture.draw([origin], "max").dots[0].mark == "best"


@pytest.mark.parametrize("command", [["python3", "-B", "./slow.py"], ["./slow.py"], ["sh", "slow.py", "x"]])
def test_what_measures_is_not_among_what_may_change(command):
    with pytest.raises(InvalidArguments, match="any score"):
        Begin().check({"paths": ["slow.py"], "command": command})
    Begin().check({"paths": ["slow.py"], "command": ["python3", "fitness.py", "slow.py"]})
    Begin().check({"paths": ["slow.py"], "command": ["wc", "-c", "slow.py"]})


def test_the_stand_in_climbs_from_the_example_to_the_sieve():
    text = (FILES / "primes.py.txt").read_text()
    ideas = []
    for _ in range(5):
        answer = searching.candidate(f"<files>\nscore 1\n--- primes.py\n{text}\n</files>")
        assert answer["files"][0]["text"] != text
        text = answer["files"][0]["text"]
        namespace = {}
        exec(text, namespace)  # noqa: S102
        assert namespace["primes"](30) == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
        ideas.append(answer["idea"])
    assert len(set(ideas[:4])) == 4
