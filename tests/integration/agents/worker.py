"""Real worker and sweeper processes on the tests' own database."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from agents import feed
from agents.models import WorkerProcess
from config.devstack.places import REPOSITORY
from config.devstack.processes import worker as worker_program
from tests.stack import wait_until


def environ(**more: str) -> dict[str, str]:
    of = connection.settings_dict
    database = f"postgresql://{of['USER']}:{of['PASSWORD']}@{of['HOST']}:{of['PORT']}/{of['NAME']}"
    return {**os.environ, "DATABASE_URL": database, "DJANGO_SETTINGS_MODULE": "config.settings.test", **more}


@contextmanager
def process(*arguments: str, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python …` until the end of the block, and dead after it."""
    running = subprocess.Popen([sys.executable, *arguments], cwd=REPOSITORY, env=environ(**more))
    try:
        yield running
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGCONT)
            running.kill()
        running.wait(60)


@contextmanager
def worker(
    group: str, queues: list[str], threads: int = 2, **more: str
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The worker of a group and its name in the registry, which it has entered. Old messages are gone."""
    for queue in queues:
        feed.client().delete(queue)
    program = worker_program(group, {"queues": queues, "threads": threads})
    with process("-m", program.module, *program.arguments, **program.environ, **more) as running:
        rows = WorkerProcess.objects.filter(group=group, stopped_at=None)
        wait_until(lambda: running.poll() is not None or rows.exists(), timeout_s=60, why="the worker registers")
        assert running.poll() is None, "the worker ended"
        yield running, rows.get().name


def sweeper(**more: str):
    return process("manage.py", "sweeper", **more)
