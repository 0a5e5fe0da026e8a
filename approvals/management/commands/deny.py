"""`manage.py deny ID --reason WORDS`."""

from django.core.management.base import CommandParser

from approvals.management.deciding import Deciding
from approvals.models import Vote


class Command(Deciding):
    help = "Denies a request; the agent receives the reason. Exits with 3 where the decision is refused."
    verdict = Vote.Verdict.DENY

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--reason", required=True, metavar="WORDS", help="the agent reads it")
