"""`manage.py audit_attest`: after maintenance of yours, the log says that its guards are meant to be as they are now."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error, transaction

from audit.actor import Actor
from audit.attestation import attest
from audit.checking.database import check_guards
from audit.checking.findings import Report
from audit.errors import AuditError


class Command(BaseCommand):
    help = (
        "Records that the triggers and functions that guard the audit log are meant to be as they are now. Needed after "
        "a restored dump or work on the tables; an update of the server is recorded by the sequencer itself."
    )
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        report = Report()
        try:
            check_guards(report)
            if report.findings:
                raise CommandError(f"The guards are not those of this release: {report.findings[0].message}")
            with transaction.atomic():
                digest = attest(actor=Actor.system("audit_attest"), log=settings.AUDIT_ORIGIN)
        except (AuditError, Error) as error:
            raise CommandError(str(error).splitlines()[0]) from None
        self.stdout.write(f"Recorded: the guards' digest is {digest}.")
