"""`manage.py audit_keys list | rotate | revoke | retire | restart`: every change is a record in the log."""

import json
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from audit import rotation
from audit.actor import Actor
from audit.enrolment import enrolment_public_key
from audit.errors import AuditError
from audit.keyring import REVOKE, ROTATE, Statement
from audit.kinds import Event
from audit.publish import Publisher
from audit.signing import load_key, load_verifier

_ACTOR = Actor.system("audit_keys")


class Command(BaseCommand):
    help = (
        "Changes the log's keys, each change a record: rotates or revokes the checkpoint key, ends a writer's key by index, "
        "or declares that records were lost. Run it as the sequencer's user."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="the checkpoint keys that spoke for this log")
        actions.add_parser("rotate", help="a new checkpoint key, which the old one vouches for")
        revoke = actions.add_parser("revoke", help="a key that was stolen: the checkpoint key, or KID")
        revoke.add_argument("kid", nargs="?", help="a writer's key (16 hex digits) or an enrolment key (64)")
        revoke.add_argument("--from", type=int, dest="from_index", metavar="INDEX", help="default: from now on")
        retire = actions.add_parser("retire", help="a writer's key that is not used any more")
        retire.add_argument("kid")
        retire.add_argument("--from", type=int, dest="from_index", metavar="INDEX", help="default: from now on")
        restart = actions.add_parser("restart", help="declares that signed records are lost, after a restored backup")
        restart.add_argument("--origin", help="the log's new name; default: the old one with /r2, /r3, …")
        restart.add_argument("--yes-records-are-lost", action="store_true", dest="sure", required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except (AuditError, Error, OSError) as error:
            raise CommandError(str(error).splitlines()[0]) from None

    def _publisher(self) -> Publisher:
        vkey = load_key(settings.AUDIT_KEY_DIR).verifier.vkey
        return Publisher(settings.AUDIT_PUBLISH_DIR, vkey, enrolment_public_key())

    def _list(self, options: dict[str, Any]) -> None:
        verifier = load_verifier(settings.AUDIT_KEY_DIR) or load_verifier(settings.AUDIT_PUBLISH_DIR)
        if verifier is None:
            raise CommandError("There is no checkpoint key yet.")
        ring = rotation.ring(verifier)
        for vkey in ring.keys:
            ending = ring.endings.get(vkey)
            ended = None
            if ending is not None:
                ended = {"kind": ending.statement.kind, "from": ending.statement.from_size, "index": ending.index}
            self.stdout.write(json.dumps({"vkey": vkey, "ended": ended}))

    def _rotate(self, options: dict[str, Any]) -> None:
        self._changed(
            rotation.change_key(settings.AUDIT_KEY_DIR, self._publisher(), actor=_ACTOR, kind=ROTATE),
            "Write the new key down where you keep the old one. Witnesses must be told of it.",
        )

    def _revoke(self, options: dict[str, Any]) -> None:
        kid, index = options["kid"], options["from_index"]
        if kid is None:
            self._changed(
                rotation.change_key(
                    settings.AUDIT_KEY_DIR, self._publisher(), actor=_ACTOR, kind=REVOKE, from_size=index
                ),
                "The old key vouches for nothing: give the new one to everybody who checks this log, by hand.",
            )
        elif len(kid) == 64:
            if index is None:
                raise CommandError("Say from which index on: --from INDEX.")
            rotation.revoke_enrolment(kid, actor=_ACTOR, from_index=index)
            self.stdout.write(f"Keys that {kid} endorses count for nothing from index {index} on.")
        else:
            self._ended(kid, Event.KEY_REVOKE, index)

    def _retire(self, options: dict[str, Any]) -> None:
        self._ended(options["kid"], Event.KEY_RETIRE, options["from_index"])

    def _restart(self, options: dict[str, Any]) -> None:
        statement = rotation.restart(settings.AUDIT_KEY_DIR, self._publisher(), actor=_ACTOR, origin=options["origin"])
        self._changed(
            statement,
            f"Records {statement.from_size} to {(statement.lost_to or 0) - 1} are declared lost. audit_verify says so until it is "
            f"told --accept-restart {statement.from_size}. Witnesses take the log under its new name as another one.",
        )

    def _ended(self, kid: str, event: Event, index: int | None) -> None:
        index = rotation.end_record_key(kid, actor=_ACTOR, event=event, from_index=index)
        self.stdout.write(f"The key {kid} ended at index {index}.")

    def _changed(self, statement: Statement, advice: str) -> None:
        self.stdout.write(statement.new.vkey)
        self.stderr.write(f"{statement.old.vkey} speaks for the first {statement.from_size} records. {advice}")
