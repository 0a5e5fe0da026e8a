import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.devstack.processes import worker


class Command(BaseCommand):
    help = "Becomes the Celery worker of one group of settings.WORKER_GROUPS, with its queues and threads."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("group", help="such as llm, shell, git or control")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["group"]
        group = settings.WORKER_GROUPS.get(name)
        if group is None:
            raise CommandError(f"There is no worker group {name!r}; there are {', '.join(settings.WORKER_GROUPS)}.")
        program = worker(name, group)
        sys.stdout.flush()
        os.execve(
            sys.executable,
            [sys.executable, "-m", program.module, *program.arguments],
            {**os.environ, **program.environ},
        )
