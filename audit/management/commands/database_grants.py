"""`manage.py database_grants --app-role NAME`: after `migrate`, as the role that migrated."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, connection, transaction

from audit import grants


class Command(BaseCommand):
    help = "Grants the application's role its work on the tables, and on the audit log nothing but append and read."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--app-role", required=True, help="the role that web and workers connect as")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with transaction.atomic():
                grants.apply(connection, options["app_role"])
        except (grants.RoleOwnsLog, Error) as error:
            raise CommandError(str(error).splitlines()[0]) from None
        self.stdout.write(f"{options['app_role']} may work on the tables, and append to and read the audit log.")
