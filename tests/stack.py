"""A whole running Countersign for tests: what `bin/up` starts, in a folder of its own, on a free port."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import psycopg

from config.devstack import runfile
from config.devstack.linux import die_with_parent
from config.devstack.places import REPOSITORY, free_port
from config.devstack.testrun import NOT_HANDED_ON

T = TypeVar("T")


def wait_until(what: Callable[[], T], *, timeout_s: float = 60, why: str = "") -> T:
    """Calls `what` until its answer is truthy, and gives that answer; AssertionError with `why` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = what()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {why or what}; last answer: {answer!r}")
        time.sleep(0.05)


def clean_environment(**more: str) -> dict[str, str]:
    """Ours, without what would make a stack use the test run's servers or a developer's endpoints."""
    dropped = {*NOT_HANDED_ON, "DATABASE_URL", "REDIS_URL", "COUNTERSIGN_DATA_DIR", "COUNTERSIGN_WORKSPACE_DIR"}
    dropped |= {"DJANGO_SETTINGS_MODULE", "COUNTERSIGN_WORKER_GROUP"}
    kept = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in dropped}
    return {**kept, **more}


class Stack:
    """`start()` returns when the stack says that it is ready; `stop()` ends it and says what it left behind."""

    def __init__(self, folder: Path, *, demo: bool = True, **environ: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.output = folder.parent / f"{folder.name}.out"
        self._demo = demo
        self._environ = clean_environment(**environ)
        self._process: subprocess.Popen[bytes] | None = None

    # life

    def start(self, *, timeout_s: float = 120) -> "Stack":
        us = os.getpid()
        argv = [sys.executable, "-m", "config.devstack.up", "--port", str(self.port), "--data-dir", str(self.folder)]
        with self.output.open("wb") as out:
            self._process = subprocess.Popen(
                argv + ([] if self._demo else ["--no-demo"]),
                cwd=REPOSITORY,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(us, signal.SIGTERM),
            )
        process = self._process
        wait_until(
            lambda: process.poll() is not None or self._state() in {"ready", "announced"},
            timeout_s=timeout_s,
            why=f"the stack is ready; it said:\n{self.said()}",
        )
        assert process.poll() is None, f"the stack ended with {process.returncode}:\n{self.said()}"
        return self

    def stop(self) -> dict[str, int]:
        """Ends it in order; gives the recorded processes that are still there (none, when all is well)."""
        process = self._process
        if process is None or process.poll() is not None:
            return {}
        recorded = self._recorded()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return {name: pid for name, (pid, at) in recorded.items() if runfile.same_process(pid, at)}

    @property
    def supervisor_pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def said(self) -> str:
        """What the terminal shows so far."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def log(self, name: str) -> str:
        """The log of one process: `web`, `worker-git`, …"""
        path = self.folder / "logs" / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # processes

    def pids(self) -> dict[str, int]:
        """Living processes by name: web, worker-llm, worker-shell, worker-git, worker-control, sweeper, …, redis."""
        return {name: pid for name, (pid, at) in self._recorded().items() if runfile.same_process(pid, at)}

    def kill(self, name: str, sign: int = signal.SIGKILL) -> int:
        """Sends a signal to one process; gives the pid that it had."""
        pid = self.pids()[name]
        os.kill(pid, sign)
        return pid

    def wait_for_restart(self, name: str, old_pid: int, *, timeout_s: float = 30) -> int:
        return wait_until(
            lambda: (pid := self.pids().get(name, old_pid)) != old_pid and pid,
            timeout_s=timeout_s,
            why=f"{name} was started again",
        )

    # access

    @property
    def environ(self) -> dict[str, str]:
        """The environment that its processes have, for commands beside it."""
        values = json.loads((self.folder / "environment.json").read_text())
        return {**self._environ, **values}

    @property
    def admin_password(self) -> str:
        return (self.folder / "secrets" / "admin-password").read_text().strip()

    @property
    def database_url(self) -> str:
        """As the application's role."""
        return self.environ["DATABASE_URL"]

    @property
    def owner_url(self) -> str:
        """As the embedded server's superuser."""
        password = (self.folder / "postgres" / "pg.password").read_text().strip()
        return re.sub(r"//[^@]*@", f"//postgres:{password}@", self.database_url)

    @property
    def redis_url(self) -> str:
        return self.environ["REDIS_URL"]

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of one SELECT, as the application's role."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return connection.execute(statement, values).fetchall()

    def client(self, username: str = "admin", password: str | None = None) -> httpx2.Client:
        """An HTTP client that has signed in; `post` and the like carry the CSRF token."""
        client = httpx2.Client(base_url=self.base_url, follow_redirects=True, trust_env=False, timeout=20)
        client.get("/accounts/login/").raise_for_status()
        answer = client.post(
            "/accounts/login/",
            data={
                "username": username,
                "password": self.admin_password if password is None else password,
                "csrfmiddlewaretoken": client.cookies["csrftoken"],
            },
            headers={"Referer": f"{self.base_url}/accounts/login/"},
        )
        answer.raise_for_status()
        assert "sessionid" in client.cookies, f"{username} could not sign in"
        client.headers["X-CSRFToken"] = client.cookies["csrftoken"]
        client.headers["Referer"] = f"{self.base_url}/"
        return client

    def manage(self, *arguments: str, stdin: str = "", timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Runs `manage.py …` beside the stack."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=REPOSITORY,
            env=self.environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def _state(self) -> str:
        running = runfile.read(self.folder)
        return running.state if running and self._process and running.pid == self._process.pid else ""

    def _recorded(self) -> dict[str, tuple[int, int | None]]:
        running = runfile.read(self.folder)
        return running.processes if running else {}


def remove_tree(folder: Path) -> None:
    """Removes what a stack left, whoever owns it."""
    shutil.rmtree(folder, ignore_errors=True)
