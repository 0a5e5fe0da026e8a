"""Runs every attack in one tier and prints what came of each as JSON: `python trial.py TIER FOLDER`.

A process of its own, so that it can be another user than the tests; needs the standard library and `tools.sandbox`.
`python trial.py TIER FOLDER hold MARK` starts a family of processes that will not go away, and waits;
`python trial.py TIER FOLDER bounds` says how far a command gets with processes and memory.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.integration.tools.attacks import ATTACKS
from tools.sandbox.environment import base_environment, interpreter_paths
from tools.sandbox.harden import protect_process
from tools.sandbox.identity import Identity, identity_for
from tools.sandbox.output import Unfiltered
from tools.sandbox.process import Bounds, Confinement, Outcome, run

SOURCE = Path(__file__).with_name("attacks.py").read_bytes()
BOUNDS = Bounds(timeout_s=30.0, output_head_bytes=32768, output_tail_bytes=32768, output_kill_bytes=8 << 20)

# A daemon that ignores SIGTERM, in a session of its own, that keeps the pipes open; and one that starts itself anew.
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        print("ready", flush=True)
        while True:
            time.sleep(1)
    os._exit(0)
os.wait()
if os.fork() == 0:
    os.setsid()
    while True:
        if os.fork():
            os._exit(0)
        time.sleep(0.001)
if sys.argv[2] == "stay":
    while True:
        time.sleep(1)
"""


def place(folder: Path, name: str) -> tuple[Path, Identity]:
    """A new folder `name` that belongs to the sandbox's user."""
    identity = identity_for(folder.name)
    made = folder / name
    made.mkdir(mode=0o700)
    if identity.dropped:
        os.chown(made, identity.uid, identity.gid)
    return made, identity


def confined(tier: str, identity: Identity, *, write: Path, read: Path | None = None, **changes: int) -> Confinement:
    given = {"memory_bytes": 512 << 20, "processes": 64, "file_size_bytes": 16 << 20, "cpu_s": 60, **changes}
    return Confinement(
        tier=tier,
        identity=identity,
        read=[*([str(read)] if read else []), *interpreter_paths()],
        write=[str(write)],
        **given,
    )


def run_python(source: bytes, *arguments: str, inside: Path, confinement: Confinement, **more: object) -> Outcome:
    options: dict = {"bounds": BOUNDS, **more}
    return run(
        ["python3", "-I", "-S", "-", *arguments],
        cwd=str(inside),
        env=base_environment(home=inside, scratch=inside),
        stdin=source,
        confinement=confinement,
        redactor=Unfiltered,
        **options,
    )


def trial(tier: str, folder: Path) -> dict[str, dict[str, object]]:
    results = {}
    with contextlib.ExitStack() as stack:
        outside, identity = place(folder, "outside")
        secret = outside / "secret"
        secret.write_text("secret")
        readable, _ = place(folder, "readable")
        (readable / "given").write_text("given")
        if identity.dropped:
            for path in (secret, readable / "given"):
                os.chown(path, identity.uid, identity.gid)
        others = folder / "others"  # of another workspace's user, where users differ
        others.mkdir(mode=0o755)
        (others / "file").write_text("of another")
        stranger = identity_for("another")
        if stranger.dropped:
            os.chown(others / "file", stranger.uid, stranger.gid)
        before = _state(outside)
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(str(outside / "socket"))
        before["socket"] = _state(outside)["socket"]
        leaked = os.open(secret, os.O_RDWR)
        os.set_inheritable(leaked, True)
        stack.callback(os.close, leaked)
        victim = subprocess.Popen(
            ["sleep", "1000"],
            env={"SECRET": "SECRET"},
            **({"user": identity.uid, "group": identity.gid, "extra_groups": []} if identity.dropped else {}),
        )
        stack.callback(victim.wait)
        stack.callback(victim.kill)
        for name in ATTACKS:
            inside, _ = place(folder, f"inside-{name}")
            facts = {
                "inside": str(inside),
                "outside": str(outside),
                "others": str(others / "file"),
                "readable": str(readable),
                "mounts": tier != "ll",
                "worker": os.getpid(),
                "victim": victim.pid,
                "tcp": tcp.getsockname()[1],
            }
            ended = run_python(
                SOURCE,
                name,
                json.dumps(facts),
                inside=inside,
                confinement=confined(tier, identity, write=inside, read=readable),
            )
            after = _state(outside)
            results[name] = {
                "through": ended.exit_code == 0 and ended.stdout.rstrip().endswith("tried"),
                "escaped": [line for line in ended.stdout.splitlines() if line.startswith("ESCAPED")],
                "changed": sorted(key for key in {*before, *after} if before.get(key) != after.get(key)),
                "victim_lives": victim.poll() is None,
                "clean": ended.clean,
                "said": (ended.stdout + ended.stderr)[-1500:],
                "exit": [ended.exit_code, ended.signal, ended.ended_by],
            }
            before = after
    return results


def _state(folder: Path) -> dict[str, tuple[int, ...]]:
    facts = {path.name: path.stat() for path in folder.iterdir()}
    return {name: (fact.st_mode, fact.st_size, fact.st_mtime_ns, fact.st_nlink) for name, fact in facts.items()}


def hold(tier: str, folder: Path, mark: str) -> None:
    inside, identity = place(folder, "inside")
    run_python(
        STUBBORN.encode(),
        mark,
        "stay",
        inside=inside,
        confinement=confined(tier, identity, write=inside),
        on_output=lambda _, text: print(text, end="", flush=True),
    )


FORKS = b"""
import os, time
made = 0
try:
    while made < 500:
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        made += 1
except BlockingIOError:
    print(made)
"""
FAMILY = b"""
import os, time
for _ in range(6):
    if os.fork() == 0:
        break
x = bytearray(b"x") * (60 << 20)
time.sleep(30)
"""


def bounds(tier: str, folder: Path) -> dict[str, object]:
    """How many processes a command could start of 40, and what ended one that takes 420 MiB of 200."""
    inside, identity = place(folder, "inside")
    forks = run_python(FORKS, inside=inside, confinement=confined(tier, identity, write=inside, processes=40))
    few = confined(tier, identity, write=inside, memory_bytes=200 << 20)
    memory = run_python(FAMILY, inside=inside, confinement=few)
    return {"forks": int(forks.stdout or -1), "memory": memory.ended_by, "clean": forks.clean and memory.clean}


def main() -> None:
    tier, base = sys.argv[1], Path(sys.argv[2])
    protect_process()
    folder = Path(tempfile.mkdtemp(dir=base))
    folder.chmod(0o711)
    try:
        if sys.argv[3:4] == ["hold"]:
            hold(tier, folder, sys.argv[4])
        elif sys.argv[3:4] == ["bounds"]:
            print(json.dumps(bounds(tier, folder)))
        else:
            print(json.dumps(trial(tier, folder)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
