"""evolve.propose: the model writes a candidate."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from django.utils import timezone

from agents.errors import AgentsError
from agents.evolution import population
from agents.evolution.population import MINIMISE, Brood
from agents.evolution.shapes import DIRECTION, FILE_MAX_BYTES, PLACE, schema
from agents.llm.asking import ModelTool, used
from agents.llm.complete import answered
from agents.llm.gateway import Asking, ThinkFailed
from agents.models import Candidate
from agents.prompts.render import filled_in, messages
from agents.prompts.use import noted
from agents.prompts.versions import chosen
from tools.labels import UNTRUSTED
from tools.spec import Box, Result

_OTHERS = "Others are asked the same at the same time, and you are number {}: take another idea than the first that comes to mind."


class Propose(ModelTool):
    """Has the model write a candidate: a mutation of one that is good, or two of them crossed. Who the parents are
    follows from what earlier generations were measured at; the prompts are `evolve-mutate` and `evolve-cross`.

    Fails with the codes of `llm.complete`, `bad_prompt` and `no_parents`.
    """

    name: ClassVar[str] = "evolve.propose"
    summary: ClassVar[str] = "Asks the model for a candidate of a search: one that is good changed, or two joined."
    examples = ({"generation": 1, "number": 0, "goal": "Make it faster; its tests must pass."},)
    schema: ClassVar[dict[str, Any]] = schema(
        {
            **PLACE,
            "goal": {
                "type": "string",
                "minLength": 1,
                "maxLength": 8000,
                "description": "What better means, in words.",
            },
            "direction": DIRECTION,
            "seed": {
                "type": ["string", "null"],
                "maxLength": 80,
                "description": "Of the dice that draw parents; the job's own if not told.",
            },
        },
        "generation",
        "number",
        "goal",
    )
    labels: ClassVar[tuple[str, ...]] = (UNTRUSTED,)
    harmless: ClassVar[str] = "nothing that it writes runs or is kept by this"

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return f"ask the model for candidate {arguments['generation']}.{arguments['number']}: {arguments['goal']}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        """Raises ThinkFailed."""
        asking = self.question(box)
        job, step = asking.job, asking.step
        generation, number = arguments["generation"], arguments["number"]
        best_first = population.ranked(job.pk, arguments.get("direction", MINIMISE), before=generation)
        if not best_first:
            raise ThinkFailed("no_parents", "There is nothing to start from: evolve.begin comes first.")
        seed = arguments.get("seed") or str(job.pk)
        brood = population.brood(best_first, seed=seed, generation=generation, number=number)
        value, data = _asked(asking, brood, arguments)
        files = {**brood.parents[0].files, **{one["path"]: one["text"] for one in value["files"]}}
        made, _ = Candidate.objects.update_or_create(
            job=job,
            generation=generation,
            number=number,
            defaults={
                "operator": brood.operator,
                "parents": [one.pk for one in brood.parents],
                "idea": value["idea"][:1000],
                "files": files,
                "sha256": population.digest(files),
                "proposed_by": step,
                "measured_by": None,
                "viable": None,
                "score": None,
                "output": "",
                "at": timezone.now(),
            },
        )
        return Result(
            ok=True,
            summary=f"Candidate {generation}.{number} ({brood.operator}): {made.idea}"[:300],
            data={"candidate": str(made.pk), "operator": str(brood.operator), "idea": made.idea, **data},
            text=population.patch(brood.parents[0].files, files) or "No change.",
        )


def _asked(asking: Asking, brood: Brood, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's answer, and what the result says of how it came. Raises ThinkFailed."""
    first = brood.parents[0]
    crossed = brood.operator == Candidate.Operator.CROSS
    inputs = {
        "goal": arguments["goal"],
        "direction": "lower" if arguments.get("direction", MINIMISE) == MINIMISE else "higher",
        "files": _shown(first),
        "tried": population.told(asking.job.pk, before=arguments["generation"]),
        "place": _OTHERS.format(arguments["number"] + 1) if arguments["number"] else "",
        **({"other": _shown(brood.parents[1])} if crossed else {"output": first.output or "(nothing)"}),
    }
    try:
        version = chosen("evolve-cross" if crossed else "evolve-mutate", None, key=str(asking.job.pk))
        known = version.definition.get("variables") or {}  # a prompt of people's own need not have all of them
        values = filled_in(version.definition, {name: one for name, one in inputs.items() if name in known})
    except AgentsError as error:
        raise ThinkFailed("bad_prompt", error.message) from None
    prompt = noted(asking.step, version, now=timezone.now())
    asking = replace(asking, schema=version.definition["answer"])
    answer, value, spent = answered(
        asking, messages(version.definition, values), asking.schema, lambda given: _wrong(given, first)
    )
    assert value is not None  # there is a schema
    return value, {"prompt": prompt, **used(answer, spent)}


def _wrong(given: Mapping[str, Any], parent: Candidate) -> str:
    """What is wrong with an answer that has the right shape, in words for the model."""
    for one in given["files"]:
        if one["path"] not in parent.files:
            return f"There is no file {one['path'][:200]!r} to change: there are {', '.join(sorted(parent.files))}."
        if len(one["text"].encode()) > FILE_MAX_BYTES:
            return f"{one['path']} is larger than {FILE_MAX_BYTES} bytes."
    changed = {**parent.files, **{one["path"]: one["text"] for one in given["files"]}}
    return "" if changed != parent.files else "Nothing is changed: write a file that differs."


def _shown(one: Candidate) -> str:
    files = "\n".join(f"--- {path}\n{text}" for path, text in sorted(one.files.items()))
    return f"score {one.score:g}\n{files}"
