"""The tools. What they run is the project's own: found by `detect`, run in the sandbox, read by `testing` and `linting`."""

import contextlib
import hashlib
import os
import re
import secrets
import shlex
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tools.builtin.beneath import Beneath, NotThere
from tools.builtin.code import detect, linting, testing
from tools.builtin.code.detect import Command, Project
from tools.builtin.code.findings import Finding, Report, placed, together
from tools.builtin.code.outcome import formatted, linted, ran, tail, tested
from tools.errors import InvalidArguments, ToolRefused
from tools.registry import register
from tools.spec import Box, Completed, Effect, Limits, Result, Risk, RiskScore, Tool

_TIMEOUT_DEFAULT_S = 600.0
_TIMEOUT_MAX_S = 1800
_REPORT_MAX_BYTES = 8 * 1024**2
_LINE_MAX = 1000
_NOT_FOUND = 127
_ENVIRONMENT = {
    "CI": "1",
    "NO_COLOR": "1",
    "CARGO_TERM_COLOR": "never",
    "GOPROXY": "off",
    "GOTOOLCHAIN": "local",
    "NPM_CONFIG_UPDATE_NOTIFIER": "false",
    "NPM_CONFIG_AUDIT": "false",
}
_MISSING = re.compile(
    r"No module named '?([\w.]+)'?$|([\w./-]+): (?:command )?not found$|No such file or directory: '?([\w./-]+)", re.M
)

_CWD: dict[str, Any] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 1024,
    "description": "The project's folder, relative to the work tree; its top where none is given.",
}
_TIMEOUT: dict[str, Any] = {
    "type": "number",
    "exclusiveMinimum": 0,
    "maximum": _TIMEOUT_MAX_S,
    "description": f"Seconds for everything together; {_TIMEOUT_DEFAULT_S:.0f} where none is given.",
}


def _program(names: Sequence[str], what: str) -> dict[str, Any]:
    return {"enum": list(names), "description": f"Which of them, where the project has several: {what}"}


class _CodeTool(Tool):
    """As a command of `shell.exec`, it may do anything to the job's own workspace, and nothing beyond it."""

    effect: ClassVar[Effect] = Effect.REPEATABLE
    queue: ClassVar[str] = "shell"
    limits: ClassVar[Limits] = Limits(
        timeout_s=float(_TIMEOUT_MAX_S),
        output_head_bytes=512 * 1024,
        output_tail_bytes=512 * 1024,
        output_kill_bytes=64 * 1024**2,
    )
    why_risky: ClassVar[str]

    def check(self, arguments: Mapping[str, Any]) -> None:
        cwd = arguments.get("cwd", ".")
        if "\0" in cwd or cwd.startswith("/") or ".." in cwd.split("/"):
            raise ToolRefused("The project's folder is relative to the work tree and stays inside it.", cwd=cwd)
        for number, word in enumerate(arguments.get("only", [])):
            if word.startswith("-") or not word.isprintable():
                raise InvalidArguments("This is no path or name.", field=f"arguments.only[{number}]")

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.MEDIUM, reasons=(self.why_risky,))

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        """The commands, and the hashes of the files that say so."""
        with Beneath(box.workspace.tree) as tree:
            project = Project(tree, arguments.get("cwd", "."))
            commands = self._commands(project, arguments)
            files = {command.why.split(":")[0] for command in commands}
            return {
                "commands": [list(command.argv) for command in commands],
                "files": {
                    name: hashlib.sha256((project.text(name) or "").encode(errors="replace")).hexdigest()
                    for name in sorted(files)
                },
            }

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        """What would be run, and which file says so."""
        with Beneath(box.workspace.tree) as tree:
            commands = self._commands(Project(tree, arguments.get("cwd", ".")), arguments)
        return "".join(f"{shlex.join(command.argv)}\n    as {command.why} says\n" for command in commands)

    @abstractmethod
    def _find(self, project: Project) -> list[Command]:
        """The project's commands for this."""

    def _commands(self, project: Project, arguments: Mapping[str, Any]) -> list[Command]:
        """Raises ToolRefused: the project has none, or not the one that is asked for."""
        cwd = arguments.get("cwd", ".")
        if cwd != ".":
            try:
                kind = project.tree.kind(cwd)
            except NotThere as error:
                raise ToolRefused(str(error), cwd=cwd) from None
            if kind != "folder":
                raise ToolRefused(f"{cwd} is not a folder.", cwd=cwd)
        found = self._find(project)
        wanted = arguments.get("program", "")
        chosen = [command for command in found if wanted in ("", command.name)]
        if not chosen:
            names = ", ".join(command.name for command in found) or "none that is known"
            raise ToolRefused(
                f"There is no {wanted or 'command'} for this in the project's files: it has {names}. "
                "shell.exec runs any command.",
                known=[command.name for command in found],
            )
        return chosen

    def _found(self, arguments: Mapping[str, Any], box: Box) -> list[Command]:
        with Beneath(box.workspace.tree) as tree:
            return self._commands(Project(tree, arguments.get("cwd", ".")), arguments)

    def _run(
        self,
        argv: Sequence[str],
        arguments: Mapping[str, Any],
        box: Box,
        *,
        profile: str = "build",
        stream: bool = True,
    ) -> Completed:
        return box.run(
            list(argv),
            cwd=Path(arguments["cwd"]) if "cwd" in arguments else None,
            env=_ENVIRONMENT,
            timeout_s=float(arguments.get("timeout_s", _TIMEOUT_DEFAULT_S)),
            profile=profile,
            stream=stream,
        )


class Test(_CodeTool):
    name: ClassVar[str] = "code.test"
    summary: ClassVar[str] = (
        "Runs the project's own tests and gives counts and failures with file and line; no network."
    )
    why_risky: ClassVar[str] = "runs the project's own tests, which are code of the workspace"
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "cwd": _CWD,
            "program": _program(detect.TESTERS, "the one that says the most where none is given."),
            "only": {
                "type": "array",
                "items": {"type": "string", "minLength": 1, "maxLength": 500},
                "minItems": 1,
                "maxItems": 50,
                "description": "Not all tests: paths or ids for pytest, modules for unittest, packages for go, one name for cargo.",
            },
            "timeout_s": _TIMEOUT,
        },
        "additionalProperties": False,
    }
    examples: ClassVar[Sequence[Mapping[str, Any]]] = (
        {},
        {"program": "pytest", "only": ["tests/test_money.py"]},
        {"cwd": "frontend", "program": "npm"},
    )

    def _find(self, project: Project) -> list[Command]:
        return detect.testers(project)

    def describe(self, arguments: Mapping[str, Any]) -> str:
        which = f" ({arguments['program']})" if "program" in arguments else ""
        only = f": {shlex.join(arguments['only'])}" if "only" in arguments else ""
        return f"run the project's tests{_where(arguments)}{which}{only}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        every = self._found(arguments, box)
        command = every[0]
        argv = _only(command, arguments.get("only", []))
        report_file = f"report-{secrets.token_hex(8)}.xml"
        argv = [word.replace(detect.JUNIT, str(box.workspace.scratch / report_file)) for word in argv]
        ended = self._run(argv, arguments, box)
        text = _bounded(f"{ended.stdout}\n{ended.stderr}")
        if command.reader == "junit":
            report = _junit(box, report_file)
            report = report if report.counted else testing.pytest_text(text)
        elif command.reader == "go":
            report = testing.go(f"{ended.stdout}\n{ended.stderr}", command.module)
        else:
            report = testing.READERS[command.reader](text)
        report = placed(report, [os.path.realpath(box.workspace.tree)], arguments.get("cwd", "."))
        done = ran(command, argv, ended)
        others = [other.name for other in every[1:]]
        return tested(done, report, ended, box, missing=_missing(ended, command), others=others)


class Lint(_CodeTool):
    name: ClassVar[str] = "code.lint"
    summary: ClassVar[str] = (
        "Runs the project's own linters and type checkers; findings with file and line; no network."
    )
    why_risky: ClassVar[str] = "runs the project's own linters, whose configuration can be code of the workspace"
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "cwd": _CWD,
            "program": _program(detect.LINTERS, "all of them where none is given."),
            "timeout_s": _TIMEOUT,
        },
        "additionalProperties": False,
    }
    examples: ClassVar[Sequence[Mapping[str, Any]]] = ({}, {"program": "ruff"})

    def _find(self, project: Project) -> list[Command]:
        return detect.linters(project)

    def describe(self, arguments: Mapping[str, Any]) -> str:
        which = f" ({arguments['program']})" if "program" in arguments else ""
        return f"run the project's linters{_where(arguments)}{which}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        reports, runs, missing, told = [], [], [], []
        for command in self._found(arguments, box):
            if box.cancelled():
                break
            ended = self._run(command.argv, arguments, box)
            output = f"{ended.stdout}\n{ended.stderr}"
            json_lines = command.reader in ("ruff", "clippy", "eslint")
            report = linting.READERS[command.reader](output if json_lines else _bounded(output))
            gone = _missing(ended, command)
            runs.append(ran(command, command.argv, ended))
            reports.append(report)
            missing += [gone] if gone else []
            if not ended.ok and not report.findings:
                told.append(f"[{shlex.join(command.argv)}]\n{tail(output)}")
        report = placed(together(reports), [os.path.realpath(box.workspace.tree)], arguments.get("cwd", "."))
        return linted(runs, report, box, missing, told)


class Format(_CodeTool):
    name: ClassVar[str] = "code.format"
    summary: ClassVar[str] = "Runs the project's own formatters over its files, or only says which they would change."
    why_risky: ClassVar[str] = "runs the project's own formatters, which write the workspace's files"
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "cwd": _CWD,
            "program": _program(detect.FORMATTERS, "all of them where none is given."),
            "check": {"type": "boolean", "description": "Only says which files would change."},
            "timeout_s": _TIMEOUT,
        },
        "additionalProperties": False,
    }
    examples: ClassVar[Sequence[Mapping[str, Any]]] = ({}, {"check": True})
    undone_by: ClassVar[str] = "`git.checkout` of the files, or a fork from a snapshot."

    def _find(self, project: Project) -> list[Command]:
        return detect.formatters(project)

    def describe(self, arguments: Mapping[str, Any]) -> str:
        which = f" ({arguments['program']})" if "program" in arguments else ""
        verb = "check the format of" if arguments.get("check") else "format"
        return f"{verb} the project's files{_where(arguments)}{which}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        only_check = bool(arguments.get("check"))
        files: list[str] = []
        runs, missing, told = [], [], []
        top = os.path.realpath(box.workspace.tree)
        for command in self._found(arguments, box):
            if box.cancelled():
                break
            checked = self._run(command.check, arguments, box, profile="read", stream=only_check)
            listed = linting.files_of(_bounded(f"{checked.stdout}\n{checked.stderr}"))
            found = placed(
                Report(findings=tuple(Finding(file=name) for name in listed)), [top], arguments.get("cwd", ".")
            )
            files += [one.file for one in found.findings]
            gone = _missing(checked, command)
            missing += [gone] if gone else []
            ended, argv = checked, command.check
            if not only_check and not gone:
                ended, argv = self._run(command.argv, arguments, box), command.argv
            failed = bool(ended.ended_by) or (not ended.ok and not (only_check and listed))
            runs.append({**ran(command, argv, ended), "ok": not failed})
            if failed:
                told.append(f"[{shlex.join(argv)}]\n{tail(f'{ended.stdout}{ended.stderr}')}")
        return formatted(runs, list(dict.fromkeys(files)), box, missing, told, only_check=only_check)


def _where(arguments: Mapping[str, Any]) -> str:
    return f" in {arguments['cwd']}" if arguments.get("cwd", ".") != "." else ""


def _only(command: Command, only: Sequence[str]) -> list[str]:
    """The command for these tests alone. Raises ToolRefused: it cannot be told that."""
    argv = list(command.argv)
    if not only:
        return argv
    if command.name == "pytest":
        return [*argv, "--", *only]
    if command.name == "unittest":
        return [*argv[:-1], *only]
    if command.name == "go":
        return [*argv[:-1], *(name if name.startswith("./") else f"./{name}" for name in only)]
    if command.name == "cargo" and len(only) == 1:
        return [*argv, "--", *only]
    raise ToolRefused(f"{command.name} runs all tests: which ones cannot be said to it.", program=command.name)


def _junit(box: Box, name: str) -> Report:
    with Beneath(box.workspace.scratch) as scratch:
        try:
            return testing.junit(scratch.read(name, _REPORT_MAX_BYTES))
        except (NotThere, ToolRefused):
            return Report()
        finally:
            with contextlib.suppress(NotThere, ToolRefused):
                scratch.remove_file(name)


def _bounded(text: str) -> str:
    """With lines of a bounded length: what reads them takes quadratic time in that."""
    return "\n".join(line[:_LINE_MAX] for line in text.split("\n"))


def _missing(ended: Completed, command: Command) -> str:
    """The program that is not installed, "" where that is not what went wrong."""
    if ended.ok:
        return ""
    said = _MISSING.search(ended.stderr[-4000:])
    name = next((group for group in said.groups() if group), "") if said else ""
    if ended.exit_code == _NOT_FOUND:
        return name or command.argv[0]
    own = {command.argv[0], command.name, command.argv[0].rsplit("/", 1)[-1]}
    return name if name in own else ""


TEST, LINT, FORMAT = register(Test()), register(Lint()), register(Format())
