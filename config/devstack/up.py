"""`bin/up`: the whole of Countersign on this machine, for development, until Ctrl-C.

Order: data folder, lock, secrets, PostgreSQL and Redis (where none are given), Django once, migrations, first
contents, programs as forks, banner. Everything that can be wrong is said in one line, with exit code 2.
"""

import os
import secrets
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from config import env
from config.devstack import announce, environment, fork, options, prepare, runfile
from config.devstack.console import complain, say
from config.devstack.environment import SCRIPTED_MODEL, Given
from config.devstack.errors import StackError
from config.devstack.linux import started_at
from config.devstack.places import REPOSITORY, check_port_is_free, data_folder, free_port, make_data_folder
from config.devstack.postgres import Postgres
from config.devstack.processes import programs
from config.devstack.redis import Redis
from config.devstack.secret_files import SecretFiles
from config.devstack.supervisor import Stopped, Supervisor

DETACH_TIMEOUT_S = 240.0
DETACHED = "COUNTERSIGN_DETACHED"


def main(arguments: list[str]) -> int:
    """Exit code: 0 stopped as asked, 2 it cannot run (said in one line)."""
    wanted = options.parse(arguments)
    os.chdir(REPOSITORY)
    environment.disown(os.environ)  # `manage.py up` has read the settings of the run before
    try:
        given = Given.of(os.environ)
        folder, note = data_folder(wanted.data_dir or os.environ.get("COUNTERSIGN_DATA_DIR"))
        make_data_folder(folder)
        if wanted.detach:
            return _detach(arguments, folder)
        lock = runfile.take_lock(folder)
        try:
            if note:
                say(f"  {note}")
            return _Stack(wanted, given, folder).run()
        finally:
            os.close(lock)
    except (StackError, ImproperlyConfigured) as error:
        complain(str(error))
        return 2


class _Stack:
    """One run of the stack."""

    def __init__(self, wanted: options.Options, given: Given, folder: Path) -> None:
        self.wanted, self.given, self.folder = wanted, given, folder
        self.address = f"http://127.0.0.1:{wanted.port}"
        self.keep = SecretFiles(folder)
        self.started = datetime.now(UTC)
        self.postgres = None if given.database else Postgres(folder / "postgres")
        self.redis = None if given.redis else Redis(folder / "redis", password=self.keep.get("redis-password"))
        servers: dict[str, Postgres | Redis] = {}
        if self.postgres:
            servers["postgres"] = self.postgres
        if self.redis:
            servers["redis"] = self.redis
        running = runfile.Running(pid=os.getpid(), started_at=started_at(os.getpid()), address=self.address)
        self.supervisor = Supervisor(folder, running, servers)
        self.flower_port, self.flower_auth = free_port(), f"countersign:{self.keep.get('flower-password')}"
        self.scripted_port = None if given.model else free_port()

    def run(self) -> int:
        check_port_is_free(self.wanted.port)
        self._check_what_is_given()
        runfile.write(self.folder, self.supervisor.running)
        self.supervisor.listen()
        try:
            self._start()
            code = self.supervisor.run()
            say("  Stopping …")
            return code
        except Stopped:
            return 0
        finally:
            self.supervisor.stop()
            say("  Stopped.")

    def _start(self) -> None:
        began = time.monotonic()
        say("  Countersign starts …")
        owner_url = self._start_servers()
        self._set_environment()
        if self.postgres:
            say(
                f"  PostgreSQL and Redis ready ({time.monotonic() - began:.1f} s)"
                if self.redis
                else "  PostgreSQL ready"
            )
        fork.preload()
        supervisor = self.supervisor
        supervisor.run_to_end(lambda: prepare.migrate(owner_url), title="migrate")
        password_file = self.keep.path("admin-password")
        supervisor.run_to_end(
            lambda: prepare.seed(password_file=str(password_file), demo=self.wanted.demo), title="seed"
        )
        say(f"  database ready ({time.monotonic() - began:.1f} s)")
        self._start_programs()
        facts = self._facts()
        supervisor.announce(lambda: announce.announce(facts))

    def _start_servers(self) -> str | None:
        """The URL to migrate with, where the application's own role may not."""
        for server in self.supervisor.servers.values():
            server.launch()
        for server in self.supervisor.servers.values():
            server.wait()
        if self.postgres:
            prepare.make_role_and_database(self.postgres, app_password=self.keep.get("database-password"))
            return self.postgres.url(prepare.DATABASE)
        return env.text("DATABASE_OWNER_URL", "") or None

    def _check_what_is_given(self) -> None:
        """Before anything is started. Raises StackError."""
        if self.given.database:
            prepare.check_database(env.text("DATABASE_URL"))
            owner_url = env.text("DATABASE_OWNER_URL", "")
            if owner_url:
                prepare.check_database(owner_url, name="DATABASE_OWNER_URL")
        if self.given.redis:
            prepare.check_redis(env.text("REDIS_URL"))
        env.text("SECRET_KEY", "")

    def _set_environment(self) -> None:
        """What we decided, for our forks and for `manage.py` in another shell; what was given stands as it is."""
        self.keep.get("admin-password", size_bytes=12)
        values = {
            "DJANGO_SETTINGS_MODULE": "config.settings.dev",
            "COUNTERSIGN_DATA_DIR": str(self.folder),
            "FLOWER_URL": f"http://127.0.0.1:{self.flower_port}",
            "FLOWER_BASIC_AUTH": self.flower_auth,
        }
        if not os.environ.get("SECRET_KEY_FILE"):
            values["SECRET_KEY"] = os.environ.get("SECRET_KEY") or self.keep.get("secret-key", size_bytes=48)
        if not os.environ.get("PUBLIC_URL_FILE"):
            values["PUBLIC_URL"] = os.environ.get("PUBLIC_URL") or self.address
        if self.postgres:
            password = self.keep.get("database-password")
            values["DATABASE_URL"] = self.postgres.url(prepare.DATABASE, user=prepare.APP_ROLE, password=password)
        if self.redis:
            values["REDIS_URL"] = self.redis.url()
        if self.scripted_port:
            values |= {
                "OPENAI_BASE_URL": f"http://127.0.0.1:{self.scripted_port}/v1",
                "OPENAI_API_KEY": "the-scripted-server-needs-no-key",
                "LLM_MODEL": SCRIPTED_MODEL,
                "LLM_SCRIPTED": "true",
            }
        os.environ.update(values)
        environment.write(self.folder, values)

    def _start_programs(self) -> None:
        from django.conf import settings

        for program in programs(
            port=self.wanted.port,
            groups=settings.WORKER_GROUPS,
            data=self.folder,
            flower_port=self.flower_port,
            flower_auth=self.flower_auth,
            scripted_port=self.scripted_port,
        ):
            self.supervisor.start(program)

    def _facts(self) -> announce.Facts:
        from django.conf import settings

        return announce.Facts(
            address=self.address,
            data=self.folder,
            admin_password=self.keep.get("admin-password"),
            started=self.started,
            flower_url=settings.FLOWER_URL,
            flower_auth=self.flower_auth,
            scripted=settings.LLM_SCRIPTED,
            model=settings.LLM_MODEL,
            demo=self.wanted.demo,
            embedded=[name for name, here in (("PostgreSQL", self.postgres), ("Redis", self.redis)) if here],
            detached=bool(os.environ.get(DETACHED)),
        )


def _detach(arguments: list[str], folder: Path) -> int:
    """Starts ourselves as a session of its own and shows what it says until it has said all."""
    if runfile.locked(folder):
        os.close(runfile.take_lock(folder))  # raises, with the address of the one that runs
    logs = folder / "logs"
    logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = logs / "up.log"
    mark = secrets.token_hex(8)
    with path.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "config.devstack.up", *(word for word in arguments if word != "--detach")],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env={**os.environ, DETACHED: mark},
        )
    deadline = time.monotonic() + DETACH_TIMEOUT_S
    with path.open("rb") as shown:
        while True:
            ended = child.poll() is not None
            running = runfile.read(folder)
            told = running is not None and running.pid == child.pid and running.state == "announced"
            sys.stdout.write(shown.read().decode(errors="replace"))
            sys.stdout.flush()
            if ended:
                return child.returncode or 2
            if told:
                return 0
            if time.monotonic() > deadline:
                raise StackError(
                    f"It did not come up in {DETACH_TIMEOUT_S:.0f} s; see {path}, and stop it with bin/down."
                )
            time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
