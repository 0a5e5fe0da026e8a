"""From a clean clone: one command, and the demo waits for an approval. As root and as an unprivileged user."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from config.devstack.linux import die_with_parent
from config.devstack.places import REPOSITORY, free_port
from tests.stack import clean_environment, remove_tree, wait_until

UNPRIVILEGED = "nobody"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HAS_PYTHON = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"


@dataclass
class Person:
    """Somebody who types the commands. `change`: what Popen needs to become that user."""

    name: str
    environ: dict[str, str]
    change: dict[str, Any] = field(default_factory=dict)

    def run(self, *argv: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            cwd=cwd,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            **self.change,
            **options,
        )


def ourselves(home: Path) -> Person:
    return Person(pwd.getpwuid(os.geteuid()).pw_name, {**clean_environment(), "HOME": str(home)})


def somebody_unprivileged(home: Path) -> Person:
    entry = pwd.getpwnam(UNPRIVILEGED)
    environ = {**clean_environment(), "HOME": str(home), "PATH": SYSTEM_PATH}
    person = Person(UNPRIVILEGED, environ, {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []})
    found = [name for name in ("python3.13", "python3.12", "python3.11", "python3") if _works(person, name)]
    if not found:
        pytest.skip(f"{UNPRIVILEGED} finds no Python 3.11 with venv on {SYSTEM_PATH}")
    return person


def _works(person: Person, python: str) -> bool:
    if shutil.which(python, path=SYSTEM_PATH) is None:
        return False
    return person.run(python, "-c", HAS_PYTHON, cwd=Path("/")).returncode == 0


@pytest.fixture(params=["ourselves", "unprivileged"])
def person(request: pytest.FixtureRequest, shared_tmp: Path) -> Person:
    home = shared_tmp / f"home-{request.param}"
    home.mkdir(mode=0o755)
    if request.param == "ourselves":
        return ourselves(home)
    if os.geteuid() != 0:
        pytest.skip("we are unprivileged ourselves, so the test above was this one")
    found = somebody_unprivileged(home)
    os.chown(home, found.change["user"], found.change["group"])
    return found


@pytest.fixture
def clone(person: Person, shared_tmp: Path) -> Iterator[Path]:
    folder = shared_tmp / f"clone-{person.name}"
    subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(folder)], check=True, capture_output=True)
    if person.change:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, person.change["user"], person.change["group"], follow_symlinks=False)
    yield folder
    remove_tree(folder)


@pytest.mark.stack
@pytest.mark.timeout(600)
def test_from_a_clean_clone_one_command_brings_the_demo_to_its_approval(person: Person, clone: Path) -> None:
    port, us = free_port(), os.getpid()
    output = clone.parent / f"{clone.name}.out"
    with output.open("wb") as out:
        up = subprocess.Popen(
            ["bin/up", "--port", str(port)],
            cwd=clone,
            env=person.environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(us, signal.SIGTERM),
            **person.change,
        )
    try:
        wait_until(
            lambda: up.poll() is not None or "and watch the job: http" in output.read_text(),
            timeout_s=400,
            why="the demo asks",
        )
        said = output.read_text()
        assert up.poll() is None, said
        assert "development, not production" in said
        found = re.search(rf"http://127\.0\.0\.1:{port}/approvals/[0-9a-f-]{{36}}/", said)
        assert found, said
        assert "Traceback" not in said
        doctor = person.run("bin/manage", "doctor", cwd=clone, timeout=120)
        assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    finally:
        up.send_signal(signal.SIGINT)
        try:
            up.wait(60)
        except subprocess.TimeoutExpired:
            up.kill()
    assert up.returncode == 0
    assert person.run("git", "status", "--porcelain", cwd=clone).stdout == "", "a start leaves the clone clean"

    began = time.monotonic()
    again = person.run("bin/up", "--detach", "--no-demo", "--port", str(port), cwd=clone, timeout=120)
    took_s = time.monotonic() - began
    down = person.run("bin/down", cwd=clone, timeout=120)
    assert (again.returncode, down.returncode) == (0, 0), again.stdout + again.stderr + down.stderr
    assert took_s < 25, f"the second start took {took_s:.1f} s"


def test_without_python_3_11_bin_up_says_so_in_one_line(shared_tmp: Path) -> None:
    """With a PATH that has the shell's tools and no Python."""
    tools = shared_tmp / "no-python"
    tools.mkdir()
    for name in ("bash", "dirname", "env", "rm", "grep"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    clone = shared_tmp / "clone-without"
    subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(clone)], check=True, capture_output=True)
    done = subprocess.run(
        ["bin/up"],
        cwd=clone,
        env={"PATH": str(tools)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "countersign: Python 3.11 or newer is needed, and none was found "
        "(tried python3.13, python3.12, python3.11, python3)."
    ]
    assert not (clone / ".venv").exists()


def test_an_install_that_was_broken_off_is_done_again(shared_tmp: Path) -> None:
    """The stamp is written last: without it, or for other contents, pip runs again."""
    clone = shared_tmp / "clone-broken-off"
    subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(clone)], check=True, capture_output=True)
    for text in (clone / "requirements").glob("*.txt"):
        text.write_text("# nothing to install\n")
    script = '. bin/environment.sh; ensure_environment "$1"'

    def ensure(name: str) -> str:
        done = subprocess.run(
            ["bash", "-ec", script, "x", name],
            cwd=clone,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    assert "Making .venv" in ensure("dev")
    assert ensure("dev") == ""
    assert "Installing requirements/test.txt" in ensure("test")
    assert ensure("dev") == "", "the tests' environment holds what bin/up needs"
    (clone / "requirements" / "dev.txt").write_text("# changed\n")
    assert "Installing requirements/dev.txt" in ensure("dev")
    (clone / ".venv" / "installed").unlink()
    assert "Installing" in ensure("dev")
    (clone / "requirements" / "dev.txt").write_text("no-such-package-anywhere==1 --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        ensure("dev")
    assert failed.value.returncode == 2
    assert (
        failed.value.stderr.splitlines()[-1]
        == "countersign: pip could not install requirements/dev.txt; see the lines above."
    )
    assert not (clone / ".venv" / "installed").exists()
