"""What `approve` and `deny` share."""

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from approvals.decisions import approvals, decide
from approvals.errors import DecisionError
from approvals.models import Vote
from approvals.people import acting_user
from approvals.quorum import standing
from approvals.visible import visible_line

REFUSED = 3


class Deciding(BaseCommand):
    verdict: Vote.Verdict

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", metavar="ID", help="the request's id")
        parser.add_argument("--as", dest="username", metavar="USERNAME", help="default: the only superuser")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = decide(
                request_id=options["id"],
                by=acting_user(options["username"]),
                verdict=self.verdict,
                reason=options.get("reason") or "",
                channel="cli",
                now=timezone.now(),
            )
        except DecisionError as error:
            if options["json"]:
                self.stdout.write(json.dumps({"code": error.code, "detail": error.message}))
                sys.exit(REFUSED)
            raise CommandError(error.message, returncode=REFUSED) from None
        count = approvals(found)
        if options["json"]:
            facts = {"approval": str(found.pk), "state": found.state, "approvals": count, "quorum": found.quorum}
            self.stdout.write(json.dumps(facts))
        else:
            still = f" ({standing(found).words})" if found.state == found.State.PENDING else ""
            self.stdout.write(f"{found.get_state_display()}{still}: {visible_line(found.command, 200)}")
