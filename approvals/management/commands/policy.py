"""`manage.py policy …`: policies as code, from a shell or a CI run."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from approvals.errors import ApprovalsError
from approvals.management import policies

REFUSED = 3


class Command(BaseCommand):
    help = (
        "Policies: list, export, import, test, simulate, backtest, acknowledge, propose, publish, roll back, compare. "
        "Exits with 1 where a test or an expectation fails, and with 3 where something is refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        for action in policies.ACTIONS:
            one = actions.add_parser(action.name, help=action.help)
            action.arguments(one)
            one.add_argument("--json", action="store_true", help="print JSON")
            if action.by_person:
                one.add_argument("--as", dest="username", metavar="USER", help="default: the only superuser")

    def handle(self, *args: Any, **options: Any) -> None:
        action = next(one for one in policies.ACTIONS if one.name == options["action"])
        try:
            ok = action.run(self.stdout, options)
        except ApprovalsError as error:
            pairs = getattr(error, "problems", None) or [(getattr(error, "field", ""), error.message)]
            told = [f"{where}: {message}" if where else message for where, message in pairs]
            raise CommandError("\n".join(told), returncode=REFUSED) from None
        except (OSError, ValueError) as error:
            raise CommandError(str(error), returncode=REFUSED) from None
        if not ok:
            sys.exit(1)
