"""`manage.py audit_erase`: values that must go, go; the records that held them stay, and still verify."""

from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, transaction

from audit.actor import Actor
from audit.erase import erase
from audit.models import Record


class Command(BaseCommand):
    help = (
        "Erases the values (arguments, output, names, reasons) of records. What happened, who did it and when stays on "
        "record, with a record of the erasure; old proofs still verify. It cannot be undone."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("records", nargs="*", type=UUID, metavar="RECORD", help="ids of records")
        parser.add_argument("--about", action="append", default=[], metavar="ID", help="all records whose target it is")
        parser.add_argument("--reason", required=True, help="why; it is kept, so it names nobody")
        parser.add_argument("--yes", action="store_true", help="do it; without this it only says what it would erase")

    def handle(self, *args: Any, **options: Any) -> None:
        reason = str(options["reason"]).strip()
        if not reason:
            raise CommandError("Say why.")
        if not options["records"] and not options["about"]:
            raise CommandError("Name a record, or give --about with the id of what records are about.")
        try:
            self._erase(self._wanted(options["records"], options["about"]), reason, sure=options["yes"])
        except Error as error:
            raise CommandError(f"Nothing was erased: {str(error).strip().splitlines()[0]}", returncode=1) from None

    def _wanted(self, ids: list[UUID], about: list[str]) -> list[UUID]:
        known = set(Record.objects.filter(pk__in=ids).values_list("pk", flat=True))
        missing = [one for one in ids if one not in known]
        if missing:
            raise CommandError(f"There is no record {missing[0]}.")
        found = dict.fromkeys(ids)
        for one in about:
            records = list(Record.objects.filter(target_id=one).order_by("pk").values_list("pk", flat=True))
            if not records:
                raise CommandError(f"No record is about {one}.")
            found.update(dict.fromkeys(records))
        return list(found)

    def _erase(self, wanted: list[UUID], reason: str, *, sure: bool) -> None:
        """All of them, or none."""
        if not sure:
            values = sum(Record.objects.get(pk=one).payloads.exclude(salt=None).count() for one in wanted)
            self.stdout.write(f"Would erase {values} values of {len(wanted)} records. Add --yes to do it.")
            return
        with transaction.atomic():
            erased = [slots for one in wanted if (slots := erase(one, actor=Actor.system("command"), reason=reason))]
        self.stdout.write(f"Erased {sum(map(len, erased))} values of {len(erased)} records.")
