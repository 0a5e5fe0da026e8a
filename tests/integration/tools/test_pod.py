"""The pod tier: the same runs, in containers of an engine. No engine runs here: `fake_engine.py` stands in for it, and
holds its containers by our ns tier; the exact command lines and manifests are checked besides."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from audit.ids import uuid7
from tests.integration.tools import fake_engine
from tests.integration.tools.conftest import need
from tools.box import SandboxBox
from tools.errors import SandboxUnavailable
from tools.pod import config, docker, header, kubernetes, leftovers
from tools.sandbox import probe
from tools.sandbox.probe import TierReport
from tools.sandbox.process import SetupFailed
from tools.spec import Completed, Limits, Workspace
from tools.workspaces import remove, workspace_for

SPEC: dict[str, Any] = {
    "argv": ["true"],
    "cwd": "/w/1/tree",
    "read": ["/w/1/repo.git"],
    "write": ["/w/1/scratch", "/w/1/tree"],
    "uid": 70001,
    "gid": 70001,
    "wall_s": 100.0,
    "limits": {"cpu_s": 9, "memory_bytes": 1 << 30, "file_size_bytes": 1 << 20, "open_files": 64, "processes": 32},
    "pod": {
        "engine": "docker",
        "program": "/usr/bin/docker",
        "image": "countersign/sandbox:1",
        "runtime": "",
        "folders": {"/w": "/srv/w"},
        "base": "/w",
        "claim": "workspaces",
        "namespace": "sandboxes",
    },
}


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The stand-in as the configured engine; gives the folder of its state."""
    need("ns")
    kind = getattr(request, "param", "docker")
    state = tmp_path / "state"
    state.mkdir()
    client = tmp_path / "client"
    words = [sys.executable, fake_engine.__file__, "docker" if kind == "docker" else "kubectl", str(state)]
    volume = f"export FAKE_VOLUME={shlex.quote(str(settings.WORKSPACE_DIR))}\n"
    client.write_text(f'#!/bin/sh\n{volume}exec {shlex.join(words)} "$@"\n')
    client.chmod(0o755)
    before = config.current()
    config.use(
        config.PodConfig(
            engine=kind,
            program=str(client),
            image=fake_engine.IMAGE,
            namespace="sandboxes",
            claim="workspaces",
            base=str(settings.WORKSPACE_DIR),
        )
    )
    # that it holds is tried where that is asked; the other tests go on from there
    probe.forget()
    monkeypatch.setitem(probe._known.reports, ("pod", False), (time.monotonic(), TierReport(name="pod", works=True)))
    monkeypatch.setenv("SANDBOX_TIER", "pod")
    if kind == "kubernetes":  # of the cluster that is not here: nothing there to reach
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    yield state
    config.use(before)
    probe.forget()


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    made = workspace_for(str(uuid7()))
    yield made
    remove(made.id)


def box(workspace: Workspace, **limits: Any) -> SandboxBox:
    return SandboxBox(workspace, limits=Limits(**{"timeout_s": 60.0, **limits}), call_id="test")


def sh(workspace: Workspace, script: str, *, limits: dict[str, Any] | None = None, **more: Any) -> Completed:
    return box(workspace, **(limits or {})).run(["sh", "-c", script], **more)


def commands(state: Path) -> list[list[str]]:
    return [json.loads(line) for line in (state / "commands.log").read_text().splitlines()]


def containers(state: Path) -> list[str]:
    return fake_engine.State(str(state)).names()


def gone(state: Path, timeout_s: float = 30.0) -> None:
    until_s = time.monotonic() + timeout_s
    while containers(state):
        assert time.monotonic() < until_s, "the container is still there"
        time.sleep(0.02)


def test_the_command_line_for_docker_is_exactly_this() -> None:
    made = docker.create_arguments(SPEC, "countersign-1", ["/bin/sh", "-c", "x"])
    until = made.pop(made.index("--label") + 1)
    assert until.startswith("countersign.until=")
    assert shlex.join(made) == (
        "create --interactive --name countersign-1 --hostname sandbox --pull never --label --network none --read-only"
        " --cap-drop ALL --security-opt no-new-privileges --user 70001:70001 --workdir /w/1/tree --init --ipc private"
        " --cgroupns private --shm-size 64m --tmpfs /tmp:rw,exec,nosuid,nodev,size=64m,mode=1777"
        " --memory 1073741824 --memory-swap 1073741824 --pids-limit 32 --oom-score-adj 500 --ulimit cpu=9:9"
        " --ulimit fsize=1048576:1048576 --ulimit nofile=64:64 --ulimit core=0:0 --log-driver none"
        " --mount type=bind,source=/srv/w/1/tree,target=/w/1/tree"
        " --mount type=bind,source=/srv/w/1/scratch,target=/w/1/scratch"
        " --mount type=bind,source=/srv/w/1/repo.git,target=/w/1/repo.git,readonly"
        " --entrypoint /bin/sh countersign/sandbox:1 -c x"
    )
    visor = docker.create_arguments({**SPEC, "pod": {**SPEC["pod"], "runtime": "runsc"}}, "n", ["x"])
    assert visor[visor.index("--runtime") + 1] == "runsc"


@pytest.mark.parametrize("change", [{"uid": 0}, {"gid": 0}, {"write": ["/w/a,readonly"]}])
def test_no_container_runs_as_root_and_no_path_says_more_than_a_path(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"root|mounted"):
        docker.create_arguments({**SPEC, **change}, "n", ["x"])


def test_the_manifest_for_kubernetes_asks_for_no_right_at_all() -> None:
    made = kubernetes.manifest(SPEC, "countersign-1", ["/bin/sh", "-c", "x"])
    inside = made["spec"]
    (container,) = inside["containers"]
    assert inside["automountServiceAccountToken"] is False
    assert inside["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 70001,
        "runAsGroup": 70001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [(one["mountPath"], one.get("subPath"), one.get("readOnly")) for one in container["volumeMounts"]] == [
        ("/tmp", None, None),
        ("/dev/shm", None, None),
        ("/w/1/tree", "1/tree", False),
        ("/w/1/scratch", "1/scratch", False),
        ("/w/1/repo.git", "1/repo.git", True),
    ]
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName", "runtimeClassName"} & set(inside)
    assert "env" not in container
    assert kubernetes.POLICY["spec"]["podSelector"]["matchLabels"].items() <= made["metadata"]["labels"].items()
    assert set(kubernetes.POLICY["spec"]) == {"podSelector", "policyTypes"}, "no rule that lets anything through"
    visor = kubernetes.manifest({**SPEC, "pod": {**SPEC["pod"], "runtime": "gvisor"}}, "n", ["x"])
    assert visor["spec"]["runtimeClassName"] == "gvisor"
    with pytest.raises(ValueError, match="volume"):
        kubernetes.manifest({**SPEC, "read": ["/etc"]}, "n", ["x"])
    with pytest.raises(ValueError, match="root"):
        kubernetes.manifest({**SPEC, "uid": 0}, "n", ["x"])


@pytest.mark.parametrize("name", ["a b", "x;id", "", "A-B", "a\nb"])
def test_the_environment_says_no_more_than_an_environment(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be set"):
        header.header({name: "x"}, SPEC["limits"])


@pytest.mark.parametrize("engine", ["docker", "kubernetes"], indirect=True)
def test_a_command_runs_in_a_container_with_its_input_environment_and_workspace(
    engine: Path, workspace: Workspace
) -> None:
    nasty = 'it\'s "$HOME" `id` $(id)\n\\ two lines ünïcode'
    script = 'cat > file; printf %s "$VALUE"; echo err >&2; echo "[$FROM_THE_IMAGE]" >&2; pwd >&2; exit 7'
    ended = sh(workspace, script, stdin=b"line one\nline two\0" * 9000, env={"VALUE": nasty})
    assert (ended.exit_code, ended.ended_by, ended.tier) == (7, "", "pod")
    assert ended.stdout == nasty
    assert ended.stderr.split("\n")[:3] == ["err", "[]", str(workspace.tree)]
    assert (workspace.tree / "file").read_bytes() == b"line one\nline two\0" * 9000
    gone(engine)
    assert nasty not in (engine / "commands.log").read_text(), "it stands in no argument"
    assert "it's" not in (engine / "commands.log").read_text()


@pytest.mark.parametrize("engine", ["docker", "kubernetes"], indirect=True)
def test_a_profile_that_reads_does_not_write(engine: Path, workspace: Workspace) -> None:
    ended = sh(workspace, "echo x > file && echo written; echo y > ../scratch/y && echo scratch", profile="read")
    assert ended.stdout.split() == ["scratch"]
    assert not (workspace.tree / "file").exists()


def cancelled_once_begun(workspace: Workspace, script: str) -> Completed:
    begun = threading.Event()
    running = SandboxBox(
        workspace,
        limits=Limits(timeout_s=60.0),
        call_id="test",
        on_output=lambda _, text: begun.set() if "begun" in text else None,
        cancelled=begun.is_set,
    )
    return running.run(["sh", "-c", script])


@pytest.mark.parametrize("engine", ["docker", "kubernetes"], indirect=True)
def test_a_command_that_ignores_sigterm_is_gone_in_time_and_what_it_said_is_kept(
    engine: Path, workspace: Workspace
) -> None:
    ended = cancelled_once_begun(workspace, "trap '' TERM; echo begun; while :; do sleep 0.1; done")
    assert ended.ended_by == "cancelled"
    assert ended.stdout == "begun\n"
    gone(engine)


def test_a_command_that_hears_sigterm_ends_by_itself(engine: Path, workspace: Workspace) -> None:
    script = "trap 'echo > ended; exit 3' TERM; echo begun; while :; do sleep 0.05; done"
    assert cancelled_once_begun(workspace, script).ended_by == "cancelled"
    gone(engine)
    signals = [words for words in commands(engine) if words[0] == "kill"]
    assert len(signals) == 1, "it was asked before it was killed"


def test_memory_is_bounded_and_its_end_has_a_name(engine: Path, workspace: Workspace) -> None:
    source = "x = [bytearray(b'x' * (1 << 24)) for _ in range(40)]; import time; time.sleep(60)"
    ended = box(workspace, memory_bytes=200 << 20).run(["python3", "-c", source])
    assert ended.ended_by == "memory" or "MemoryError" in ended.stderr
    gone(engine)


def test_a_signal_is_told_as_one(engine: Path, workspace: Workspace) -> None:
    ended = sh(workspace, "kill -9 $$")
    assert (ended.exit_code, ended.signal) == (None, 9)


@pytest.mark.parametrize("engine", ["docker", "kubernetes"], indirect=True)
def test_the_trial_of_the_tier_really_runs(engine: Path) -> None:
    probe.forget()
    found = probe.report("pod")
    assert (found.works, found.why) == (True, "")
    assert len([words for words in commands(engine) if "create" in words]) == 2
    assert probe.best() == "pod"
    assert not probe.report("pod", network=True).works


def test_what_the_engine_says_is_what_people_read(engine: Path, workspace: Workspace) -> None:
    tried = box(workspace)
    (engine / "away").touch()
    with pytest.raises(SandboxUnavailable, match="Cannot connect to the Docker daemon"):
        tried.run(["true"])
    probe.forget()
    with pytest.raises(SandboxUnavailable, match="pod: Cannot connect"):
        probe.best()


def test_a_tier_that_is_forced_and_not_configured_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_TIER", "pod")
    probe.forget()
    with pytest.raises(SandboxUnavailable, match="POD_ENGINE"):
        probe.best()
    probe.forget()
    assert "pod" not in {one.name for one in probe.tiers()}


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("engine", "rkt", "no engine 'rkt'"),
        ("image", "", "POD_IMAGE"),
        ("program", "no-such-client", "not installed"),
    ],
)
def test_a_half_configuration_says_what_is_missing(engine: Path, field: str, value: str, why: str) -> None:
    current = config.current()
    config.use(config.PodConfig(**{**{name: getattr(current, name) for name in current.__slots__}, field: value}))
    probe.forget()
    assert why in probe.report("pod").why


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
from tools.pod import config
from tools.sandbox.identity import Identity
from tools.sandbox.output import Unfiltered
from tools.sandbox.process import Bounds, Confinement, run
client, tree, uid, gid, image = sys.argv[2:]
config.use(config.PodConfig(engine="docker", program=client, image=image))
run(["sh", "-c", "echo begun; trap '' TERM; while :; do sleep 0.1; done"], cwd=tree, env={"PATH": "/usr/bin:/bin"},
    stdin=b"", confinement=Confinement(tier="pod", identity=Identity(int(uid), int(gid)), read=[], write=[tree],
    memory_bytes=1 << 30, processes=50, file_size_bytes=1 << 20, cpu_s=60),
    bounds=Bounds(timeout_s=60.0, output_head_bytes=99, output_tail_bytes=99, output_kill_bytes=9999),
    redactor=Unfiltered, on_output=lambda _, text: print(text, end="", flush=True))
"""


@pytest.mark.parametrize("launcher_too", [False, True])
def test_a_worker_that_is_killed_leaves_no_container(engine: Path, workspace: Workspace, launcher_too: bool) -> None:
    root = str(Path(fake_engine.__file__).parents[3])
    owner = workspace.tree.stat()
    words = [config.current().program, str(workspace.tree), str(owner.st_uid), str(owner.st_gid), fake_engine.IMAGE]
    worker = subprocess.Popen([sys.executable, "-c", KILLED, root, *words], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    try:
        assert worker.stdout.readline() == "begun\n"
        assert len(containers(engine)) == 1
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        worker.kill()
        for pid in children if launcher_too else []:
            os.kill(int(pid), signal.SIGKILL)
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()
    gone(engine)


@pytest.mark.parametrize("engine", ["docker", "kubernetes"], indirect=True)
def test_what_even_so_is_left_is_found_when_its_time_is_over(engine: Path) -> None:
    state = fake_engine.State(str(engine))
    facts = {"Status": "exited", "ExitCode": 0, "OOMKilled": False, "Error": ""}
    state.write("countersign-old", until=str(int(time.time()) - 5), **facts)
    state.write("countersign-young", until=str(int(time.time()) + 500), **facts)
    assert leftovers.remove_leftovers() == 1
    assert containers(engine) == ["countersign-young"]
    state.path("countersign-young").unlink()
    (engine / "away").touch()
    assert leftovers.remove_leftovers() == 0


def test_an_image_that_is_not_there_is_named(engine: Path, workspace: Workspace) -> None:
    assert probe.report("pod").works
    current = config.current()
    config.use(config.PodConfig(**{**{name: getattr(current, name) for name in current.__slots__}, "image": "other:1"}))
    with pytest.raises((SandboxUnavailable, SetupFailed), match="No such image: other:1"):
        box(workspace).run(["true"])
