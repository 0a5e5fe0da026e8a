"""What the runner hands to a tool: its workspace, and sandboxed processes in it."""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from tools import constraints, quota, redact
from tools.egress.allowlist import Allowlist
from tools.egress.proxy import Proxy
from tools.egress.proxy import environment as proxy_environment
from tools.egress.record import Connections
from tools.errors import SandboxUnavailable, ToolRefused
from tools.redact import Redactor
from tools.sandbox import probe, process
from tools.sandbox.environment import base_environment, forbidden, interpreter_paths
from tools.sandbox.identity import Identity, identity_for
from tools.sandbox.output import Batcher, clean
from tools.spec import Completed, Limits, OutputSink, Workspace

PROFILES = ("read", "build", "git")


class SandboxBox:
    """A `tools.spec.Box` over the sandbox launcher.

    deadline_s: a `time.monotonic()` reading after which nothing runs on; read_only: every run has the profile "read",
    whatever the tool asks for (previews, target states, probes); most: no run has a wider profile than this; network: the
    remotes that may be reached (`tools.constraints`), None where every remote that the server allows.
    """

    def __init__(
        self,
        workspace: Workspace | Callable[[], Workspace],
        *,
        limits: Limits,
        call_id: str,
        on_output: OutputSink | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        deadline_s: float = math.inf,
        read_only: bool = False,
        most: str = "git",
        network: Any = None,
    ) -> None:
        self._workspace = workspace
        self.limits = limits
        self.call_id = call_id
        self._on_output = on_output
        self._cancelled = cancelled
        self._deadline_s = deadline_s
        self._looks = read_only
        self._most = "read" if read_only else most
        self._network = network
        self.connections = Connections()
        self._runs: list[dict[str, str]] = []
        self._longest_s = 0.0  # that a run was given
        self._hosts: set[str] = set()
        self._words = Redactor()
        self._word_batches = Batcher(lambda text: self._send("token", text))

    @property
    def workspace(self) -> Workspace:
        """See `tools.spec.Box`. Given as a function, it is made when it is first needed."""
        if callable(self._workspace):
            self._workspace = self._workspace()
        return self._workspace

    @cached_property
    def _allowed(self) -> quota.Bounds:
        return quota.allowance(self.workspace)

    @cached_property
    def _identity(self) -> Identity:
        return identity_for(self.workspace.id)

    def cancelled(self) -> bool:
        """See `tools.spec.Box.cancelled`."""
        return self._cancelled()

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
        talk: process.Talk | None = None,
    ) -> Completed:
        """See `tools.spec.Box.run`. talk: see `process.run`."""
        if profile not in PROFILES:
            raise ValueError(f"there is no profile {profile!r}")
        if not argv or any("\0" in word for word in argv):
            raise ToolRefused("A command is a list of words without NUL characters.")
        profile = constraints.strictest(profile, self._most)
        seconds = min(timeout_s or self.limits.timeout_s, self.limits.timeout_s, self._deadline_s - time.monotonic())
        if seconds <= 0 or self._cancelled():
            return self._not_started("timeout" if seconds <= 0 else "cancelled", profile)
        if network and self._looks:
            raise ToolRefused("What only looks has no network.")
        allow = self.reachable(network) if network else None
        tier = probe.best(network=allow is not None)
        if tier == "pod" and talk is not None:
            raise SandboxUnavailable(
                "Nobody can speak with a command in a pod: it is given its input at once.", tier=tier
            )
        read, write = self._paths(profile, extra_read, extra_write)
        confinement = process.Confinement(
            tier=tier,
            identity=self._identity,
            read=read,
            write=write,
            memory_bytes=self.limits.memory_bytes,
            processes=self.limits.processes,
            file_size_bytes=self.limits.file_size_bytes,
            cpu_s=math.ceil(seconds) + 1,
            network=allow is not None,
        )
        self._runs.append({"tier": tier, "profile": profile})
        self._longest_s = max(self._longest_s, seconds)
        proxy = Proxy(allow, self.connections) if allow else contextlib.nullcontext(None)
        self._hosts.update(allow.words() if allow else ())
        watch = quota.Watch(self.workspace, self._allowed)
        watch.begin()
        settings = {**base_environment(home=self.workspace.scratch, scratch=self.workspace.scratch), **_checked(env)}
        try:
            with proxy as serving:
                outcome = process.run(
                    argv,
                    cwd=self._folder(cwd, [*read, *write]),
                    env={**settings, **(proxy_environment() if serving else {})},
                    stdin=stdin,
                    confinement=confinement,
                    bounds=process.Bounds(
                        timeout_s=seconds,
                        output_head_bytes=self.limits.output_head_bytes,
                        output_tail_bytes=self.limits.output_tail_bytes,
                        output_kill_bytes=self.limits.output_kill_bytes,
                    ),
                    redactor=Redactor,
                    on_output=self._on_output if stream else None,
                    cancelled=lambda: bool(watch.over) or self._cancelled(),
                    egress_fd=serving.handover_fd if serving else None,
                    talk=talk,
                )
        except process.SetupFailed as error:
            raise SandboxUnavailable(f"The {tier} sandbox could not be set up: {error}", tier=tier) from error
        finally:
            watch.end()
        full = bool(watch.over) and outcome.ended_by == "cancelled"
        return Completed(
            exit_code=outcome.exit_code,
            signal=outcome.signal,
            stdout=outcome.stdout,
            stderr=outcome.stderr + (f"\n[stopped: {watch.over}]" if full else ""),
            truncated_bytes=outcome.truncated_bytes,
            duration_s=outcome.duration_s,
            ended_by="disk_quota" if full else outcome.ended_by,
            max_rss_bytes=outcome.max_rss_bytes,
            cpu_s=outcome.cpu_s,
            tier=tier,
            profile=profile,
        )

    def lasting(self, *, limits: Limits, on_output: OutputSink | None, cancelled: Callable[[], bool]) -> "SandboxBox":
        """A box of the same workspace and under the same constraints, for a command that outlives this call."""
        return SandboxBox(
            self.workspace,
            limits=limits,
            call_id="",
            on_output=on_output,
            cancelled=cancelled,
            most=self._most,
            network=self._network,
        )

    def left_s(self) -> float:
        """Seconds until nothing of this call may run any more."""
        return max(0.0, min(self.limits.timeout_s, self._deadline_s - time.monotonic()))

    def terms(self) -> tuple[Any, ...]:
        """What binds a command of this box, to tell whether another box's command may serve here."""
        return (self.workspace.id, self._most, json.dumps(self._network), self._looks)

    def include(self, other: "SandboxBox", since: datetime) -> None:
        """What a command of a `lasting` box did for this call, for its record: connections that were open since then."""
        self._runs += other._runs[-1:]
        self._hosts |= other._hosts
        self._longest_s = max(self._longest_s, other._longest_s)
        self.connections.include(other.connections, since)

    def reach(self, url: str) -> bool:
        """See `tools.spec.Box.reach`."""
        return constraints.reach(url, self._network)

    def reachable(self, hosts: Allowlist) -> Allowlist:
        """See `tools.spec.Box.reachable`."""
        return constraints.reachable(hosts, self._network)

    def log(self, text: str, stream: str = "note") -> None:
        """See `tools.spec.Box.log`. Words of a model are held until no secret can begin in them, and sent in batches."""
        if self._on_output is None:
            return
        if stream == "token":
            self._word_batches.add(self._words.feed(text), time.monotonic())
        else:
            redactor = Redactor()
            self._send(stream, redactor.feed(text) + redactor.flush())

    def close(self) -> None:
        """Sends what `log` still holds."""
        if self._on_output is not None:
            now_s = time.monotonic()
            self._word_batches.add(self._words.flush(), now_s)
            self._word_batches.flush(now_s)

    def record_sandbox(self) -> Mapping[str, Any]:
        """See `tools.spec.Box.record_sandbox`. Empty where nothing was run or reached."""
        reached = {"connections": redact.data(self.connections.as_json())} if len(self.connections) else {}
        if not self._runs:
            return reached
        return {
            "tier": self._runs[-1]["tier"],
            "profiles": sorted({run["profile"] for run in self._runs}),
            "uid": self._identity.uid,
            "own_user": self._identity.dropped,
            "network": "allow-list" if self._hosts else "none",
            **({"hosts": sorted(self._hosts)} if self._hosts else {}),
            "runs": len(self._runs),
            "limits": {
                "timeout_s": round(self._longest_s, 1),
                "memory_bytes": self.limits.memory_bytes,
                "processes": self.limits.processes,
                "file_size_bytes": self.limits.file_size_bytes,
                "output_bytes": self.limits.output_kill_bytes,
            },
            **reached,
        }

    def _send(self, stream: str, text: str) -> None:
        text = clean(text)
        if text and self._on_output is not None:
            self._on_output(stream, text)

    def _paths(
        self, profile: str, extra_read: Sequence[Path], extra_write: Sequence[Path]
    ) -> tuple[list[str], list[str]]:
        """(readable, writable), real paths."""
        place = self.workspace
        read = [] if profile == "git" else [place.git_dir]
        write = [place.scratch]
        (read if profile == "read" else write).append(place.tree)
        if profile == "git":
            write.append(place.git_dir)
        read += extra_read
        write += extra_write
        missing = [str(path) for path in (*read, *write) if not path.exists()]
        if missing:
            raise ToolRefused("A path that the command needs is not there.", paths=missing)
        return [*map(os.path.realpath, read), *interpreter_paths()], [*map(os.path.realpath, write)]

    def _folder(self, cwd: Path | None, allowed: Sequence[str]) -> str:
        folder = os.path.realpath(self.workspace.tree / (cwd or "."))
        if not any(folder == root or folder.startswith(root + "/") for root in allowed):
            raise ToolRefused("The working directory lies outside the workspace.", cwd=str(cwd))
        if not os.path.isdir(folder):
            raise ToolRefused("The working directory is not a folder.", cwd=str(cwd))
        return folder

    def _not_started(self, ended_by: str, profile: str) -> Completed:
        return Completed(
            exit_code=None,
            signal=None,
            stdout="",
            stderr="",
            truncated_bytes=0,
            duration_s=0.0,
            ended_by=ended_by,
            profile=profile,
        )


def _checked(env: Mapping[str, str] | None) -> dict[str, str]:
    for name, value in (env or {}).items():
        if forbidden(name) or "\0" in value:
            raise ToolRefused(f"The environment variable {name!r} may not be set.", name=name)
    return dict(env or {})
