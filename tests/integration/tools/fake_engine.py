"""A stand-in for `docker` and `kubectl`: `python fake_engine.py docker|kubectl STATE_FOLDER arguments…`.

It takes the commands and options that the launcher uses as the real clients document them, and refuses every other. Its
containers are real processes, held by our own ns tier with the mounts, user and limits of the options; they belong to a
process of their own, as they do to the engine's daemon, and live on when a client is killed.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tools.sandbox.supervise import descendants

LAUNCHER = Path(__file__).resolve().parents[3] / "tools" / "sandbox" / "launcher.py"
IMAGE = "countersign/sandbox:1"
# of `docker create` (docs.docker.com/reference/cli/docker/container/create): name -> takes a value
CREATE = {
    **dict.fromkeys(("--interactive", "--read-only", "--init"), False),
    **dict.fromkeys(
        (
            *("--name", "--hostname", "--pull", "--label", "--network", "--cap-drop", "--security-opt", "--user"),
            *("--workdir", "--ipc", "--cgroupns", "--shm-size", "--tmpfs", "--memory", "--memory-swap"),
            *("--pids-limit", "--oom-score-adj", "--ulimit", "--log-driver", "--runtime", "--mount", "--entrypoint"),
        ),
        True,
    ),
}


def fail(message: str, code: int = 1) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(code)


class State:
    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def read(self, name: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.path(name).read_text())
        except FileNotFoundError:
            fail(f"Error response from daemon: No such container: {name}")
        return found

    def write(self, name: str, **changes: Any) -> None:
        path = self.path(name)
        found = json.loads(path.read_text()) if path.exists() else {}
        new = path.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps({**found, **changes}))
        new.rename(path)

    def names(self) -> list[str]:
        return sorted(path.stem for path in self.folder.glob("*.json"))


def log(state: State, arguments: list[str]) -> None:
    with (state.folder / "commands.log").open("a") as file:
        file.write(json.dumps(arguments) + "\n")


# docker


def docker(state: State, arguments: list[str]) -> None:
    verb, *rest = arguments
    if verb == "create":
        docker_create(state, rest)
    elif verb == "start":
        assert rest[:2] == ["--attach", "--interactive"], rest
        sys.exit(through(state, rest[2]))
    elif verb == "inspect":
        assert rest[:4] == ["--type", "container", "--format", "{{json .State}}"], rest
        one = state.read(rest[4])
        said = {key: one[key] for key in ("Status", "ExitCode", "OOMKilled", "Error")}
        print(json.dumps(said))
    elif verb == "kill":
        assert rest[:2] == ["--signal", "TERM"], rest
        end(state, rest[2], signal.SIGTERM)
        print(rest[2])
    elif verb == "rm":
        assert rest[:2] == ["--force", "--volumes"], rest
        for name in rest[2:]:
            remove(state, name)
            print(name)
    elif verb == "ps":
        assert rest[:3] == ["--all", "--filter", "label=countersign.until"], rest
        for name in state.names():
            print(f"{name}\t{state.read(name)['until']}")
    else:
        fail(f"docker: unknown command: docker {verb}")


def docker_create(state: State, rest: list[str]) -> None:
    given: dict[str, list[str]] = {}
    while rest and rest[0].startswith("--"):
        name = rest.pop(0)
        if name not in CREATE:
            fail(f"unknown flag: {name}", 125)
        given.setdefault(name, []).append(rest.pop(0) if CREATE[name] else "")
    image, *more = rest
    if image != IMAGE:
        fail(f"Error response from daemon: No such image: {image}")
    one = {name: values[-1] for name, values in given.items()}
    if one.get("--network") != "none" or "--read-only" not in one or one.get("--cap-drop") != "ALL":
        fail("this stand-in has no container that is so open", 125)
    ulimits = dict(value.split("=") for value in given["--ulimit"])
    uid, gid = one["--user"].split(":")
    state.write(
        one["--name"],
        Status="created",
        ExitCode=0,
        OOMKilled=False,
        Error="",
        until=one["--label"].partition("=")[2],
        argv=[one["--entrypoint"], *more],
        cwd=one["--workdir"],
        uid=int(uid),
        gid=int(gid),
        mounts=[mount(value) for value in given["--mount"]],
        memory_bytes=int(one["--memory"]),
        processes=int(one["--pids-limit"]),
        file_size_bytes=int(ulimits["fsize"].split(":")[0]),
        cpu_s=int(ulimits["cpu"].split(":")[0]),
    )
    print(one["--name"])


def mount(text: str) -> tuple[str, bool]:
    """(path, may it be written)"""
    words = text.split(",")
    fields = dict(word.split("=", 1) for word in words if "=" in word)
    assert fields["type"] == "bind"
    assert fields["source"] == fields["target"], "this stand-in mounts nothing elsewhere"
    if not os.path.exists(fields["source"]):
        fail(f"Error response from daemon: bind source path does not exist: {fields['source']}")
    return fields["target"], "readonly" not in words


# kubectl


def kubectl(state: State, arguments: list[str]) -> None:
    assert arguments[:2] == ["--namespace", "sandboxes"], arguments
    verb, *rest = arguments[2:]
    if verb == "create":
        assert rest == ["--filename", "-"], rest
        pod_create(state, json.load(sys.stdin))
    elif verb == "wait":
        assert rest[0] == "--for=condition=Ready", rest
        state.read(rest[2].removeprefix("pod/"))
    elif verb == "attach":
        assert rest[:4] == ["--stdin", "--quiet", "--container", "command"], rest
        through(state, rest[4])
    elif verb == "get" and rest[0] == "pod":
        assert rest[2:] == ["--output", "json"], rest
        print(json.dumps(pod_status(rest[1], state.read(rest[1]))))
    elif verb == "get":
        assert rest[0] == "pods", rest
        print(json.dumps({"items": [pod_status(name, state.read(name)) for name in state.names()]}))
    elif verb == "delete":
        names = [word for word in rest[1:] if not word.startswith("--")]
        for name in names:
            if "--grace-period=1" in rest:
                end(state, name, signal.SIGTERM)
            else:
                remove(state, name)
    else:
        fail(f'error: unknown command "{verb}" for "kubectl"')


def pod_create(state: State, made: dict[str, Any]) -> None:
    assert (made["apiVersion"], made["kind"]) == ("v1", "Pod")
    spec = made["spec"]
    (container,) = spec["containers"]
    held = spec["securityContext"]
    if not held["runAsNonRoot"] or container["securityContext"]["allowPrivilegeEscalation"]:
        fail('Error from server (Forbidden): violates PodSecurity "restricted:latest"')
    if container["image"] != IMAGE:
        fail("Error from server: ErrImageNeverPull")
    base = os.environ["FAKE_VOLUME"]
    state.write(
        made["metadata"]["name"],
        Status="created",
        ExitCode=0,
        OOMKilled=False,
        Error="",
        until=made["metadata"]["annotations"]["countersign/until"],
        argv=container["command"],
        cwd=container["workingDir"],
        uid=held["runAsUser"],
        gid=held["runAsGroup"],
        mounts=[
            (checked(one, base), not one["readOnly"])
            for one in container["volumeMounts"]
            if one["name"] == "workspaces"
        ],
        memory_bytes=int(container["resources"]["limits"]["memory"]),
        processes=256,
        file_size_bytes=1 << 30,
        cpu_s=3600,
    )
    print(f"pod/{made['metadata']['name']} created")


def checked(one: dict[str, Any], base: str) -> str:
    assert one["mountPath"] == f"{base}/{one['subPath']}"
    return str(one["mountPath"])


def pod_status(name: str, one: dict[str, Any]) -> dict[str, Any]:
    ended = {"exitCode": one["ExitCode"], "reason": "OOMKilled" if one["OOMKilled"] else "Completed"}
    state = {"terminated": ended} if one["Status"] == "exited" else {"running": {}}
    return {
        "metadata": {"name": name, "annotations": {"countersign/until": one["until"]}},
        "status": {"phase": "Running", "containerStatuses": [{"name": "command", "state": state}]},
    }


# containers


def through(state: State, name: str) -> int:
    """Starts the container in a process of the engine's, and carries its input and output until it ends."""
    state.read(name)
    daemon = subprocess.Popen(
        [sys.executable, __file__, "daemon", str(state.folder), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "FROM_THE_IMAGE": "1"},
    )
    assert daemon.stdin and daemon.stdout and daemon.stderr
    pumps = [
        threading.Thread(target=pump, args=(daemon.stdout.fileno(), 1)),
        threading.Thread(target=pump, args=(daemon.stderr.fileno(), 2)),
    ]
    for one in pumps:
        one.start()
    threading.Thread(target=feed, args=(daemon.stdin,), daemon=True).start()
    for one in pumps:
        one.join()
    return daemon.wait()


def feed(pipe: Any) -> None:
    with contextlib.suppress(OSError):
        while part := os.read(0, 65536):
            pipe.write(part)
            pipe.flush()
        pipe.close()


def pump(source: int, target: int) -> None:
    with contextlib.suppress(OSError):
        while part := os.read(source, 65536):
            while part:
                part = part[os.write(target, part) :]


def daemon(state: State, name: str) -> None:
    one = state.read(name)
    state.write(name, Status="running", pid=os.getpid())
    spec = {
        "tier": "ns",
        "argv": one["argv"],
        "env": {"PATH": "/usr/bin:/bin", "FROM_THE_IMAGE": "1"},
        "cwd": one["cwd"],
        "read": [path for path, writes in one["mounts"] if not writes],
        "write": [path for path, writes in one["mounts"] if writes],
        "uid": one["uid"],
        "gid": one["gid"],
        "network": False,
        "worker": os.getpid(),
        "grace_s": 3600.0,
        "leash_s": 3600.0,
        "wall_s": 3600.0,
        "limits": {
            "cpu_s": one["cpu_s"],
            "memory_bytes": one["memory_bytes"],
            "data_bytes": one["memory_bytes"],
            "file_size_bytes": one["file_size_bytes"],
            "open_files": 4096,
            "processes": one["processes"],
        },
    }
    spec_fd = os.memfd_create("spec")
    os.write(spec_fd, json.dumps(spec).encode())
    os.lseek(spec_fd, 0, os.SEEK_SET)
    status_fd, report_fd = os.pipe()
    leash_fd, _ = os.pipe()
    launcher = subprocess.Popen(
        [sys.executable, "-I", "-S", str(LAUNCHER), str(spec_fd), str(report_fd), str(leash_fd)],
        pass_fds=(spec_fd, report_fd, leash_fd),
    )
    for descriptor in (0, 1, 2, report_fd):
        os.close(descriptor)
    facts: dict[str, Any] = {}
    with open(status_fd) as said:
        for line in said:
            facts |= json.loads(line)
    launcher.wait()
    memory = facts.get("ended_by") == "memory"
    code = facts.get("exit")
    code = 137 if memory else 128 + (facts.get("signal") or 9) if code is None else code
    if state.path(name).exists():
        state.write(name, Status="exited", ExitCode=code, OOMKilled=memory, Error=facts.get("setup_error", ""))
    os._exit(code)


def end(state: State, name: str, number: int) -> None:
    for pid in descendants(state.read(name).get("pid", 0))[:1]:  # the launcher, which hands it on
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def remove(state: State, name: str) -> None:
    one = state.read(name)
    state.path(name).unlink()
    for pid in reversed([one["pid"], *descendants(one["pid"])] if "pid" in one else []):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until_s = time.monotonic() + 10
    while "pid" in one and os.path.exists(f"/proc/{one['pid']}/fd/1") and time.monotonic() < until_s:
        time.sleep(0.005)


def main() -> None:
    kind, folder, *arguments = sys.argv[1:]
    state = State(folder)
    if kind == "daemon":
        daemon(state, arguments[0])
        return
    log(state, arguments)
    if (state.folder / "away").exists():
        fail("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?")
    (docker if kind == "docker" else kubectl)(state, arguments)


if __name__ == "__main__":
    main()
