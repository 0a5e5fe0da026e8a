"""`manage.py evaluate SUITE --arm prompt:review@1 --arm prompt:review@2`: tries cases and compares."""

import json
import sys
import time
from argparse import ArgumentTypeError
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from agents.errors import AgentsError
from agents.evaluation import picture, running, suite, table
from agents.models import Evaluation
from agents.people import acting_user
from agents.prompts.versions import chosen

REFUSED, NOT_DONE, MISSED = 3, 4, 5
LOOK_S = 0.5


class Command(BaseCommand):
    help = (
        "Tries the cases of a suite (a YAML file, or `prompt:NAME` for a prompt's own cases) with agents or versions of "
        "prompts, each trial a job of yours, and prints success, cost, tokens and time of each. Exits with 3 where "
        "something is refused, with 4 where trials are unfinished at the end of --timeout, with 5 where a bound that was "
        "given is missed: bounds hold for each arm but the first, or for the only one."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("suite", metavar="SUITE", help="a file, - for stdin, or prompt:NAME[@VERSION]")
        parser.add_argument(
            "--arm",
            action="append",
            required=True,
            dest="arms",
            metavar="ARM",
            help="agent:NAME or prompt:NAME[@VERSION]; again for the next. The others are compared with the first",
        )
        parser.add_argument(
            "--repeat", type=int, default=1, metavar="N", help="how often each case is tried (default 1)"
        )
        parser.add_argument("--timeout", type=float, default=3600.0, metavar="S", help="seconds to wait (default 3600)")
        parser.add_argument("--svg", metavar="PATH", help="write the picture there")
        parser.add_argument(
            "--json",
            nargs="?",
            const="-",
            metavar="PATH",
            help="print JSON instead of the table, or write it there too",
        )
        bounds = parser.add_argument_group("bounds")
        bounds.add_argument("--min-success", type=_percent, metavar="PERCENT", help="at least so many trials pass")
        bounds.add_argument("--max-cost", type=_decimal, metavar="DOLLARS", help="at most, the mean of a trial")
        bounds.add_argument("--max-tokens", type=int, metavar="N", help="at most, the mean of a trial")
        bounds.add_argument("--max-seconds", type=float, metavar="S", help="at most, the median of a trial")
        bounds.add_argument(
            "--no-worse", action="store_true", help="passes at least as many trials as the first arm, of the same ones"
        )
        parser.add_argument("--as", dest="username", metavar="USER", help="default: the only superuser")

    def handle(self, *args: Any, **options: Any) -> None:
        for path in (options["svg"], options["json"]):
            if path not in (None, "-") and not Path(path).resolve().parent.is_dir():
                raise CommandError(f"{path}: there is no such folder.", returncode=REFUSED)
        try:
            found = running.start(
                _source(options["suite"]),
                options["arms"],
                repeats=options["repeat"],
                by=acting_user(options["username"]),
                now=timezone.now(),
            )
        except AgentsError as error:
            problems = [pair for pair in getattr(error, "problems", ()) if pair[0]]
            lines = [f"{field}: {message}" for field, message in problems] or [error.message]
            raise CommandError("\n".join(lines), returncode=REFUSED) from None
        over = self._wait(found, options["timeout"])
        missed = self._tell(found, options)
        if not over:
            raise CommandError(
                f"Not all trials have ended; those that wait for people go on: {found.get_absolute_url()}",
                returncode=NOT_DONE,
            )
        if missed:
            raise CommandError("Missed: " + " ".join(missed), returncode=MISSED)

    def _wait(self, found: Evaluation, timeout_s: float) -> bool:
        until = time.monotonic() + timeout_s
        while not running.go_on(found, now=timezone.now()):
            if time.monotonic() >= until:
                return False
            self._pause()
        return True

    def _pause(self) -> None:
        time.sleep(LOOK_S)

    def _tell(self, found: Evaluation, options: dict[str, Any]) -> list[str]:
        """The bounds that were missed, in words."""
        trials = list(found.trials.all())
        lines = table.lines(trials, found.arms)
        differences = table.differences(trials, found.arms)
        missed = _bounds(options).missed(trials, found.arms)
        if options["svg"]:
            Path(options["svg"]).write_text(picture.svg(lines, title=f"Evaluation of {found.suite}"), encoding="utf-8")
        if options["json"]:
            shown = {
                "id": str(found.pk),
                "suite": found.suite,
                "scripted": any(one.scripted for one in trials),
                "arms": [one.as_json() for one in lines],
                "differences": [{"words": one.words, "p": one.p} for one in differences],
                "failed": [{"case": one.case, "arm": one.arm, "why": one.why} for one in trials if one.ok is False],
                "missed": missed,
            }
            written = json.dumps(shown, indent=2, ensure_ascii=False)
            if options["json"] == "-":
                self.stdout.write(written)
                return missed
            Path(options["json"]).write_text(f"{written}\n", encoding="utf-8")
        self.stdout.write(table.text(lines))
        for one in differences:
            self.stdout.write(one.words)
        if any(one.scripted for one in trials):
            self.stdout.write("A scripted stand-in answered: these figures say nothing of a model.")
        for trial in trials:
            if trial.ok is False:
                self.stdout.write(f"failed: {trial.case} by {trial.arm}: {trial.why[:200]}")
        return missed


def _bounds(options: dict[str, Any]) -> table.Bounds:
    seconds = options["max_seconds"]
    return table.Bounds(
        success=options["min_success"],
        cost=options["max_cost"],
        tokens=options["max_tokens"],
        latency_ms=seconds * 1000 if seconds is not None else None,
        no_worse=options["no_worse"],
    )


def _percent(given: str) -> float:
    """A share of 1. Raises ArgumentTypeError."""
    value = float(_decimal(given.removesuffix("%")))
    if value > 100:
        raise ArgumentTypeError(f"{given} is no number from 0 to 100")
    return value / 100


def _decimal(given: str) -> Decimal:
    """Raises ArgumentTypeError."""
    try:
        value = Decimal(given)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value < 0:
        raise ArgumentTypeError(f"{given} is no number from 0 on")
    return value


def _source(given: str) -> str:
    """Raises InvalidInput, CommandError: there is no such file."""
    if given.startswith("prompt:"):
        named = suite.arm(given)
        return suite.of_prompt(chosen(named.name, named.number, key=""))
    if given == "-":
        return sys.stdin.read()
    try:
        return Path(given).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{given}: {error}", returncode=REFUSED) from None
