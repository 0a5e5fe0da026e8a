"""`manage.py token create|list|revoke`."""

import json
import sys
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from agents.errors import InvalidInput
from agents.models import ApiToken
from agents.people import acting_user
from agents.tokens import create_token, revoke_token
from audit.actor import Actor

ACTOR = Actor.system("manage.py")
REFUSED = 3


class Command(BaseCommand):
    help = "Makes, lists and revokes API tokens."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="makes a token and prints it: the only time that it is shown")
        create.add_argument("--user", required=True, metavar="USER", help="whom it acts for")
        create.add_argument("--name", required=True, help="what it is for")
        create.add_argument("--scope", action="append", required=True, choices=ApiToken.Scope.values, dest="scopes")
        create.add_argument("--days", type=int, metavar="N", help="ends after N days; default: never")
        create.add_argument("--json", action="store_true")
        listing = actions.add_parser("list", help="lists tokens; never their secrets")
        listing.add_argument("--user", metavar="USER")
        listing.add_argument("--json", action="store_true")
        revoke = actions.add_parser("revoke", help="ends a token")
        revoke.add_argument("id", help="the token's id")
        revoke.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except InvalidInput as error:
            if options["json"]:
                self.stdout.write(json.dumps({"code": error.code, "detail": error.message}))
                sys.exit(REFUSED)
            raise CommandError(error.message, returncode=REFUSED) from None

    def _create(self, options: dict[str, Any]) -> None:
        now, days = timezone.now(), options["days"]
        if days is not None and not 1 <= days <= 3650:
            raise InvalidInput("--days must be from 1 to 3650.", field="days")
        token, secret = create_token(
            user=acting_user(options["user"]),
            name=options["name"],
            scopes=options["scopes"],
            now=now,
            actor=ACTOR,
            expires_at=None if days is None else now + timedelta(days=days),
        )
        if options["json"]:
            self.stdout.write(json.dumps({**_facts(token), "token": secret}))
        else:
            self.stdout.write(secret)

    def _list(self, options: dict[str, Any]) -> None:
        tokens = ApiToken.objects.select_related("user")
        if options["user"]:
            tokens = tokens.filter(user=acting_user(options["user"]))
        if options["json"]:
            self.stdout.write(json.dumps([_facts(token) for token in tokens]))
            return
        for token in tokens:
            end = (
                "revoked"
                if token.revoked_at
                else f"until {token.expires_at:%Y-%m-%d}"
                if token.expires_at
                else "no end"
            )
            self.stdout.write(f"{token.pk}  {token.hint}…  {token.user}  {token.name}  {','.join(token.scopes)}  {end}")

    def _revoke(self, options: dict[str, Any]) -> None:
        try:
            token = ApiToken.objects.filter(pk=UUID(options["id"])).first()
        except ValueError:
            token = None
        if token is None:
            raise InvalidInput(f"There is no token {options['id']}.", field="id")
        ended = revoke_token(token, now=timezone.now(), actor=ACTOR)
        if options["json"]:
            self.stdout.write(json.dumps({"id": str(token.pk), "revoked": ended}))
        else:
            self.stdout.write("Revoked." if ended else "It was revoked before.")


def _facts(token: ApiToken) -> dict[str, Any]:
    def text(moment: Any) -> str | None:
        return None if moment is None else moment.isoformat()

    return {
        "id": str(token.pk),
        "name": token.name,
        "user": token.user.get_username(),
        "hint": token.hint,
        "scopes": list(token.scopes),
        "created_at": text(token.created_at),
        "expires_at": text(token.expires_at),
        "revoked_at": text(token.revoked_at),
        "used_at": text(token.used_at),
    }
