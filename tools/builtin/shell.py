"""Commands in the sandbox: `shell.exec` takes words, `shell.script` takes text."""

import shlex
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from tools import registry
from tools.builtin import commands, handed, running, script
from tools.egress.allowlist import PATTERNS_MAX, Allowlist
from tools.errors import InvalidArguments, ToolRefused
from tools.risk.hosts import hosts_of
from tools.risk.programs import command_of
from tools.spec import Box, Completed, Effect, Limits, Result, Risk, RiskScore, Tool

_TIMEOUT_DEFAULT_S = 300.0
_TIMEOUT_MAX_S = 1800

# What a command may be told by its environment. Names that load or run code are not among them.
_ENV_NAMES = frozenset(
    [
        "CI",
        "COLUMNS",
        "DEBUG",
        "FORCE_COLOR",
        "LINES",
        "LOG_LEVEL",
        "NODE_ENV",
        "NO_COLOR",
        "RAILS_ENV",
        "RUST_BACKTRACE",
        "TZ",
        "VERBOSE",
        "CARGO_TERM_COLOR",
        "CGO_ENABLED",
        "DJANGO_SETTINGS_MODULE",
        "FLASK_ENV",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD",
        "SOURCE_DATE_EPOCH",
    ]
)
_ENV_PREFIXES = ("APP_", "TEST_")

# What the kernel says to a command that tries what the sandbox forbids.
_REFUSALS = ("Operation not permitted", "Permission denied", "Read-only file system")

_CWD: dict[str, Any] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 1024,
    "description": "A folder relative to the work tree; its top where none is given.",
}
_TIMEOUT: dict[str, Any] = {
    "type": "number",
    "exclusiveMinimum": 0,
    "maximum": _TIMEOUT_MAX_S,
    "description": f"Seconds; {_TIMEOUT_DEFAULT_S:.0f} where none is given.",
}
_NETWORK: dict[str, Any] = {
    "type": "array",
    "items": {"type": "string", "minLength": 1, "maxLength": 260},
    "minItems": 1,
    "maxItems": PATTERNS_MAX,
    "description": "Hosts that the command may reach by HTTP and HTTPS: `pypi.org`, `*.example.org`, `example.org:8443`. "
    "None where it is left out. People are asked more about a command that has a network.",
}


class _ShellTool(Tool):
    """A command may do anything to the job's own workspace and nothing beyond it: no other files, no network but to the
    hosts that it names, and no process outlives it. So a lost attempt leaves nothing but a workspace that the next
    attempt starts from, which is what REPEATABLE means here. With a network it may have told somebody something, or
    changed it: then it is ONCE, and of high risk."""

    effect: ClassVar[Effect] = Effect.REPEATABLE
    queue: ClassVar[str] = "shell"
    limits: ClassVar[Limits] = Limits(timeout_s=float(_TIMEOUT_MAX_S))

    def effect_of(self, arguments: Mapping[str, Any]) -> Effect:
        return Effect.ONCE if "network" in arguments else self.effect

    def check(self, arguments: Mapping[str, Any]) -> None:
        cwd = arguments.get("cwd", ".")
        if "\0" in cwd or cwd.startswith("/") or ".." in cwd.split("/"):
            raise ToolRefused("The working directory is relative to the work tree and stays inside it.", cwd=cwd)
        _hosts(arguments)
        handed.check(arguments)

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        """The hashes of the workspace's files that the command names and runs: what was approved is what runs."""
        found = running.digests(command_of(self.name, arguments).scripts, box.workspace.tree)
        return {"files": found} if found else {}

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        """The files of the workspace that would be run, as they are now. A secret that is not for the command is
        refused here, before anybody is asked."""
        handed.allowed(self.name, arguments)
        return running.shown(command_of(self.name, arguments).scripts, box.workspace.tree)

    def _run(self, argv: list[str], arguments: Mapping[str, Any], box: Box, env: Mapping[str, str]) -> Result:
        ended = box.run(
            argv,
            cwd=Path(arguments["cwd"]) if "cwd" in arguments else None,
            env={**env, **handed.environment(self.name, arguments)},
            timeout_s=float(arguments.get("timeout_s", _TIMEOUT_DEFAULT_S)),
            profile="build",
            network=_hosts(arguments) or None,
        )
        return result_of(self.describe(arguments), ended, box)


class Exec(_ShellTool):
    name: ClassVar[str] = "shell.exec"
    examples = (
        {"argv": ["python3", "-m", "unittest"]},
        {"argv": ["pip", "install", "requests"], "network": ["pypi.org", "files.pythonhosted.org"]},
        {"argv": ["rm", "-rf", "build"]},
    )
    summary: ClassVar[str] = (
        "Runs one program with its arguments in the workspace; no shell, and no network but to the hosts that are named."
    )
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "argv": {
                "type": "array",
                "items": {"type": "string", "maxLength": 65_536},
                "minItems": 1,
                "maxItems": 512,
                "description": "The program and its arguments, one string each.",
            },
            "cwd": _CWD,
            "env": {
                "type": "object",
                "additionalProperties": {"type": "string", "maxLength": 4096},
                "maxProperties": 32,
                "description": "More environment variables; only harmless names are taken.",
            },
            "timeout_s": _TIMEOUT,
            "network": _NETWORK,
            "secrets": handed.SCHEMA,
        },
        "required": ["argv"],
        "additionalProperties": False,
    }

    def check(self, arguments: Mapping[str, Any]) -> None:
        super().check(arguments)
        for number, word in enumerate(arguments["argv"]):
            if "\0" in word:
                raise InvalidArguments("A word cannot hold NUL.", field=f"arguments.argv[{number}]")
        program = arguments["argv"][0]
        if not program.strip() or program.startswith("-"):
            raise InvalidArguments("The first word names a program.", field="arguments.argv[0]")
        for name, value in arguments.get("env", {}).items():
            if (name not in _ENV_NAMES and not name.startswith(_ENV_PREFIXES)) or "\0" in value:
                raise ToolRefused(f"The environment variable {name} may not be set.", name=name)

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return handed.with_secrets(
            _with_network(commands.scored(command_of(self.name, arguments)), arguments), arguments
        )

    def describe(self, arguments: Mapping[str, Any]) -> str:
        env = "".join(f"{name}={shlex.quote(value)} " for name, value in sorted(arguments.get("env", {}).items()))
        return _in_folder(arguments, env + shlex.join(arguments["argv"]))

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        return self._run(list(arguments["argv"]), arguments, box, arguments.get("env", {}))


class Script(_ShellTool):
    name: ClassVar[str] = "shell.script"
    examples = ({"script": "cat README.md | wc -l"}, {"script": 'eval "$(cat setup)"'})
    summary: ClassVar[str] = (
        "Runs shell text (sh) in the workspace; no network but to the hosts that are named. "
        "Plain commands are asked about less."
    )
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "script": {"type": "string", "minLength": 1, "maxLength": 65_536},
            "cwd": _CWD,
            "timeout_s": _TIMEOUT,
            "network": _NETWORK,
            "secrets": handed.SCHEMA,
        },
        "required": ["script"],
        "additionalProperties": False,
    }

    def check(self, arguments: Mapping[str, Any]) -> None:
        super().check(arguments)
        if "\0" in arguments["script"] or not arguments["script"].strip():
            raise InvalidArguments("A script is text without NUL, and not empty.", field="arguments.script")

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        score = commands.scored(command_of(self.name, arguments))
        return handed.with_secrets(_with_network(score, arguments), arguments)

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return _in_folder(arguments, script.parse(arguments["script"]).text)

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        return self._run(["/bin/sh", "-c", script.parse(arguments["script"]).text], arguments, box, {})


def result_of(described: str, ended: Completed, box: Box) -> Result:
    """The Result of a command, whatever its exit code: an agent reads it. `data.refused` quotes what the sandbox
    forbade, as far as the command said so."""
    held_by = dict(box.record_sandbox())
    hosts = held_by.get("hosts", [])
    refused = [line.strip()[:300] for line in ended.stderr.splitlines() if any(word in line for word in _REFUSALS)]
    refused = [] if ended.ok else refused[:5]
    how = _how_it_ended(ended)
    held = f"; the sandbox refused: {refused[0]}" if refused else ""
    parts = [f"[{how}{f', {ended.truncated_bytes} bytes of output left out' if ended.truncated_bytes else ''}]"]
    if refused:
        reach = f"no network but to {', '.join(hosts)}" if hosts else "no network"
        parts.append(f"[held by the {ended.tier} sandbox: {reach}, no writes outside the workspace]")
    parts += [f"[network refused: {why}]" for why in _refused_hosts(box)]
    parts += [text for text in (ended.stdout.rstrip("\n"),) if text]
    if ended.stderr.strip():
        parts.append(f"[stderr]\n{ended.stderr.rstrip()}")
    first = described.splitlines()[0][:120]
    return Result(
        ok=ended.ok,
        summary=f"{first}: {how}{held}",
        data={
            "exit_code": ended.exit_code,
            "signal": ended.signal,
            "stdout": ended.stdout,
            "stderr": ended.stderr,
            "ended_by": ended.ended_by,
            "duration_s": ended.duration_s,
            "cpu_s": ended.cpu_s,
            "max_rss_bytes": ended.max_rss_bytes,
            "truncated_bytes": ended.truncated_bytes,
            "refused": refused,
            "sandbox": {"tier": ended.tier, "profile": ended.profile, "network": ", ".join(hosts) or "none"},
        },
        text="\n".join(parts),
        exit_code=ended.exit_code,
        truncated_bytes=ended.truncated_bytes,
        sandbox=held_by,
    )


_ENDED_BY = {
    "timeout": "stopped: out of time",
    "cancelled": "stopped: cancelled",
    "output_limit": "stopped: too much output",
    "memory": "stopped: out of memory",
    "disk_quota": "stopped: the workspace is full",
}


# What people do not know by its number.
_SIGNALS: dict[int | None, str] = {
    signal.SIGSEGV: " (SIGSEGV: it crashed)",
    signal.SIGXCPU: " (SIGXCPU: out of CPU time)",
    signal.SIGXFSZ: " (SIGXFSZ: a file would have been larger than one may be here)",
    signal.SIGSYS: " (SIGSYS: a system call that the sandbox forbids)",
}


def _how_it_ended(ended: Completed) -> str:
    took = f"after {ended.duration_s:.1f} s"
    if ended.ended_by:
        return f"{_ENDED_BY.get(ended.ended_by, ended.ended_by)} {took}"
    if ended.signal is not None:
        return f"killed by signal {ended.signal}{_SIGNALS.get(ended.signal, '')} {took}"
    return f"exit code {ended.exit_code} {took}"


def _in_folder(arguments: Mapping[str, Any], command: str) -> str:
    folder = f"cd {shlex.quote(arguments['cwd'])} && " if arguments.get("cwd", ".") != "." else ""
    hosts = arguments.get("network")
    return handed.told(arguments) + (f"[network: {', '.join(hosts)}] " if hosts else "") + folder + command


def _hosts(arguments: Mapping[str, Any]) -> Allowlist:
    """What the call asks to reach. Raises InvalidArguments: a pattern is wrong."""
    try:
        return Allowlist.parse(arguments.get("network", ()))
    except ToolRefused as error:
        raise InvalidArguments(error.message, field="arguments.network") from error


def _with_network(score: RiskScore, arguments: Mapping[str, Any]) -> RiskScore:
    """A command with a network may send what it reads, and run what it fetched: people are asked."""
    # as the wire has them: letters that look like others do not pass for them
    hosts = hosts_of("shell.exec", arguments) or arguments.get("network")
    if not hosts:
        return score
    reasons = [reason for reason in score.reasons if "the sandbox does not have" not in reason]
    return RiskScore(level=Risk.HIGH, reasons=(f"it may reach {', '.join(hosts)} over the network", *reasons))


def _refused_hosts(box: Box) -> list[str]:
    refused = [one["why"] for one in box.connections.as_json() if not one.get("allowed", True)]
    return list(dict.fromkeys(refused))[:10]


for _tool in (Exec, Script):
    registry.register(_tool())
