"""The candidates of a search: which are the best, from which the next ones are made, and what they change."""

import difflib
import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from agents.models import Candidate
from audit.canonical import canonical_json

MINIMISE, MAXIMISE = "min", "max"
ROUND = 2  # candidates that meet for the place of a parent
TOLD = 12  # earlier candidates that the model is told of


@dataclass(frozen=True, slots=True, kw_only=True)
class Brood:
    """How the next candidate is made, and of whom: one parent for a mutation, two for a crossing."""

    operator: str
    parents: tuple[Candidate, ...]


def ranked(job_id: UUID, direction: str, *, before: int | None = None) -> list[Candidate]:
    """Those that work, best first; of those that are equal the earlier. before: only of earlier generations."""
    found = Candidate.objects.filter(job_id=job_id, viable=True, score__isnull=False)
    if before is not None:
        found = found.filter(generation__lt=before)
    sign = 1 if direction == MINIMISE else -1
    return sorted(found, key=lambda one: (sign * (one.score or 0.0), one.generation, one.number))


def brood(best_first: Sequence[Candidate], *, seed: str, generation: int, number: int) -> Brood:
    """The same for the same seed and place in the search, so that a step that runs again asks the same.

    The first of a generation mutates the best. The others are crossed and mutated in turn; their parents are found by
    rounds among the better half, each of another text.
    """
    different = list({one.sha256: one for one in reversed(best_first)}.values())[::-1]
    better = different[: max(2, math.ceil(len(different) / 2))]
    if number == 0 or len(better) < 2:
        return Brood(operator=Candidate.Operator.MUTATE, parents=(different[0],))
    chance = random.Random(f"{seed}:{generation}:{number}")
    first = _winner(better, chance)
    if number % 2 == 0:
        return Brood(operator=Candidate.Operator.MUTATE, parents=(first,))
    second = _winner([one for one in better if one.pk != first.pk], chance)
    return Brood(operator=Candidate.Operator.CROSS, parents=(first, second))


def told(job_id: UUID, *, before: int) -> str:
    """What was tried in earlier generations and what came of it, for the model."""
    rows = Candidate.objects.filter(job_id=job_id, generation__lt=before, generation__gt=0, viable__isnull=False)
    lines = [
        f"- {one.idea or 'no idea told'}: {_came_of(one)}" for one in rows.order_by("-generation", "number")[:TOLD]
    ]
    return "\n".join(lines) or "(nothing yet)"


def digest(files: Mapping[str, str]) -> str:
    return hashlib.sha256(canonical_json(dict(files))).hexdigest()


def patch(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """A unified diff from one set of files to the other; "" where they are the same."""
    made = []
    for path in sorted(before):
        old, new = _lines(before[path]), _lines(after[path])
        for line in difflib.unified_diff(old, new, f"a/{path}", f"b/{path}", n=3):
            made.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    return "".join(made)


def better(score: float, than: float, direction: str) -> bool:
    return score < than if direction == MINIMISE else score > than


def _winner(field: Sequence[Candidate], chance: random.Random) -> Candidate:
    """`field` is in order: the first of those that are drawn wins."""
    return field[min(chance.randrange(len(field)) for _ in range(ROUND))]


def _came_of(one: Candidate) -> str:
    return f"score {one.score:g}" if one.viable and one.score is not None else "it failed"


def _lines(text: str) -> list[str]:
    """By newlines alone, as patches count them, each with its own."""
    whole, _, rest = text.rpartition("\n")
    lines = [f"{line}\n" for line in whole.split("\n")] if "\n" in text else []
    return [*lines, rest] if rest else lines
