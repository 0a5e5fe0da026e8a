"""The tools of a search: evolve.begin, evolve.propose, evolve.measure, evolve.rank, evolve.apply."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from django.utils import timezone

from agents.errors import AgentsError
from agents.evolution import population
from agents.evolution.measure import Measured, measure
from agents.evolution.population import MINIMISE, Brood
from agents.evolution.shapes import DIRECTION, FILE_MAX_BYTES, FILES_MAX, PLACE, TIMEOUT_S, TRIAL, schema
from agents.llm.asking import ModelTool, used
from agents.llm.complete import answered
from agents.llm.gateway import Asking, ThinkFailed
from agents.models import Candidate, PromptUse, Step
from agents.prompts.render import filled_in, messages
from agents.prompts.versions import chosen
from tools.builtin import commands
from tools.builtin.beneath import Beneath, NotThere
from tools.builtin.files import check_file_path
from tools.builtin.patching import Patch
from tools.errors import InvalidArguments, ToolFailed
from tools.labels import UNTRUSTED
from tools.risk.programs import command_of
from tools.spec import Box, Effect, Limits, Result, RiskScore, Tool

_PATHS: dict[str, Any] = {
    "type": "array",
    "items": {"type": "string", "minLength": 1, "maxLength": 1024},
    "minItems": 1,
    "maxItems": FILES_MAX,
    "uniqueItems": True,
    "description": "The files that are to become better; nothing else is changed.",
}
_EXAMPLE = {"command": ["python3", "fitness.py"], "runs": 3}


class _Measures(Tool):
    """The command runs in the sandbox, without network, on a copy of the work tree that is gone afterwards."""

    effect: ClassVar[Effect] = Effect.REPEATABLE
    queue: ClassVar[str] = "shell"
    limits: ClassVar[Limits] = Limits(timeout_s=1800.0)
    labels: ClassVar[tuple[str, ...]] = (UNTRUSTED,)

    def check(self, arguments: Mapping[str, Any]) -> None:
        """The command is words without NUL characters."""
        if any("\0" in word for word in arguments["command"]) or not arguments["command"][0].strip():
            raise InvalidArguments("The command is a list of words.", field="arguments.command")

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        """That of its command."""
        return commands.scored(command_of("shell.exec", {"argv": arguments["command"]}))

    def _tried(self, arguments: Mapping[str, Any], files: Mapping[str, str], box: Box) -> Measured:
        return measure(
            box,
            files,
            arguments["command"],
            runs=arguments.get("runs", 1),
            timeout_s=float(arguments.get("timeout_s", TIMEOUT_S)),
            place=box.call_id,
        )


class Begin(_Measures):
    """Reads the files and measures them as they are: they are generation 0, and what is better than they is progress.

    Fails with `origin_fails` where the command gives no score for them.
    """

    name: ClassVar[str] = "evolve.begin"
    summary: ClassVar[str] = "Begins a search for better files: measures them as they are."
    examples = ({"paths": ["slow.py"], **_EXAMPLE},)
    schema: ClassVar[dict[str, Any]] = schema({"paths": _PATHS, **TRIAL}, "paths", "command")

    def check(self, arguments: Mapping[str, Any]) -> None:
        """The paths stay in the work tree, and the command is words without NUL characters."""
        super().check(arguments)
        for path in arguments["paths"]:
            check_file_path(path)

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return f"measure {', '.join(arguments['paths'])} by: {' '.join(arguments['command'])}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        step = Step.objects.get(pk=box.call_id)
        files = _read(box, arguments["paths"])
        found = self._tried(arguments, files, box)
        if found.score is None:
            raise _Failed(
                "origin_fails", f"The command gives no score for the files as they are: {found.output[-500:]}"
            )
        Candidate.objects.update_or_create(
            job_id=step.job_id,
            generation=0,
            number=0,
            defaults={
                "operator": Candidate.Operator.ORIGIN,
                "files": files,
                "sha256": population.digest(files),
                "proposed_by": step,
                "measured_by": step,
                "viable": True,
                "score": found.score,
                "output": found.output,
                "at": timezone.now(),
            },
        )
        return Result(ok=True, summary=f"As it is: {found.score:g}", data={"score": found.score}, text=found.output)


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
        brood = population.brood(best_first, job_id=job.pk, generation=generation, number=number)
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


class Measure(_Measures):
    """Tries a candidate. One whose files were measured before gets that score; one that fails is no failure of the
    step: it is not viable."""

    name: ClassVar[str] = "evolve.measure"
    summary: ClassVar[str] = "Measures a candidate of a search by a command in the sandbox."
    examples = ({"generation": 1, "number": 0, **_EXAMPLE},)
    schema: ClassVar[dict[str, Any]] = schema({**PLACE, **TRIAL}, "generation", "number", "command")

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return f"measure candidate {arguments['generation']}.{arguments['number']} by: {' '.join(arguments['command'])}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        step = Step.objects.get(pk=box.call_id)
        place = {"generation": arguments["generation"], "number": arguments["number"]}
        one = Candidate.objects.filter(job_id=step.job_id, **place).first()
        if one is None:
            return Result(ok=True, summary="There is no such candidate: the model gave none.", data={"viable": False})
        same = Candidate.objects.filter(job_id=step.job_id, sha256=one.sha256, viable__isnull=False)
        before = same.exclude(pk=one.pk).order_by("generation", "number").first()
        if before is not None:
            found = Measured(score=before.score, output=f"As {before.generation}.{before.number}.")
        else:
            found = self._tried(arguments, one.files, box)
        Candidate.objects.filter(pk=one.pk).update(
            measured_by=step, viable=found.viable, score=found.score, output=found.output
        )
        told = f"{found.score:g}" if found.score is not None else "does not work"
        return Result(
            ok=True,
            summary=f"Candidate {one.generation}.{one.number}: {told}",
            data={"viable": found.viable, "score": found.score, "candidate": str(one.pk)},
            text=found.output,
        )


class Rank(Tool):
    """Tells how far the search is: the best so far, its diff to where it began, and whether to go on. It is over where
    the target is reached, or where the last `patience` generations found nothing better."""

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
            raise _Failed("no_parents", "There is nothing to rank: evolve.begin comes first.")
        best = best_first[0]
        assert best.score is not None
        improved = population.better(best.score, origin.score, direction)
        newest = max(one.generation for one in best_first)
        generation = arguments["generation"] or newest
        target = arguments.get("target")
        reached = target is not None and (best.score == target or population.better(best.score, target, direction))
        stale = generation - best.generation >= arguments.get("patience", 2)
        counts = list(Candidate.objects.filter(job_id=job_id, generation__gt=0).values_list("viable", flat=True))
        words = f"{best.score:g}, from {origin.score:g}" if improved else f"nothing better than {origin.score:g}"
        return Result(
            ok=True,
            summary=f"After generation {generation}: {words}",
            data={
                "go_on": not reached and not stale,
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


class _Failed(ToolFailed):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, code=code)
        self.code = code


def _read(box: Box, paths: list[str]) -> dict[str, str]:
    """Raises ToolFailed: one is no text file of a fitting size."""
    files = {}
    with Beneath(box.workspace.tree) as tree:
        for path in paths:
            try:
                files[path] = tree.read(path, FILE_MAX_BYTES).decode()
            except (NotThere, UnicodeDecodeError) as error:
                raise ToolFailed(f"{path} cannot be read: {str(error)[:200]}") from None
            if "\0" in files[path]:
                raise ToolFailed(f"{path} is no text.")
    return files


def _asked(asking: Asking, brood: Brood, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's answer, and what the result says of how it came. Raises ThinkFailed."""
    job, step = asking.job, asking.step
    first = brood.parents[0]
    crossed = brood.operator == Candidate.Operator.CROSS
    inputs = {
        "goal": arguments["goal"],
        "direction": "lower" if arguments.get("direction", MINIMISE) == MINIMISE else "higher",
        "files": _shown(first),
        "tried": population.told(job.pk, before=arguments["generation"]),
        **({"other": _shown(brood.parents[1])} if crossed else {"output": first.output or "(nothing)"}),
    }
    try:
        version = chosen("evolve-cross" if crossed else "evolve-mutate", None, key=str(job.pk))
        values = filled_in(version.definition, inputs)
    except AgentsError as error:
        raise ThinkFailed("bad_prompt", error.message) from None
    PromptUse.objects.update_or_create(step=step, defaults={"job": job, "version": version, "at": timezone.now()})
    asking = replace(asking, schema=version.definition["answer"])
    answer, value, spent = answered(
        asking, messages(version.definition, values), asking.schema, lambda given: _wrong(given, first)
    )
    assert value is not None  # there is a schema
    return value, {"prompt": str(version), **used(answer, spent)}


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


def _table(best_first: list[Candidate]) -> str:
    lines = [
        json.dumps({"candidate": f"{one.generation}.{one.number}", "score": one.score, "idea": one.idea[:120]})
        for one in best_first[:20]
    ]
    return "\n".join(lines)


ALL: tuple[Tool, ...] = (Begin(), Propose(), Measure(), Rank(), Apply())
