"""Docker: `create`, `start --attach --interactive`, `inspect`, `rm --force`. Stdlib only."""

import time
from typing import Any

from tools.pod.engine import LABEL, Engine, EngineFailed, as_json, ask, seen_by_engine

_PRIVATE = "64m"


class Docker(Engine):
    def create(self, command: list[str]) -> None:
        self.ask(*create_arguments(self.spec, self.name, command), timeout_s=60.0)

    def attach(self) -> list[str]:
        return [self.pod["program"], "start", "--attach", "--interactive", self.name]

    def state(self) -> dict[str, Any] | None:
        found = as_json(self.ask("inspect", "--type", "container", "--format", "{{json .State}}", self.name))
        if found.get("Error"):
            raise EngineFailed(str(found["Error"])[:300])
        if found.get("Status") not in ("exited", "dead"):
            return None
        return {"code": int(found["ExitCode"]), "memory": bool(found.get("OOMKilled"))}

    def ask_to_end(self) -> None:
        self.ask("kill", "--signal", "TERM", self.name, timeout_s=3.0)

    def removal(self) -> list[str]:
        return [self.pod["program"], "rm", "--force", "--volumes", self.name]


def create_arguments(spec: dict[str, Any], name: str, command: list[str]) -> list[str]:
    """`docker create …`: no network, nothing writable but the workspace and 64 MiB of memory, no capability, no root.

    Raises:
        ValueError: the command would run as root, or a path cannot stand in a mount's description.
    """
    if spec["uid"] == 0 or spec["gid"] == 0:
        raise ValueError("commands never run as root")
    limits, pod = spec["limits"], spec["pod"]
    made = ["create", "--interactive", "--name", name, "--hostname", "sandbox", "--pull", "never"]
    made += ["--label", f"{LABEL}.until={int(time.time() + spec['wall_s'] + 60)}"]
    made += ["--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    made += ["--user", f"{spec['uid']}:{spec['gid']}", "--workdir", spec["cwd"], "--init"]
    made += ["--ipc", "private", "--cgroupns", "private", "--shm-size", _PRIVATE]
    made += ["--tmpfs", f"/tmp:rw,exec,nosuid,nodev,size={_PRIVATE},mode=1777"]
    made += ["--memory", str(limits["memory_bytes"]), "--memory-swap", str(limits["memory_bytes"])]
    made += ["--pids-limit", str(limits["processes"]), "--oom-score-adj", "500"]
    for limit, value in (("cpu", "cpu_s"), ("fsize", "file_size_bytes"), ("nofile", "open_files")):
        made += ["--ulimit", f"{limit}={limits[value]}:{limits[value]}"]
    made += ["--ulimit", "core=0:0", "--log-driver", "none"]
    if pod["runtime"]:
        made += ["--runtime", pod["runtime"]]
    writable = set(spec["write"])
    for path in sorted({*spec["read"], *writable}, key=lambda one: (len(one), one)):
        made += ["--mount", _mount(path, seen_by_engine(path, pod["folders"]), path in writable)]
    return [*made, "--entrypoint", command[0], pod["image"], *command[1:]]


def _mount(path: str, source: str, writable: bool) -> str:
    if any(sign in path + source for sign in ',"\n'):
        raise ValueError(f"{path} cannot be mounted: its name has a comma, a quote or a line's end")
    return f"type=bind,source={source},target={path}" + ("" if writable else ",readonly")


def leftovers(pod: dict[str, Any], now: float) -> list[str]:
    """Names of containers whose time has been over for a minute: those of launchers that were killed."""
    form = f'{{{{.Names}}}}\t{{{{.Label "{LABEL}.until"}}}}'
    found = ask(pod, "ps", "--all", "--filter", f"label={LABEL}.until", "--format", form)
    pairs = [line.split("\t") for line in found.splitlines()]
    return [pair[0] for pair in pairs if len(pair) == 2 and pair[1].isdigit() and int(pair[1]) < now]
