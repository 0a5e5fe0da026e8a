"""What `bin/test` runs: the checks, then pytest against a PostgreSQL and a Redis of its own in a temporary folder.

bin/test                  everything; on two cores or more in two processes, each with servers of its own
bin/test --checks         the checks alone
bin/test tests/unit -x    these tests alone, in one process (or with -n2 in two); what follows goes to pytest
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from config.devstack.console import complain, say
from config.devstack.errors import StackError
from config.devstack.linux import die_with_parent
from config.devstack.places import REPOSITORY
from config.devstack.postgres import Postgres
from config.devstack.redis import Redis

CHECKS = {
    "ruff check": ["-m", "ruff", "check", "."],
    "ruff format": ["-m", "ruff", "format", "--check", "."],
    "import-linter": ["-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
    "manage.py check": ["manage.py", "check", "--fail-level", "WARNING"],
    "makemigrations --check": ["manage.py", "makemigrations", "--check", "--dry-run"],
    "mypy": ["-m", "mypy"],
}
# What a developer's shell may hold, and the tests set or leave out by themselves.
NOT_HANDED_ON = (
    *(
        "DATABASE_OWNER_URL",
        "OPENAI_BASE_URL",
        "OPENAI_API_KEY",
        "LLM_MODEL",
        "LLM_SCRIPTED",
        "PUBLIC_URL",
        "SECRET_KEY",
    ),
    *("EMAIL_HOST", "EMAIL_HOST_USER", "EMAIL_HOST_PASSWORD", "EMAIL_FROM", "SLACK_WEBHOOK_URL", "FLOWER_URL"),
)
TWO = "-n2"
PROCESS = "PYTEST_XDIST_WORKER"  # gw0, gw1: set by pytest-xdist
# {name of a process of pytest: its variables}, as JSON
SHARDS = "COUNTERSIGN_TEST_SHARDS"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.chdir(REPOSITORY)
    whole, checks_only = not arguments, arguments == ["--checks"]
    # under /tmp, which every user reaches: as root the servers and the sandbox run as other users
    with tempfile.TemporaryDirectory(prefix="countersign-test-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        several = TWO in arguments or (whole and len(os.sched_getaffinity(0)) > 1)
        shards = 2 if several else 1
        try:
            with contextlib.ExitStack() as stack:
                places = [_place(folder / str(number), stack) for number in range(shards)]
                environ = {**_environment(), **places[0]}
                failed = _run_checks(environ) if whole or checks_only else []
                code = 0
                if not checks_only:
                    if shards > 1:
                        environ[SHARDS] = json.dumps({f"gw{number}": place for number, place in enumerate(places)})
                        rest = [word for word in arguments if word != TWO]
                        arguments = [TWO, "--dist=loadscope", "--no-loadscope-reorder", *rest]
                    code = _run([sys.executable, "-m", "pytest", *arguments], environ)
                if whole or checks_only:
                    say(f"checks: {', '.join(failed)} FAILED" if failed else f"checks: {len(CHECKS)} passed")
                return code or (1 if failed else 0)
        except StackError as error:
            complain(str(error))
            return 2
        except KeyboardInterrupt:
            return 130


def use_own_servers() -> None:
    """In one of several processes of pytest: the servers and folders that `bin/test` started for it. Called before the
    settings are read."""
    if PROCESS not in os.environ:
        return  # the one that starts them reads the settings too, and hands on what it has
    # taken away: what the tests start themselves is told where to go by them
    places = json.loads(os.environ.pop(SHARDS, "{}"))
    os.environ.update(places.get(os.environ[PROCESS], {}))


def find_browser() -> str:
    """The path of a Chromium: $CHROMIUM, else the first on PATH; "" where there is none."""
    given = os.environ.get("CHROMIUM")
    if given:
        return shutil.which(given) or ""
    return next((path for path in map(shutil.which, BROWSERS) if path), "")


def _place(folder: Path, stack: contextlib.ExitStack) -> dict[str, str]:
    """Starts a PostgreSQL and a Redis, which end with the stack; gives the variables that lead there."""
    folder.mkdir(mode=0o755)
    postgres, redis = Postgres(folder / "postgres", fast=True), Redis(folder / "redis")
    stack.callback(postgres.stop)
    stack.callback(redis.stop)
    postgres.launch()
    redis.launch()
    postgres.wait()
    redis.wait()
    return {
        "DATABASE_URL": postgres.url("postgres"),
        "REDIS_URL": redis.url(),
        "COUNTERSIGN_DATA_DIR": str(folder / "data"),
        "COUNTERSIGN_WORKSPACE_DIR": str(folder / "workspaces"),
    }


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in NOT_HANDED_ON}
    for name in ("DATABASE_URL_FILE", "REDIS_URL_FILE"):
        kept.pop(name, None)
    return {**kept, "DJANGO_SETTINGS_MODULE": "config.settings.test", "CHROMIUM": find_browser()}


def _run_checks(environ: dict[str, str]) -> list[str]:
    """The names of those that failed, whose output was shown."""
    failed = []
    for name, arguments in CHECKS.items():
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, *arguments],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            preexec_fn=_dies_with_us(),
        )
        say(f"{'ok  ' if done.returncode == 0 else 'FAIL'} {name} ({time.monotonic() - began:.1f} s)")
        if done.returncode != 0:
            failed.append(name)
            say(done.stdout.rstrip())
    return failed


def _run(argv: list[str], environ: dict[str, str]) -> int:
    """Ctrl-C reaches the child too, which ends by itself."""
    child = subprocess.Popen(argv, env=environ, stdin=subprocess.DEVNULL, preexec_fn=_dies_with_us())
    try:
        return child.wait()
    except BaseException:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        raise


def _dies_with_us() -> Callable[[], None]:
    us = os.getpid()
    return lambda: die_with_parent(us, signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
