"""The campaign's stack: PostgreSQL, Redis, web, six workers, two sweepers, two beats, the sequencer, supervised.

`python -m bench.campaign.stack FOLDER PORT LEASE_S LEDGER` runs it until SIGTERM; `Stack` is the handle on it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from config.devstack import environment, fork, prepare, runfile
from config.devstack.linux import children_of, die_with_parent, started_at
from config.devstack.places import REPOSITORY, free_port, make_data_folder
from config.devstack.postgres import Postgres
from config.devstack.processes import Program, programs
from config.devstack.redis import Redis
from config.devstack.secret_files import SecretFiles
from config.devstack.supervisor import Stopped, Supervisor
from config.devstack.testrun import NOT_HANDED_ON

SETTINGS = "bench.campaign.settings"
T = TypeVar("T")


def main(arguments: list[str]) -> int:
    folder, port, lease_s, ledger = Path(arguments[0]), int(arguments[1]), arguments[2], arguments[3]
    os.chdir(REPOSITORY)
    make_data_folder(folder)
    keep = SecretFiles(folder)
    postgres, redis = Postgres(folder / "postgres"), Redis(folder / "redis", password=keep.get("redis-password"))
    running = runfile.Running(pid=os.getpid(), started_at=started_at(os.getpid()), address=f"http://127.0.0.1:{port}")
    supervisor = Supervisor(folder, running, {"postgres": postgres, "redis": redis})
    runfile.write(folder, running)
    supervisor.listen()
    try:
        for server in (postgres, redis):
            server.launch()
        for server in (postgres, redis):
            server.wait()
        prepare.make_role_and_database(postgres, app_password=keep.get("database-password"))
        values = {
            "DJANGO_SETTINGS_MODULE": SETTINGS,
            "COUNTERSIGN_DATA_DIR": str(folder),
            "SECRET_KEY": keep.get("secret-key", size_bytes=48),
            "PUBLIC_URL": running.address,
            "DATABASE_URL": postgres.url(
                prepare.DATABASE, user=prepare.APP_ROLE, password=keep.get("database-password")
            ),
            "REDIS_URL": redis.url(),
            "STEP_LEASE_S": lease_s,
            "STEP_REPUBLISH_AFTER_S": "3",
            "CAMPAIGN_LEDGER": ledger,
        }
        os.environ.update(values)
        environment.write(folder, values)
        fork.preload()
        supervisor.run_to_end(lambda: prepare.migrate(postgres.url(prepare.DATABASE)), title="migrate")
        supervisor.run_to_end(lambda: _seed(folder), title="seed")
        for program in _programs(port, folder):
            supervisor.start(program)
        running.state = "ready"
        return supervisor.run()
    except Stopped:
        return 0
    finally:
        supervisor.stop()


def _seed(folder: Path) -> None:
    from bench.campaign.seed import seed

    seed(folder)


def _programs(port: int, folder: Path) -> list[Program]:
    """The development stack's, and a second sweeper and a second beat."""
    from django.conf import settings

    found = programs(
        port=port,
        groups=settings.WORKER_GROUPS,
        data=folder,
        flower_port=None,
        flower_auth="",
        scripted_port=None,
    )
    seconds = []
    for program in found:
        if program.name in {"sweeper", "beat"}:
            words = [word.replace("beat-schedule", "beat-2-schedule") for word in program.arguments]
            seconds.append(replace(program, name=f"{program.name}-2", arguments=words))
    return [*found, *seconds]


class Stack:
    """Starts it in `folder`, ends it, and reaches its processes. `lease_s`: STEP_LEASE_S."""

    def __init__(self, folder: Path, *, lease_s: int, ledger: str) -> None:
        self.folder, self.lease_s, self.ledger = folder, lease_s, ledger
        self.port = free_port()
        self.output = folder.parent / f"{folder.name}.out"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, timeout_s: float = 240) -> None:
        """Raises AssertionError when it does not come up."""
        us = os.getpid()
        dropped = {*NOT_HANDED_ON, "DATABASE_URL", "REDIS_URL", "COUNTERSIGN_WORKSPACE_DIR", "COUNTERSIGN_WORKER_GROUP"}
        kept = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in dropped}
        words = [str(self.folder), str(self.port), str(self.lease_s), self.ledger]
        with self.output.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.campaign.stack", *words],
                cwd=REPOSITORY,
                env=kept,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(us, signal.SIGTERM),
            )
        until(lambda: self._process is None or self._process.poll() is not None or self._up(), timeout_s, "it is up")
        assert self._process.poll() is None, f"the stack ended:\n{self.output.read_text(errors='replace')}"

    def stop(self) -> dict[str, int]:
        """Ends what it started; gives the processes that are left (none, when all is well)."""
        if self._process is None or self._process.poll() is not None:
            return {}
        running = runfile.read(self.folder)
        recorded = running.processes if running else {}
        self.signal_all(signal.SIGCONT)
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        return {name: pid for name, (pid, at) in recorded.items() if runfile.same_process(pid, at)}

    def pids(self) -> dict[str, int]:
        """Living processes by name: web, worker-shell, worker-shell-2, sweeper, …, postgres, redis."""
        running = runfile.read(self.folder)
        recorded = running.processes if running else {}
        return {name: pid for name, (pid, at) in recorded.items() if runfile.same_process(pid, at)}

    def signal_all(self, sign: int) -> None:
        for name, pid in self.pids().items():
            for one in [pid, *(children_of(pid) if name == "postgres" else [])]:
                with suppress(ProcessLookupError):
                    os.kill(one, sign)

    def environ(self) -> dict[str, str]:
        """What its processes have, for commands beside it."""
        return {**os.environ, **json.loads((self.folder / "environment.json").read_text())}

    def tokens(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.folder / "tokens.json").read_text())
        return found

    @property
    def remote(self) -> Path:
        return self.folder / "demo" / "sample.git"

    def query(self, statement: Any, *values: Any, timeout_s: float = 30) -> list[tuple[Any, ...]]:
        """Rows, as the application's role; tries again while the database is away."""
        url = self.environ()["DATABASE_URL"]
        return self._again(lambda: _rows(url, statement, values), timeout_s)

    def as_owner(self, statement: Any) -> None:
        """A statement as the server's superuser, outside any transaction."""
        password = (self.folder / "postgres" / "pg.password").read_text().strip()
        address = self.environ()["DATABASE_URL"].rpartition("@")[2]
        self._again(lambda: _rows(f"postgresql://postgres:{password}@{address}", statement, ()), 30)

    def manage(self, *arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=REPOSITORY,
            env=self.environ(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def _again(self, what: Callable[[], T], timeout_s: float) -> T:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return what()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _up(self) -> bool:
        """Everything has started, and each worker consumes."""
        running = runfile.read(self.folder)
        if running is None or running.state != "ready":
            return False
        seen = self.query("SELECT count(*) FROM agents_workerprocess WHERE stopped_at IS NULL")
        workers = [name for name in self.pids() if name.startswith("worker-")]
        return bool(workers) and int(seen[0][0]) >= len(workers)


def until(what: Callable[[], T], timeout_s: float, why: str) -> T:
    """Calls `what` until its answer is truthy. Raises AssertionError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = what()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {why}; last answer: {answer!r}")
        time.sleep(0.05)


def _rows(url: str, statement: Any, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        cursor = connection.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
