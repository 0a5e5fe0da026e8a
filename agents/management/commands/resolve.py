"""`manage.py resolve JOB KEY --happened yes|no`."""

import json
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from agents.engine.answers import by_person
from agents.errors import AgentsError
from agents.people import acting_user
from agents.selectors import changeable_job, visible_step
from audit.actor import Actor

REFUSED = 3


class Command(BaseCommand):
    help = (
        "Says whether a step in doubt happened: yes lets the job go on, no runs the step again. "
        "Exits with 3 where the step is not in doubt."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("job", type=UUID)
        parser.add_argument("key", help="the step's key, such as 9.1")
        parser.add_argument("--happened", required=True, choices=["yes", "no"])
        parser.add_argument("--reason", default="", help="how you know; it stands in the audit log")
        parser.add_argument("--as", dest="username", metavar="USER", help="default: the only superuser")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            user = acting_user(options["username"])
            job = changeable_job(user, options["job"])
            step = visible_step(user, job.pk, options["key"])
            happened = options["happened"] == "yes"
            who, reason = Actor.user(user.pk), options["reason"].strip()
            by_person(step.pk, happened=happened, by=who, now=timezone.now(), reason=reason)
        except AgentsError as error:
            raise CommandError(error.message, returncode=REFUSED) from None
        step.refresh_from_db()
        told = {"job": str(job.pk), "step": step.key, "state": step.state}
        self.stdout.write(json.dumps(told) if options["json"] else f"Step {step.key} is {step.state}.")
