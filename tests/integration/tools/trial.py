"""Runs every attack in one tier and prints what came of each as JSON: `python trial.py TIER FOLDER`.

A process of its own, so that it can be another user than the tests; needs the standard library and `tools.sandbox`.
`python trial.py TIER FOLDER hold MARK` starts a family of processes that will not go away, and waits;
`python trial.py TIER FOLDER bounds` says how far a command gets with what is bounded, `python trial.py none FOLDER free`
which attacks get out without a sandbox.
"""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.integration.tools.attacks import ATTACKS, source
from tools.sandbox.environment import base_environment, interpreter_paths, search_path
from tools.sandbox.harden import protect_process
from tools.sandbox.identity import Identity, identity_for
from tools.sandbox.output import Unfiltered
from tools.sandbox.process import Bounds, Confinement, Outcome, run

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
    _give(identity, made)
    return made, identity


def _give(identity: Identity, *paths: Path) -> None:
    if identity.dropped:
        for path in paths:
            os.chown(path, identity.uid, identity.gid, follow_symlinks=False)


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


@dataclass(slots=True)
class Ground:
    """What lies and listens outside of the workspace while the attacks run.

    outside: files of the sandbox's own user, as a careless server would have them; others: of another job's user;
    readable: lent for reading.
    """

    folder: Path
    identity: Identity
    outside: Path
    others: Path
    readable: Path
    victim: "subprocess.Popen[bytes]"
    listening: dict[str, socket.socket]
    abstract: str

    def facts(self, tier: str, inside: Path, mark: str) -> dict[str, object]:
        apart = tier != "ll"
        target = self.outside / "secret" if apart or not self.identity.dropped else self.others / "file"
        return {
            "mark": mark,
            "inside": str(inside),
            "outside": str(self.outside),
            "others": str(self.others / "file"),
            "readable": str(self.readable),
            "target": str(target),
            "mounts": apart,
            "pids": apart,
            "dropped": self.identity.dropped,
            "worker": os.getpid(),
            "victim": self.victim.pid,
            "tcp": self.listening["tcp"].getsockname()[1],
            "udp": self.listening["udp"].getsockname()[1],
            "stream": str(self.folder / "stream"),
            "datagram": str(self.folder / "datagram"),
            "abstract": self.abstract,
        }

    def state(self) -> dict[str, object]:
        """Everything that must be the same after an attack."""
        found: dict[str, object] = {}
        for root in (self.outside, self.others, self.readable):
            for path in (root, *sorted(root.rglob("*"))):
                found[str(path.relative_to(self.folder))] = _about(path)
        for place_ in ("/", "/etc", "/usr", "/usr/bin", "/var", "/dev"):
            found[f"planted in {place_}"] = os.path.lexists(f"{place_}/countersign-attack")
        for name, pid in (("worker", os.getpid()), ("bystander", self.victim.pid)):
            found[f"priority of the {name}"] = os.getpriority(os.PRIO_PROCESS, pid)
            found[f"processors of the {name}"] = len(os.sched_getaffinity(pid))
            found[f"class of the {name}"] = os.sched_getscheduler(pid)
            found[f"limits of the {name}"] = Path(f"/proc/{pid}/limits").read_text()
        found["descriptors of the worker"] = len(os.listdir("/proc/self/fd")) if os.geteuid() == 0 else 0
        return found

    def arrived(self) -> list[str]:
        """At which sockets something came."""
        names = []
        for name, listening in self.listening.items():
            with contextlib.suppress(BlockingIOError):
                if name in ("tcp", "stream", "abstract stream"):
                    listening.accept()[0].close()
                else:
                    listening.recv(100)
                names.append(name)
        return names


def _about(path: Path) -> list[object]:
    fact = path.lstat()
    content = ""
    if path.is_symlink():
        content = os.readlink(path)
    elif path.is_file():
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    attributes = []
    with contextlib.suppress(OSError):
        names = os.listxattr(path, follow_symlinks=False)
        attributes = [(name, os.getxattr(path, name, follow_symlinks=False).hex()) for name in sorted(names)]
    owner = [fact.st_mode, fact.st_uid, fact.st_gid, fact.st_nlink, fact.st_size]
    return [content, *owner, fact.st_mtime_ns, fact.st_ctime_ns, attributes]


@contextlib.contextmanager
def ground(folder: Path) -> Iterator[Ground]:
    with contextlib.ExitStack() as stack:
        outside, identity = place(folder, "outside")
        readable, _ = place(folder, "readable")
        (readable / "given").write_text("given")
        for name in ("home/.ssh", "home/.aws", "empty"):
            (outside / name).mkdir(parents=True)
        for name in ("secret", ".env", "home/.ssh/id_ed25519", "home/.netrc", "home/.aws/credentials"):
            (outside / name).write_text("SECRET")
        with contextlib.suppress(OSError):
            os.setxattr(outside / "secret", "user.kept", b"kept")
        (outside / "program").write_text("#!/bin/sh\necho ran\n")
        (outside / "program").chmod(0o755)
        (outside / "pointer").symlink_to("secret")
        _give(identity, readable / "given", *outside.rglob("*"))
        others = folder / "others"  # of another workspace's user, where users differ
        others.mkdir(mode=0o755)
        (others / "file").write_text("of another")
        _give(identity_for("another"), others / "file")
        abstract = f"countersign-{uuid.uuid4()}-"
        listening = {
            "tcp": stack.enter_context(socket.create_server(("127.0.0.1", 0))),
            "udp": stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
        }
        listening["udp"].bind(("127.0.0.1", 0))
        for name, kind in (("stream", socket.SOCK_STREAM), ("datagram", socket.SOCK_DGRAM)):
            for prefix, address in (("", str(folder / name)), ("abstract ", f"\0{abstract}{name}")):
                made = listening[prefix + name] = stack.enter_context(socket.socket(socket.AF_UNIX, kind))
                made.bind(address)
                if kind == socket.SOCK_STREAM:
                    made.listen()
            (folder / name).chmod(0o777)
        for each in listening.values():
            each.setblocking(False)
        leaked = os.open(outside / "secret", os.O_RDWR)
        os.set_inheritable(leaked, True)
        stack.callback(os.close, leaked)
        victim = subprocess.Popen(
            ["sleep", "1000"],
            env={"SECRET": "SECRET"},
            start_new_session=True,
            **({"user": identity.uid, "group": identity.gid, "extra_groups": []} if identity.dropped else {}),
        )
        stack.callback(victim.wait)
        stack.callback(victim.kill)
        yield Ground(folder, identity, outside, others, readable, victim, listening, abstract)


def trial(tier: str, folder: Path) -> dict[str, dict[str, object]]:
    results = {}
    with ground(folder) as around:
        before = around.state()
        for name in sorted(ATTACKS):
            inside, identity = place(folder, f"inside-{name}")
            mark = f"mark-{uuid.uuid4()}"
            ended = run_python(
                source(name),
                name,
                json.dumps(around.facts(tier, inside, mark)),
                inside=inside,
                confinement=confined(tier, identity, write=inside, read=around.readable),
            )
            left = commands_with(mark)
            after = around.state()
            results[name] = {
                "through": ended.exit_code == 0 and ended.stdout.rstrip().endswith("tried"),
                "escaped": [line for line in ended.stdout.splitlines() if line.startswith("ESCAPED")],
                "changed": sorted(key for key in {*before, *after} if before.get(key) != after.get(key)),
                "arrived": around.arrived(),
                "left": left,
                "victim_lives": around.victim.poll() is None,
                "clean": ended.clean,
                "said": (ended.stdout + ended.stderr)[-1500:],
                "exit": [ended.exit_code, ended.signal, ended.ended_by],
            }
            before = after
    return results


def free(folder: Path) -> list[str]:
    """Which attacks get out where nothing holds them but being another user; for root."""
    out = []
    for name in sorted(set(ATTACKS) - UNFIT_FOR_FREEDOM):
        within = folder / name
        within.mkdir(mode=0o711)
        with ground(within) as around:
            before = around.state()
            inside, identity = place(within, "inside")
            ended = subprocess.run(
                [
                    str(shutil.which("python3", path=search_path())),
                    "-I",
                    "-S",
                    "-",
                    name,
                    json.dumps(around.facts("ns", inside, name)),
                ],
                input=source(name),
                stdout=subprocess.PIPE,
                check=False,
                timeout=60,
                cwd=inside,
                env={"SECRET": "SECRET", "PATH": "/usr/bin:/bin"},
                close_fds=False,
                user=identity.uid,
                group=identity.gid,
                extra_groups=[],
            )
            unlike = around.state() != before or around.arrived() or around.victim.poll() is not None
            if b"ESCAPED" in ended.stdout or unlike:
                out.append(name)
    return out


# They would end or outlive more than themselves.
UNFIT_FOR_FREEDOM = {"against_the_supervisor", "daemons", "respawners"}


def commands_with(mark: str) -> list[str]:
    """Command lines on this machine that hold the mark, without the worker's own."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                state = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            if mark in line and "trial.py" not in line and state != "Z":
                found.append(line[:200])
    return found


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


_FORKS = b"""
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
_FAMILY = b"""
import os, time
for _ in range(6):
    if os.fork() == 0:
        break
x = bytearray(b"x") * (60 << 20)
time.sleep(30)
"""
_ALONE = b"x = bytearray(400 << 20)"
_BIG_FILE = b"""
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with open("big", "wb") as big:
    try:
        for _ in range(64):
            big.write(bytes(1 << 20))
            big.flush()
    except OSError:
        print("bound")
"""
_FILES = b"""
import os, resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
for name in ("NOFILE", "NPROC", "FSIZE", "CPU", "DATA", "CORE"):
    which = getattr(resource, "RLIMIT_" + name)
    try:
        resource.setrlimit(which, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print("raised", name)
    except (OSError, ValueError):
        pass
try:
    for _ in range(100_000):
        os.dup(0)
except OSError:
    print("bound")
"""
_BUSY = b"while True: pass"
_FLOOD = b"import os\nwhile True: os.write(1, b'x' * 60000)"
_SLEEP = b"import time\nprint('begun', flush=True)\ntime.sleep(1000)"


def bounds(tier: str, folder: Path) -> dict[str, str]:
    """What met each bound, in a word: "" where it held, else what happened."""
    inside, identity = place(folder, "inside")

    def told(source: bytes, right: Callable[[Outcome], bool], changes: dict[str, int], limits: Bounds = BOUNDS) -> str:
        confinement = confined(tier, identity, write=inside, **changes)
        ended = run_python(source, inside=inside, confinement=confinement, bounds=limits)
        return "" if right(ended) and ended.clean else repr(ended)[:1000]

    short = Bounds(timeout_s=0.7, output_head_bytes=1000, output_tail_bytes=1000, output_kill_bytes=1 << 20)
    little = Bounds(timeout_s=30.0, output_head_bytes=1000, output_tail_bytes=1000, output_kill_bytes=1 << 20)
    few = {"memory_bytes": 200 << 20}
    found = {"processes": told(_FORKS, lambda e: 20 <= int(e.stdout or -1) <= 60, {"processes": 40})}
    side_by_side = {
        "memory of one": (_ALONE, lambda e: e.exit_code != 0, few),
        "memory of all": (_FAMILY, lambda e: e.ended_by == "memory", few),
        "a file's size": (_BIG_FILE, lambda e: e.stdout == "bound\n", {"file_size_bytes": 2 << 20}),
        "open files, and raising a bound": (_FILES, lambda e: e.stdout == "bound\n", {"open_files": 64}),
        "processor": (_BUSY, lambda e: e.signal == 24, {"cpu_s": 1}),
        "output": (_FLOOD, lambda e: e.ended_by == "output_limit" and len(e.stdout) < 3000, {}, little),
        "time": (_SLEEP, lambda e: e.ended_by == "timeout" and e.stdout in ("", "begun\n"), {}, short),
    }
    with ThreadPoolExecutor(4) as pool:
        running = {name: pool.submit(told, *what) for name, what in side_by_side.items()}
        found |= {name: future.result() for name, future in running.items()}
    if (inside / "big").stat().st_size > 2 << 20:
        found["a file's size"] = "the file is too big"
    return found


def main() -> None:
    tier, base = sys.argv[1], Path(sys.argv[2])
    protect_process()
    folder = Path(tempfile.mkdtemp(dir=base))
    folder.chmod(0o711)
    try:
        if sys.argv[3:4] == ["hold"]:
            hold(tier, folder, sys.argv[4])
        elif sys.argv[3:4] == ["free"]:
            print(json.dumps(free(folder)))
        elif sys.argv[3:4] == ["bounds"]:
            print(json.dumps(bounds(tier, folder)))
        else:
            print(json.dumps(trial(tier, folder)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
