"""The picture of a workflow: every line leads from a step to the one that needs it, and through no other."""

import random
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from agents.web.dag import NODE_HEIGHT, NODE_WIDTH, Edge, Picture, draw


def graph(seed: int) -> list[dict[str, object]]:
    chance = random.Random(seed)
    steps: list[dict[str, object]] = []
    for number in range(chance.randint(2, 30)):
        needs = chance.sample([f"s{one}" for one in range(number)], min(number, chance.randint(0, 3)))
        steps.append({"key": f"s{number}", "tool": "files.read", "needs": needs})
    return steps


def points(path: str) -> Iterator[tuple[float, float]]:
    """Along the line, close to each other."""
    x = y = 0.0
    for letter, numbers in re.findall(r"([MCV])([-\d. ]+)", path):
        given = [float(one) for one in numbers.split()]
        if letter == "M":
            x, y = given
        elif letter == "V":
            yield from ((x, y + (given[0] - y) * part / 50) for part in range(51))
            y = given[0]
        else:
            ends = [(x, y), (given[0], given[1]), (given[2], given[3]), (given[4], given[5])]
            for part in range(51):
                t = part / 50
                weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
                yield (
                    sum(w * p[0] for w, p in zip(weights, ends, strict=True)),
                    sum(w * p[1] for w, p in zip(weights, ends, strict=True)),
                )
            x, y = ends[-1]


def crossed(picture: Picture) -> list[str]:
    return [
        node.key
        for edge in picture.edges
        for x, y in points(edge.path)
        for node in picture.nodes
        if node.x < x < node.x + NODE_WIDTH and node.y < y < node.y + NODE_HEIGHT
    ]


@pytest.mark.parametrize("across", [2, 300])
@pytest.mark.parametrize("seed", range(8))
def test_no_line_passes_through_a_step(seed, across):
    steps = graph(seed)
    picture = draw({"steps": steps}, {}, across=across)
    assert picture is not None
    assert len(picture.edges) == sum(len(one["needs"]) for one in steps)  # type: ignore[arg-type]
    assert crossed(picture) == []
    assert all(0 <= x <= picture.width for edge in picture.edges for x, _ in points(edge.path))


def test_a_line_straight_through_a_step_would_be_found():
    needs: dict[str, list[str]] = {"a": [], "b": ["a"], "c": ["a", "b"]}
    picture = draw({"steps": [{"key": key, "tool": "files.read", "needs": of} for key, of in needs.items()]}, {})
    assert picture is not None
    a, _, c = picture.nodes
    straight = Edge(path=f"M{a.middle} {a.y + NODE_HEIGHT}V{c.y}", loose=False)
    assert set(crossed(replace(picture, edges=(straight,)))) == {"b"}
