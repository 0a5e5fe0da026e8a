"""What measures in a search: evolve.begin the files as they are, evolve.measure a candidate."""

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from django.utils import timezone

from agents.evolution import population
from agents.evolution.measure import Measured, measure
from agents.evolution.shapes import FILE_MAX_BYTES, FILES_MAX, PLACE, TIMEOUT_S, TRIAL, SearchFailed, schema
from agents.models import Candidate, Step
from tools.builtin import commands
from tools.builtin.beneath import Beneath, NotThere
from tools.builtin.files import check_file_path
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
_INTERPRETERS = re.compile(r"(?:python|pypy|ruby|perl|node|bash|dash|zsh|sh)[0-9.]*")
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
        if (judge := _judge(arguments["command"])) in {posixpath.normpath(path) for path in arguments["paths"]}:
            message = f"{judge} is what measures: a model that may change it could have it print any score."
            raise InvalidArguments(message, field="arguments.paths")

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return f"measure {', '.join(arguments['paths'])} by: {' '.join(arguments['command'])}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        step = Step.objects.get(pk=box.call_id)
        files = _read(box, arguments["paths"])
        found = self._tried(arguments, files, box)
        if found.score is None:
            raise SearchFailed(
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


def _judge(command: Sequence[str]) -> str:
    """The file that a command runs: itself, or the first that an interpreter is given; "" where that is unclear."""
    program = posixpath.basename(command[0])
    if not _INTERPRETERS.fullmatch(program):
        return posixpath.normpath(command[0])
    return next((posixpath.normpath(word) for word in command[1:] if not word.startswith("-")), "")


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
