"""`manage.py job pause|resume|cancel|stop-undoing|retry|fork JOB`."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from agents.engine.cancel import cancel_job, stop_undoing
from agents.engine.control.fork import fork_job
from agents.engine.control.pause import pause_job, resume_job
from agents.engine.control.retry import retry_job
from agents.errors import AgentsError, AlreadyDone
from agents.models import Job
from agents.payload import ForkInput, parse
from agents.people import acting_user
from agents.selectors import changeable_job, visible_job
from agents.states import JOB_DONE, JobState
from audit.actor import Actor
from tools.errors import ToolError

REFUSED = 3


class Command(BaseCommand):
    help = (
        "Pauses, resumes, cancels or retries a job, or forks a new one from a step of it. Exits with 3 where the job's "
        "state does not allow it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        told = {
            "pause": "what runs goes on to its end, nothing else begins",
            "resume": "a paused job goes on",
            "cancel": "what has not begun never does, what runs is stopped",
            "stop-undoing": "a job that undoes what it did stops there, and fails",
            "retry": "a failed or cancelled job goes on with what did not succeed",
            "fork": "a new job that begins at a step of this one, with the workspace as it was then",
        }
        for name, help_text in told.items():
            one = actions.add_parser(name, help=help_text)
            one.add_argument("job", type=UUID)
            one.add_argument("--as", dest="username", metavar="USER", help="default: the only superuser")
            one.add_argument("--json", action="store_true", help="print JSON")
            if name == "retry":
                one.add_argument(
                    "--from", dest="from_step", default="", metavar="KEY", help="what comes before it stays"
                )
                one.add_argument(
                    "--did-not-happen",
                    action="append",
                    default=[],
                    metavar="KEY",
                    help="a step that was stopped in mid-act and did not happen, as you have made sure",
                )
            if name == "fork":
                one.add_argument("--step", required=True, metavar="KEY", help="the step to begin with")
                one.add_argument("--arguments", metavar="JSON", help="other arguments for that step")

    def handle(self, *args: Any, **options: Any) -> None:
        act: Callable[[User, dict[str, Any], datetime], Job] = getattr(self, f"_{options['action'].replace('-', '_')}")
        try:
            job = act(acting_user(options["username"]), options, timezone.now())
        except (AgentsError, ToolError) as error:
            named = [
                f"{field}: {why}" for field, why in getattr(error, "problems", ()) if field.startswith("arguments")
            ]
            raise CommandError("\n".join(named) or error.message, returncode=REFUSED) from None
        told = {"job": str(job.pk), "state": str(job.state)}
        self.stdout.write(json.dumps(told) if options["json"] else f"Job {job.pk} is {job.state}.")

    def _pause(self, user: User, options: dict[str, Any], now: datetime) -> Job:
        return pause_job(changeable_job(user, options["job"]).pk, by=Actor.user(user.pk), now=now)

    def _resume(self, user: User, options: dict[str, Any], now: datetime) -> Job:
        return resume_job(changeable_job(user, options["job"]).pk, by=Actor.user(user.pk), now=now)

    def _cancel(self, user: User, options: dict[str, Any], now: datetime) -> Job:
        job = changeable_job(user, options["job"])
        if job.state in JOB_DONE and job.state != JobState.CANCELLED:
            raise AlreadyDone(f"The job has {job.state} already.")
        return cancel_job(job.pk, by=Actor.user(user.pk), now=now)

    def _stop_undoing(self, user: User, options: dict[str, Any], now: datetime) -> Job:
        return stop_undoing(changeable_job(user, options["job"]).pk, by=Actor.user(user.pk), now=now)

    def _retry(self, user: User, options: dict[str, Any], now: datetime) -> Job:
        return retry_job(
            changeable_job(user, options["job"]).pk,
            by=Actor.user(user.pk),
            now=now,
            from_step=options["from_step"],
            did_not_happen=options["did_not_happen"],
        )

    def _fork(self, user: User, options: dict[str, Any], now: datetime) -> Job:
        given = {"step": options["step"]}
        if options["arguments"] is not None:
            try:
                given["arguments"] = json.loads(options["arguments"])
            except ValueError as error:
                raise CommandError(f"--arguments is no JSON: {error}") from None
        checked = parse(ForkInput, given)
        job = visible_job(user, options["job"])
        return fork_job(job.pk, at=checked.step, by=user, now=now, arguments=checked.arguments)
