"""What a search comes to: evolve.rank tells the best and whether to go on, evolve.apply puts it into the work tree."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from agents.evolution import population
from agents.evolution.population import MINIMISE
from agents.evolution.shapes import DIRECTION, PLACE, SearchFailed, schema
from agents.models import Candidate, MapItem, Step
from tools.builtin.patching import Patch
from tools.labels import UNTRUSTED
from tools.spec import Box, Effect, Result, Tool


class Rank(Tool):
    """Tells how far the search is: the best so far, its diff to where it began, and whether to go on. It is over where
    the target is reached, where the last `patience` generations found nothing better, or where the model wrote nothing.

    Fails with `no_parents`, and with `no_candidates` where not one was written in the first generation.
    """

    name: ClassVar[str] = "evolve.rank"
    summary: ClassVar[str] = "The best candidate of a search so far, as a patch, and whether to go on."
    examples = ({"generation": 2, "target": 100, "patience": 2},)
    schema: ClassVar[dict[str, Any]] = schema(
        {
            "generation": {
                **PLACE["generation"],
                "minimum": 0,
                "description": "The last one; 0 for the newest there is.",
            },
            "direction": DIRECTION,
            "target": {"type": ["number", "null"], "description": "A score that is good enough."},
            "patience": {"type": "integer", "minimum": 1, "maximum": 50, "description": "2 if not told."},
        },
        "generation",
    )
    effect: ClassVar[Effect] = Effect.READ
    queue: ClassVar[str] = "shell"
    labels: ClassVar[tuple[str, ...]] = (UNTRUSTED,)

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return f"rank the candidates up to generation {arguments['generation'] or 'the newest'}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        job_id = Step.objects.values_list("job_id", flat=True).get(pk=box.call_id)
        direction = arguments.get("direction", MINIMISE)
        best_first = population.ranked(job_id, direction)
        origin = next((one for one in best_first if one.generation == 0), None)
        if origin is None or origin.score is None:
            raise SearchFailed("no_parents", "There is nothing to rank: evolve.begin comes first.")
        best = best_first[0]
        assert best.score is not None
        improved = population.better(best.score, origin.score, direction)
        newest = max(one.generation for one in best_first)
        generation = arguments["generation"] or newest
        target = arguments.get("target")
        reached = target is not None and (best.score == target or population.better(best.score, target, direction))
        stale = generation - best.generation >= arguments.get("patience", 2)
        written = Candidate.objects.filter(job_id=job_id, generation=generation).exists()
        if generation == 1 and not written:
            raise SearchFailed("no_candidates", f"No candidate could be written: {_why_none(job_id)}")
        counts = list(Candidate.objects.filter(job_id=job_id, generation__gt=0).values_list("viable", flat=True))
        words = f"{best.score:g}, from {origin.score:g}" if improved else f"nothing better than {origin.score:g}"
        words += "" if written else f"; no candidate could be written: {_why_none(job_id)}"
        return Result(
            ok=True,
            summary=f"After generation {generation}: {words}"[:300],
            data={
                "go_on": written and not reached and not stale,
                "improved": improved,
                "origin": origin.score,
                "best": best.score,
                "candidate": f"{best.generation}.{best.number}",
                "idea": best.idea,
                "tried": len(counts),
                "viable": sum(one is True for one in counts),
                "patch": population.patch(origin.files, best.files) if improved else "",
            },
            text=_table(best_first),
        )


class Apply(Patch):
    """The winner of a search goes into the work tree: files.patch with what was measured, for who approves it."""

    name: ClassVar[str] = "evolve.apply"
    summary: ClassVar[str] = "Applies the best candidate of a search to the workspace, where people approve it."
    schema: ClassVar[dict[str, Any]] = schema(
        {
            **Patch.schema["properties"],
            "origin": {"type": "number", "description": "The score of the files as they were."},
            "best": {"type": "number", "description": "The score of this patch."},
            "idea": {"type": "string", "maxLength": 1000},
        },
        "patch",
        "origin",
        "best",
    )
    labels: ClassVar[tuple[str, ...]] = ()
    examples = ({**Patch.examples[0], "origin": 1200, "best": 40, "idea": "Rounds once, at the end."},)

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return f"{super().describe(arguments)}: {arguments['origin']:g} becomes {arguments['best']:g}"


def _why_none(job_id: UUID) -> str:
    """What the last of the steps that asked the model failed of."""
    failed = MapItem.objects.filter(step__job_id=job_id, step__tool="evolve.propose").exclude(error="")
    return failed.order_by("-pk").values_list("error", flat=True).first() or "the model was not asked."


def _table(best_first: list[Candidate]) -> str:
    lines = [
        json.dumps({"candidate": f"{one.generation}.{one.number}", "score": one.score, "idea": one.idea[:120]})
        for one in best_first[:20]
    ]
    return "\n".join(lines)
