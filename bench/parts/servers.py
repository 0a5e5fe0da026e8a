"""PostgreSQL, Redis and programs for a bench, in a folder of their own; all of them end with the bench."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from config.devstack import prepare
from config.devstack.linux import die_with_parent
from config.devstack.places import REPOSITORY
from config.devstack.postgres import Postgres
from config.devstack.redis import Redis
from config.devstack.testrun import NOT_HANDED_ON

TICKS = os.sysconf("SC_CLK_TCK")
_MIGRATE = "import django, sys; django.setup(); from config.devstack import prepare; prepare.migrate(sys.argv[1])"


class Servers:
    """`with Servers() as servers:` fsync is on, as in production; the application's role owns nothing, too.

    environ: what programs of ours need to find everything.
    """

    def __init__(self, **environ: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="countersign-bench-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.postgres = Postgres(self.folder / "postgres")
        self.redis = Redis(self.folder / "redis")
        self._more = environ
        self._programs: list[subprocess.Popen[bytes]] = []
        self.environ: dict[str, str] = {}

    def __enter__(self) -> "Servers":
        try:
            self.postgres.launch()
            self.redis.launch()
            self.postgres.wait()
            self.redis.wait()
            prepare.make_role_and_database(self.postgres, app_password="bench")
            self.environ = self._environment()
            os.environ.update(self.environ)
            owner_url = self.postgres.url(prepare.DATABASE)
            with (self.folder / "migrate.log").open("wb") as out:
                subprocess.run(
                    [sys.executable, "-c", _MIGRATE, owner_url],
                    cwd=REPOSITORY,
                    env=self.environ,
                    stdout=out,
                    check=True,
                )
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.end(*self._programs)
        self.redis.stop()
        self.postgres.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def program(self, name: str, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
        """Starts `python -m …`; its output goes to `<folder>/<name>.log`."""
        us = os.getpid()
        with (self.folder / f"{name}.log").open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=REPOSITORY,
                env={**self.environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(us),
            )
        self._programs.append(process)
        return process

    def end(self, *processes: subprocess.Popen[bytes]) -> None:
        """Asks all, waits, insists."""
        living = [process for process in processes if process.poll() is None]
        for process in living:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in living:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    @property
    def postgres_pid(self) -> int:
        assert self.postgres.process is not None
        return self.postgres.process.pid

    @property
    def redis_pid(self) -> int:
        assert self.redis.process is not None
        return self.redis.process.pid

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in NOT_HANDED_ON}
        return {
            **kept,
            "DATABASE_URL": self.postgres.url(prepare.DATABASE, user=prepare.APP_ROLE, password="bench"),
            "REDIS_URL": self.redis.url(),
            "SECRET_KEY": "of-a-bench-that-keeps-nothing-0123456789abcdef",
            "COUNTERSIGN_DATA_DIR": str(self.folder / "data"),
            "COUNTERSIGN_WORKSPACE_DIR": str(self.folder / "workspaces"),
            "DJANGO_SETTINGS_MODULE": "config.settings.dev",
            "JOBS_QUEUED_MAX": "1000000",
            **self._more,
        }


def wait_for(what: Callable[[], object], *, timeout_s: float, why: str, every_s: float = 0.02) -> None:
    """Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while not what():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {why}")
        time.sleep(every_s)


def tree(pid: int) -> list[int]:
    """The process and all its descendants that live."""
    found, parents = [pid], _parents()
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds of a process, of those of its descendants that live, and of those that ended and were waited for."""
    total = 0.0
    for one in tree(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15])) / TICKS
    return total


def pss_bytes(pid: int) -> int:
    """Proportional memory of one process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {name: after[name] - before[name] for name in before}


def _parents() -> dict[int, int]:
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    return parents
