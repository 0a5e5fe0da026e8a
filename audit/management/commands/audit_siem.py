"""`manage.py audit_siem FORMAT`: the log for other systems, in its order, once or for ever."""

import json
import os
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, transaction

from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event
from audit.siem import cef, ocsf
from audit.siem.source import Sequenced, read

LOOK_EVERY_S = 1.0
PRODUCT_VERSION = "0.1"


def _jsonl(one: Sequenced) -> str:
    found = {"index": one.index, "body": one.body, "signature": one.signature, "kid": one.kid, "prev": one.prev}
    return json.dumps(found, ensure_ascii=True, separators=(",", ":"))


FORMATS: dict[str, Callable[[Sequenced], str]] = {
    "ocsf": lambda one: json.dumps(ocsf.event(one), ensure_ascii=True, separators=(",", ":")),
    "cef": lambda one: cef.line(one, version=PRODUCT_VERSION),
    "jsonl": _jsonl,
}


class Command(BaseCommand):
    help = (
        "Writes sequenced records to standard output, a line each: OCSF 1.6.0 events, CEF lines, or JSON lines with "
        "body and signature. Values that can be erased are never part of it."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("format", choices=sorted(FORMATS))
        start = parser.add_mutually_exclusive_group()
        start.add_argument("--from", type=_index, default=0, dest="start", metavar="INDEX", help="the first record")
        start.add_argument(
            "--state", type=Path, metavar="FILE", help="go on where the run before stopped; the place is kept here"
        )
        parser.add_argument("--to", type=_index, dest="end", metavar="INDEX", help="up to this record, not with it")
        parser.add_argument("--follow", action="store_true", help="wait for new records, until it is stopped")

    def handle(self, *args: Any, **options: Any) -> None:
        state: Path | None = options["state"]
        place = _kept(state) if state else options["start"]
        if options["end"] is not None and options["follow"]:
            raise CommandError("Give --to or --follow, not both.")
        try:
            _tell(options["format"], place)
            while True:
                place = self._write(FORMATS[options["format"]], place, options["end"], state)
                if not options["follow"]:
                    return
                time.sleep(LOOK_EVERY_S)
        except KeyboardInterrupt:
            return
        except BrokenPipeError:  # whoever read has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise CommandError("The reader went away.", returncode=1) from None
        except Error as error:
            raise CommandError(f"The log cannot be read: {str(error).splitlines()[0]}", returncode=1) from None

    def _write(self, shape: Callable[[Sequenced], str], place: int, end: int | None, state: Path | None) -> int:
        """Gives the index of the next record to write. What was written is flushed before its place is kept."""
        since = place
        for one in read(place, end):
            self.stdout.write(shape(one))
            place = one.index + 1
            if place - since >= 1_000:
                since = self._keep(state, place)
        self._keep(state, place)
        return place

    def _keep(self, state: Path | None, place: int) -> int:
        self.stdout.flush()
        if state is not None:
            new = state.with_name(f"{state.name}.new")
            new.write_text(f"{place}\n")
            new.replace(state)
        return place


def _tell(shape: str, place: int) -> None:
    """An export is a record too; whoever may run this is the server's own administrator."""
    with transaction.atomic():
        record(
            Event.LOG_EXPORTED,
            actor=Actor.system("command"),
            target=Target(type="log", id="audit"),
            context={"format": shape, "from": place},
        )


def _kept(state: Path) -> int:
    try:
        return _index(state.read_text().strip())
    except FileNotFoundError:
        return 0
    except (ArgumentTypeError, OSError) as error:
        raise CommandError(f"{state} does not hold the place of an earlier run: {error}") from None


def _index(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ArgumentTypeError(f"An index counts from 0, not {text[:40]!r}.")
    return int(text)
