"""What runs unasked does no more than was judged: the commands really run, in the sandbox, and a tracer looks on.

Level "low" and "medium" run unasked under the default policy. A command that runs the workspace's own code
(`Reading.code`) says so, and is left out: what such code does, no word tells.
"""

import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from tests.corpus.commands import cases
from tests.integration.tools import oracle
from tools import commands
from tools.builtin import script
from tools.commands import Reading, known
from tools.sandbox import probe
from tools.spec import Risk

STRACE = "/usr/bin/strace"
CALLS = "execve,execveat,socket,connect,sendto,open,openat,openat2,creat,unlink,unlinkat,rename,renameat,renameat2," \
    "mkdir,mkdirat,rmdir,link,linkat,symlink,symlinkat,truncate,chmod,fchmodat,chown,lchown,fchownat,utimensat"  # fmt: skip
CHANGES = frozenset(CALLS.split(",")) - {"execve", "execveat", "socket", "connect", "sendto"}
LINE = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)")
WORD = re.compile(r'"((?:[^"\\]|\\.)*)"')
# Looked up by the C library, not by the command: who a user is, and where messages stand.
SYSTEM = ("/dev/null", "/dev/tty", "/proc/self/", "/dev/pts/", "/dev/shm/")
GENERATED = 40


def read(text: str) -> Reading | None:
    parsed = script.parse(text)
    return None if parsed.opaque else commands.read(parsed.commands)


def unasked(text: str) -> bool:
    found = read(text)
    return found is not None and found.risk is not Risk.HIGH and not found.code


def generated() -> Iterator[str]:
    """Lines of the corpus with words exchanged, added and taken away: the same ones each time."""
    chance = random.Random(2606)
    lines = [script.parse(text).commands for _, text, _ in cases() if not script.parse(text).opaque]
    words = sorted({word for line in lines for argv in line for word in argv[1:]})
    found: set[str] = set()
    for _ in range(20_000):
        argv = list(chance.choice(chance.choice(lines)))
        for _ in range(chance.randint(1, 2)):
            place = chance.randint(1, len(argv))
            argv[place : place + chance.randint(0, 1)] = [chance.choice(words)] * chance.randint(0, 1)
        text = shlex.join(argv)
        if text not in found and unasked(text) and not is_slow(argv):
            found.add(text)
            yield text
        if len(found) >= GENERATED:
            return


def is_slow(argv: list[str]) -> bool:
    return argv[0] in ("sleep", "yes", "terraform", "cargo", "go", "npm", "ruff", "black") or not shutil.which(argv[0])


def furnish(folder: Path, found: Reading) -> None:
    """A small project, and the files that the command names."""
    folder.mkdir()
    (folder / "src").mkdir()
    (folder / "src" / "app.py").write_text("def main():\n    return 1  # TODO error\n")
    for name in ("README.md", "x", "a", "b", "old.txt", "new.txt"):
        (folder / name).write_text(f"one 1\ntwo 200 error\n# {name}\none 1\n")
    (folder / "data.json").write_text('{"items": [{"name": "x"}], "version": 1}')
    with tarfile.open(folder / "dist.tar.gz", "w:gz") as archive:
        archive.add(folder / "README.md", "packed.md")
    for path in found.reads:
        place = folder / path
        if path.startswith(("/", "~")) or ".." in path or place.exists() or len(path) > 100 or "\n" in path:
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if "." in place.name:
            shutil.copy(folder / ("data.json" if place.suffix == ".json" else "README.md"), place)
            if place.suffix in (".tgz", ".gz"):
                shutil.copy(folder / "dist.tar.gz", place)
        else:
            place.mkdir()


def state(folder: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in folder.rglob("*"):
        facts = path.lstat()
        what = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (facts.st_mode, what)
    return found


def expected(path: str, found: Reading) -> bool:
    """May this path of the work tree have changed? Folders on the way to what is made, and what lies below it, too."""
    for write in found.writes:
        given, real = PurePosixPath(write).parts, PurePosixPath(path).parts
        if write == "." or real[: len(given)] == given or given[: len(real)] == real:
            return True
    return False


def helpers(found: Reading) -> set[str]:
    programs = {PurePosixPath(name).name for name in found.programs or ()}
    specified = [program for name in programs if (program := known(name)) is not None]
    return {"sh", *programs, *(helper for program in specified for helper in program.helpers)}


def deeds(trace: str) -> dict[int, list[tuple[str, str]]]:
    """By case: (call, line) of what its processes tried."""
    found: dict[int, list[tuple[str, str]]] = {}
    case = None
    for line in trace.splitlines():
        mark = line.find(oracle.MARK)
        if mark >= 0 and "open" in line:
            rest = re.match(r"\d+", line[mark + len(oracle.MARK) :])
            case = int(rest[0]) if rest else None
            continue
        call = LINE.match(line)
        if case is not None and call is not None and "resumed>" not in line:
            found.setdefault(case, []).append((call[2], line))
    return found


def more_than_judged(folder: Path, found: Reading, done: list[tuple[str, str]]) -> list[str]:
    """What the tracer saw that the reading does not say; changes within the folder are compared apart."""
    wrong = []
    allowed, scratch = helpers(found), str(folder.parent / oracle.SCRATCH)
    for call, line in done:
        named = WORD.findall(line)
        if call in ("execve", "execveat") and named:
            name = PurePosixPath(named[0]).name
            if name not in allowed or named[0].startswith(str(folder)):
                wrong.append(f"runs {named[0]}")
        elif call in ("connect", "sendto", "socket") and re.search(r"AF_INET|AF_NETLINK|AF_PACKET|AF_VSOCK", line):
            if not found.network:
                wrong.append(f"speaks to others: {line[:200]}")
        elif call in CHANGES:
            if call.startswith("open") and not re.search(r"O_(?:WRONLY|RDWR|CREAT|TRUNC)", line):
                continue
            for path in named[:2]:
                if path.startswith("/") and not path.startswith((str(folder), scratch, *SYSTEM)):
                    wrong.append(f"changes {path}")
    return wrong


@pytest.fixture
def place() -> Iterator[Path]:
    base = Path(
        tempfile.mkdtemp(prefix="countersign-oracle-", dir="/var/tmp" if os.access("/var/tmp", os.W_OK) else None)
    )
    base.chmod(0o755)
    yield base
    shutil.rmtree(base, ignore_errors=True)


def watched(place: Path, lines: list[str]) -> list[tuple[str, list[str]]]:
    """Runs the lines under the tracer: what each did beyond its reading."""
    if not any(report.works for report in probe.tiers()):
        pytest.skip("no tier of the sandbox works here")
    tree = place / "tree"
    (tree / oracle.SCRATCH).mkdir(parents=True)
    readings = [found for line in lines if (found := read(line)) is not None]
    given = []
    for number, (line, found) in enumerate(zip(lines, readings, strict=True)):
        furnish(tree / str(number), found)
        given.append({"text": script.parse(line).text, "folder": str(tree / str(number))})
    before = [state(Path(case["folder"])) for case in given]
    listed, log = place / "cases.json", place / "trace"
    listed.write_text(json.dumps(given))
    traced = subprocess.run(
        [STRACE, "-f", "-qq", "-s", "400", "-e", f"trace={CALLS}", "-e", "signal=none", "-o", str(log), sys.executable,
         oracle.__file__, probe.best(), str(tree), str(listed)],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    if "ptrace" in traced.stderr and "ermitted" in traced.stderr:
        pytest.skip("processes cannot be traced here")
    assert traced.stdout.startswith("done"), traced.stdout + traced.stderr
    done = deeds(log.read_text(errors="replace"))
    if not done and os.geteuid() != 0:
        pytest.skip("a tracer without rights sees no names here")
    assert len(done) == len(lines)
    wrong = []
    for number, (line, found) in enumerate(zip(lines, readings, strict=True)):
        folder = Path(given[number]["folder"])
        after = state(folder)
        changed = {path for path in {*before[number], *after} if before[number].get(path) != after.get(path)}
        beyond = [f"changed {path}" for path in sorted(changed) if not expected(path, found)]
        beyond += more_than_judged(folder, found, done[number])
        if beyond:
            wrong.append((line, beyond))
    return wrong


needs_tracer = pytest.mark.skipif(not os.access(STRACE, os.X_OK), reason="there is no strace here")


@needs_tracer
def test_what_runs_unasked_does_no_more_than_was_judged(place: Path) -> None:
    lines = [text for _, text, _ in cases() if unasked(text)]
    lines = [text for text in lines if not any(is_slow(list(argv)) for argv in script.parse(text).commands)]
    assert len(lines) >= 60
    assert watched(place, [*lines, *generated()]) == []


@needs_tracer
def test_the_tracer_sees_what_a_wrong_judgement_would_let_through(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle itself: commands that do more than a harmless reading says are found out."""
    harmless = Reading(risk=Risk.LOW, reasons=(), programs=("sort",))
    monkeypatch.setattr(sys.modules[__name__], "read", lambda text: harmless)
    lines = [
        "sort -o made x",
        "sort -S 1b --compress-program=id x x x x",
        "touch /etc/made",
        "python3 -c 'import socket; socket.socket()'",
    ]
    found = dict(watched(place, lines))
    assert found[lines[0]] == ["changed made"]
    assert any("/etc/made" in one for one in found[lines[2]])
    assert any("AF_INET" in one for one in found[lines[3]])
