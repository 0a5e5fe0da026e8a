"""`manage.py submit "goal"` or `manage.py submit --plan FILE`."""

import json
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from agents.errors import AgentsError, InvalidInput
from agents.management.commands.watch import watch
from agents.people import acting_user
from agents.submit import submit

REFUSED = 3


class Command(BaseCommand):
    help = (
        "Submits a job and prints its id. With --wait, shows it until it ends and exits as `watch` does. "
        "Exits with 3 where the submission is refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("goal", nargs="?", help="what to reach, in words")
        parser.add_argument(
            "--plan", metavar="FILE", help="JSON: a list of steps, or an object as the API takes it; - is stdin"
        )
        parser.add_argument("--repository", metavar="NAME")
        parser.add_argument("--agent", metavar="NAME")
        parser.add_argument("--team", metavar="NAME", help="its lead gets the goal")
        parser.add_argument(
            "--planning", choices=["loop", "plan", "review"], help="of a goal; the agent's own by default"
        )
        parser.add_argument("--max-replans", type=int, metavar="N", help="how often a goal may be planned anew")
        parser.add_argument("--title", help="names a plan in lists")
        parser.add_argument("--priority", type=int, metavar="0-9")
        parser.add_argument("--max-cost", type=float, metavar="DOLLARS", help="for models, at most")
        parser.add_argument("--max-tokens", type=int, metavar="N", help="of models, at most")
        parser.add_argument("--label", action="append", default=[], metavar="NAME=VALUE")
        parser.add_argument("--idempotency-key", default="", metavar="KEY")
        parser.add_argument("--as", dest="username", metavar="USER", help="default: the only superuser")
        parser.add_argument("--wait", action="store_true", help="watch it until it ends")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        as_json = options["json"]
        try:
            user = acting_user(options["username"])
            job, created = submit(
                _payload(options), user=user, idempotency_key=options["idempotency_key"], now=timezone.now()
            )
        except AgentsError as error:
            if as_json:
                problems = getattr(error, "problems", ())
                errors = [{"field": field, "message": message} for field, message in problems if field]
                self.stdout.write(json.dumps({"code": error.code, "detail": error.message, "errors": errors}))
                sys.exit(REFUSED)
            raise CommandError(_lines(error), returncode=REFUSED) from None
        page = f"{settings.PUBLIC_URL}{job.get_absolute_url()}"
        if as_json:
            self.stdout.write(
                json.dumps(
                    {"kind": "submitted", "job": str(job.pk), "state": job.state, "created": created, "page": page}
                )
            )
        else:
            self.stdout.write(f"{job.pk}\n{page}" if not options["wait"] else f"Job {job.pk}\n{page}")
        self.stdout.flush()
        if options["wait"]:
            code = watch(job.pk, self, as_json=as_json)
            if code:
                sys.exit(code)


_BOUNDS = ("max_cost", "max_tokens", "max_replans")


def _payload(options: dict[str, Any]) -> dict[str, Any]:
    """Raises InvalidInput."""
    payload: dict[str, Any] = {}
    if options["plan"]:
        given = _read_plan(options["plan"])
        payload = {"steps": given} if isinstance(given, list) else given
        if not isinstance(payload, dict):
            raise InvalidInput("A plan is a list of steps, or an object that holds them.", field="plan")
    for name in ("goal", "repository", "agent", "team", "planning", "title", "priority", *_BOUNDS):
        if options[name] is not None:
            payload[name] = options[name]
    if options["label"]:
        pairs = [label.partition("=") for label in options["label"]]
        payload["labels"] = {**payload.get("labels", {}), **{name: value for name, _, value in pairs}}
    return payload


def _read_plan(name: str) -> Any:
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"Cannot read {name}: {error.strerror}.", field="plan") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{name} is not UTF-8.", field="plan") from None
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"Malformed JSON: {error}.", field="plan") from None


def _lines(error: AgentsError) -> str:
    problems = [pair for pair in getattr(error, "problems", ()) if pair[0]]
    if not problems:
        return error.message
    return "\n".join(f"{field}: {message}" for field, message in problems)
