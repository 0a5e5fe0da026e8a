import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from config.devstack import options as stack_options
from config.devstack.places import REPOSITORY


class Command(BaseCommand):
    help = "Starts Countersign for development: what bin/up does once the Python environment stands."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        stack_options.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """In a new process: this one has read its settings, and the stack is yet to find out what they are."""
        arguments = ["--port", str(options["port"])]
        arguments += ["--data-dir", options["data_dir"]] if options["data_dir"] else []
        arguments += [] if options["demo"] else ["--no-demo"]
        arguments += ["--detach"] if options["detach"] else []
        os.chdir(REPOSITORY)
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", "config.devstack.up", *arguments])
