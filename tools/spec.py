"""What a tool is, what a call is, and what comes back."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol

from audit.canonical import canonical_json
from tools.egress.allowlist import Allowlist
from tools.egress.record import Connections
from tools.errors import ToolFailed


class Effect(StrEnum):
    """What a lost attempt means: READ changed nothing, REPEATABLE may run again, ONCE may have happened."""

    READ = "read"
    REPEATABLE = "repeatable"
    ONCE = "once"


class Risk(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskScore:
    """level, the reasons in words that an approver reads, and a number from 0 to 100 once it is assessed as a whole
    (`tools.risk.assess`)."""

    level: Risk
    reasons: tuple[str, ...] = ()
    score: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one run of a tool; the runner enforces them."""

    timeout_s: float = 300.0
    memory_bytes: int = 2 * 1024**3
    processes: int = 256
    file_size_bytes: int = 256 * 1024**2
    output_head_bytes: int = 32 * 1024
    output_tail_bytes: int = 32 * 1024
    output_kill_bytes: int = 8 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One exact call.

    tool, schema_version: which tool, which version of its schema; arguments: validated JSON; workspace_id: the job's
    workspace; target_state: what an approver saw of the world (such as the commit that a push would move), empty
    where nobody was asked; preview_digest: SHA-256 (hex) of the preview that an approver saw, or ""; many: the
    arguments are {"calls": [arguments, …]}, and the tool runs once for each (`tools.batch`); policy: the version of the
    policy that lets it run, "" where none says so; constraints: how it must run (`tools.constraints`).
    """

    tool: str
    schema_version: int
    arguments: Mapping[str, Any]
    workspace_id: str
    target_state: Mapping[str, Any] = field(default_factory=dict)
    preview_digest: str = ""
    many: bool = False
    policy: str = ""
    constraints: Mapping[str, Any] = field(default_factory=dict)

    def digest(self) -> str:
        """SHA-256, hex, over a domain tag and the JCS form (RFC 8785) of every field."""
        body: dict[str, Any] = {
            "tool": self.tool,
            "schema_version": self.schema_version,
            "arguments": dict(self.arguments),
            "workspace_id": self.workspace_id,
            "target_state": dict(self.target_state),
            "preview_digest": self.preview_digest,
        }
        if self.many:
            body["many"] = True
        if self.policy:
            body["policy"] = self.policy
        if self.constraints:
            body["constraints"] = dict(self.constraints)
        return hashlib.sha256(b"countersign-call/v1\n" + canonical_json(body)).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a tool gives back.

    ok: did it do what it says; summary: one line for people; data: JSON for later steps and pages; text: what the
    model reads (bounded); exit_code: of the command, where there was one; truncated_bytes: output not kept;
    sandbox: tier, profile and user that held it, as JSON.
    """

    ok: bool
    summary: str
    data: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    exit_code: int | None = None
    truncated_bytes: int = 0
    sandbox: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A finished sandboxed process.

    exit_code is None where a signal ended it; `ended_by` says who stopped it: "" (itself), "timeout", "cancelled",
    "output_limit", "memory", "disk_quota". stdout and stderr are head + marker + tail, decoded, control characters
    stripped, secrets redacted.
    """

    exit_code: int | None
    signal: int | None
    stdout: str
    stderr: str
    truncated_bytes: int
    duration_s: float
    ended_by: str = ""
    max_rss_bytes: int = 0
    cpu_s: float = 0.0
    tier: str = ""
    profile: str = ""

    @property
    def ok(self) -> bool:
        return self.exit_code == 0 and not self.ended_by


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """A job's folder. `tree` is the work tree, `git_dir` the separate git directory, `scratch` is for tools' own files."""

    id: str
    root: Path

    @property
    def tree(self) -> Path:
        return self.root / "tree"

    @property
    def git_dir(self) -> Path:
        return self.root / "repo.git"

    @property
    def scratch(self) -> Path:
        return self.root / "scratch"


class Box(Protocol):
    """What a tool may use: its workspace and sandboxed processes. Nothing else.

    call_id: what the permit was issued for (the step's id), "" in a preview.
    """

    limits: Limits
    call_id: str

    @property
    def workspace(self) -> Workspace:
        """The job's, made when it is first asked for."""
        ...

    def run(
        self,
        argv: list[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout_s: float | None = None,
        profile: str = "build",
        stream: bool = True,
        extra_read: Sequence[Path] = (),
        extra_write: Sequence[Path] = (),
        network: Allowlist | None = None,
    ) -> Completed:
        """Runs `argv` sandboxed and waits. There is no network, unless `network` names hosts; of those the call's
        constraints may take some, and each connection stands in `connections`.

        profile: "read" (work tree and git directory read-only), "build" (work tree writable, git directory
        read-only), "git" (both writable); scratch is always writable. cwd: a folder of the workspace, the work tree
        where none is given. env: added to the sandbox's own short environment. timeout_s: at most the tool's limit.
        extra_read, extra_write: further paths, chosen by the tool itself and never by its arguments. `stream` sends
        output to the job's live log as it comes.

        Raises:
            SandboxUnavailable: no tier works here, or none that has a network.
            ToolRefused: cwd lies outside the workspace, the environment names what it must not, or no host is left.
        """
        ...

    def reach(self, url: str) -> bool:
        """Asks before a remote is spoken to: True where the call's constraints name its host, False where there are none.

        Raises ToolRefused: they do not let it.
        """
        ...

    def reachable(self, hosts: Allowlist) -> Allowlist:
        """What of these hosts the call's constraints let it reach. Raises ToolRefused: none."""
        ...

    @property
    def connections(self) -> Connections:
        """The record of what this call reached and was refused; it becomes part of `Result.sandbox`."""
        ...

    def log(self, text: str, stream: str = "note") -> None:
        """Text of the tool's own for the live log; `stream` is "note", or "token" for a model's words as they come."""
        ...

    def cancelled(self) -> bool:
        """True once the step must end: a tool that waits without running a command asks this several times a second."""
        ...

    def record_sandbox(self) -> Mapping[str, Any]:
        """Tier, profile and user of the runs so far, for `Result.sandbox`."""
        ...


# stream name ("stdout", "stderr", "note") and text, redacted and stripped
OutputSink = Callable[[str, str], None]


class Tool(ABC):
    """A tool. Subclasses are stateless; one instance stands in the registry.

    `schema` is JSON Schema 2020-12 of the arguments, with `additionalProperties: false`. `asks_person` marks a tool
    whose "execution" is a person's answer (`human.ask`): the engine never sends it to a worker.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    schema: ClassVar[dict[str, Any]]
    effect: ClassVar[Effect]
    queue: ClassVar[str]
    schema_version: ClassVar[int] = 1
    limits: ClassVar[Limits] = Limits()
    asks_person: ClassVar[bool] = False
    # True: the call is a job of its own, which the engine starts and waits for; no worker runs it.
    starts_job: ClassVar[bool] = False
    # What it writes by itself, where no command's sandbox could hold it back: "build" (the work tree), "git" (all of it).
    needs_profile: ClassVar[str] = "read"
    # True: it only takes away, so that it may run in a workspace that is full.
    makes_room: ClassVar[bool] = False
    # False: the tool is the engine's own (a model call); it is governed and audited but not offered to models.
    offered: ClassVar[bool] = True
    # Calls for its page in docs/reference/tools: each fits the schema and passes `check`, which a test holds.
    examples: ClassVar[Sequence[Mapping[str, Any]]] = ()
    # What takes its effect back, in words for its page: the tool of an undoing step, or what it does by itself.
    undone_by: ClassVar[str] = ""

    def check(self, arguments: Mapping[str, Any]) -> None:  # noqa: B027
        """Pure checks that the schema cannot say.

        Raises:
            InvalidArguments, ToolRefused
        """

    def effect_of(self, arguments: Mapping[str, Any]) -> Effect:
        """What a lost attempt of this very call means: the tool's own effect, or a graver one. Told from which arguments
        there are, since their values may not be known yet."""
        return self.effect

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        """How dangerous this exact call looks. Decides only whether people are asked: containment is the sandbox."""
        return RiskScore(level=Risk.LOW if self.effect is Effect.READ else Risk.MEDIUM)

    def describe(self, arguments: Mapping[str, Any]) -> str:
        """One line that says what the call does, exact enough for an approver: the command as it would be typed."""
        return self.name

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        """What the effect depends on and an approval must hold fast (commit ids). Read-only."""
        return {}

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        """What would happen, as text for the approver: a dry run, a diff. Has no effect."""
        return ""

    def undo(self, arguments: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any] | None:
        """The call that takes this one back, {"tool", "arguments"}, by the data of its result; None where there is none.

        The runner puts it into the result's data as `undo`, for whoever plans to take it back.
        """
        return None

    @abstractmethod
    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        """Does it.

        Raises:
            ToolFailed, ToolRefused, SandboxUnavailable
        """

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        """Did a lost attempt happen? A Result if it did, None if it did not.

        Raises:
            ToolFailed: it cannot be told; a person decides.
        """
        raise ToolFailed(f"{self.name} has no probe")
