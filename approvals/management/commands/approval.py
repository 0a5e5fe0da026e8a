"""`manage.py approval show|edit|ask|take-back|break-glass|grant|batch|review REQUEST` and `delegate`, `revoke`."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group, User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from approvals import batch, comments, deputies, editing, glass, granting, taking_back
from approvals.decisions import may_decide
from approvals.errors import ApprovalsError, InvalidEdit, InvalidGrant
from approvals.models import ApprovalRequest, BreakGlass
from approvals.people import acting_user
from approvals.quorum import standing
from approvals.selectors import visible_request
from approvals.visible import visible, visible_line

REFUSED = 3
CHANNEL = "cli"
TOLD = {
    "show": "what is asked, who has agreed, and whether you may decide",
    "edit": "other arguments for the call: it is decided on anew",
    "ask": "asks back; the agent answers, or the requester",
    "take-back": "withdraws your approval, until what was approved has begun",
    "break-glass": "approves in an emergency; somebody else reviews it",
    "grant": "approves this call, and calls like it in the same job for a while; without --minutes: what it would cover",
    "batch": "decides several like requests of low risk",
    "review": "says whether an approval in an emergency was justified",
    "delegate": "lets somebody decide in your place",
    "end-delegation": "ends that before its time",
    "revoke": "ends a grant",
}


class Command(BaseCommand):
    help = "What else people do with approvals (see also approve and deny). Exits with 3 where it is refused."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        made = {name: actions.add_parser(name, help=told) for name, told in TOLD.items()}
        for one in made.values():
            one.add_argument("--as", dest="username", metavar="USERNAME", help="default: the only superuser")
            one.add_argument("--json", action="store_true", help="print JSON")
        for name in ("show", "edit", "ask", "take-back", "break-glass", "grant", "review"):
            made[name].add_argument("id", type=UUID, metavar="ID", help="the request's id")
        made["edit"].add_argument("--arguments", required=True, metavar="JSON", help="all of them, as they are to be")
        made["edit"].add_argument("--reason", default="", metavar="WORDS")
        made["ask"].add_argument("--text", required=True, metavar="WORDS")
        made["break-glass"].add_argument("--reason", required=True, metavar="WORDS", help="why this cannot wait")
        made["grant"].add_argument("--minutes", type=int, metavar="N")
        made["grant"].add_argument("--uses", type=int, default=10, metavar="N", help="default: 10")
        made["grant"].add_argument(
            "--matcher", metavar="JSON", help="a pattern for each argument; default: as proposed"
        )
        made["batch"].add_argument("ids", nargs="+", type=UUID, metavar="ID")
        made["batch"].add_argument("--verdict", choices=["approve", "deny"], required=True)
        made["batch"].add_argument("--reason", default="", metavar="WORDS")
        made["review"].add_argument("--verdict", choices=["justified", "unjustified"], required=True)
        made["review"].add_argument("--words", required=True, metavar="WORDS", help="why")
        made["delegate"].add_argument("--to", required=True, metavar="USERNAME")
        made["delegate"].add_argument("--days", type=int, required=True, metavar="N", help="from now")
        made["delegate"].add_argument("--group", action="append", default=[], metavar="NAME", help="only as its member")
        made["delegate"].add_argument("--reason", default="", metavar="WORDS")
        made["end-delegation"].add_argument("id", type=UUID, metavar="ID")
        made["revoke"].add_argument("id", type=UUID, metavar="ID", help="the grant's id")

    def handle(self, *args: Any, **options: Any) -> None:
        act: Callable[..., dict[str, Any]] = getattr(self, f"_{options['action'].replace('-', '_')}")
        try:
            facts = act(acting_user(options["username"]), options, timezone.now())
        except ApprovalsError as error:
            if options["json"]:
                self.stdout.write(json.dumps({"code": error.code, "detail": error.message}))
            field = getattr(error, "field", "")
            raise CommandError(f"{field}: {error.message}" if field else error.message, returncode=REFUSED) from None
        if options["json"]:
            self.stdout.write(json.dumps(facts, default=str))
            return
        for name, value in facts.items():
            shown = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
            self.stdout.write(f"{name}: {visible(shown)}")

    def _show(self, by: User, options: dict[str, Any], now: datetime) -> dict[str, Any]:
        found = visible_request(by, options["id"])
        may, why = may_decide(found, by, now=now)
        has = standing(found)
        return {
            **_told(found),
            "command": found.command,
            "risk": found.risk,
            "standing": has.words,
            "expires_at": found.expires_at,
            "changed": found.changed,
            "you_may_decide": may,
            "why_not": why,
        }

    def _edit(self, by: User, options: dict[str, Any], now: datetime) -> dict[str, Any]:
        given = _json(options["arguments"], InvalidEdit("--arguments takes a JSON object.", field="arguments"))
        request_id, reason = options["id"], options["reason"]
        done = editing.edit(request_id=request_id, by=by, arguments=given, reason=reason, channel=CHANNEL, now=now)
        return _told(done)

    def _ask(self, by: User, options: dict[str, Any], now: datetime) -> dict[str, Any]:
        asked = comments.ask_back(request_id=options["id"], by=by, text=options["text"], channel=CHANNEL, now=now)
        return {"question": str(asked.pk), "state": str(asked.state)}

    def _take_back(self, by: User, options: dict[str, Any], now: datetime) -> dict[str, Any]:
        return _told(taking_back.take_back(request_id=options["id"], by=by, channel=CHANNEL, now=now))

    def _break_glass(self, by: User, options: dict[str, Any], now: datetime) -> dict[str, Any]:
        request_id, reason = options["id"], options["reason"]
        done = glass.break_glass(request_id=request_id, by=by, reason=reason, channel=CHANNEL, now=now)
        return {**_told(done), "review_by": BreakGlass.objects.get(request=done).review_by}

    def _grant(self, by: User, options: dict[str, Any], now: datetime) -> dict[str, Any]:
        found = visible_request(by, options["id"])
        proposal = granting.propose(found, now=now)
        if proposal is None:
            raise InvalidGrant(granting.why_not(found))
        if options["minutes"] is None:
            return asdict(proposal)
        wrong = InvalidGrant("--matcher takes a JSON object.", field="matcher")
        matcher = _json(options["matcher"], wrong) if options["matcher"] else proposal.matcher
        minutes, uses = options["minutes"], options["uses"]
        given = granting.give(
            request_id=found.pk, by=by, minutes=minutes, uses=uses, matcher=matcher, channel=CHANNEL, now=now
        )
        return {"grant": str(given.pk), "words": given.words, "uses": given.uses_max, "expires_at": given.expires_at}

    def _batch(self, by: User, options: dict[str, Any], now: datetime) -> dict[str, Any]:
        ids, verdict, reason = options["ids"], options["verdict"], options["reason"]
        results = batch.decide_all(request_ids=ids, by=by, verdict=verdict, reason=reason, channel=CHANNEL, now=now)
        return {str(found.pk): error.message if error else str(found.state) for found, error in results}

    def _review(self, by: User, options: dict[str, Any], now: datetime) -> dict[str, Any]:
        found = BreakGlass.objects.filter(request_id=options["id"]).first()
        glass_id, verdict = (found.pk if found else options["id"]), options["verdict"]
        done = glass.review(glass_id=glass_id, by=by, verdict=verdict, words=options["words"], now=now)
        return {"approval": str(done.request_id), "verdict": str(done.verdict)}

    def _delegate(self, by: User, options: dict[str, Any], now: datetime) -> dict[str, Any]:
        deputy = User.objects.filter(username=options["to"], is_active=True).first()
        if deputy is None:
            raise CommandError(f"There is no active user {options['to']!r}.")
        groups = list(Group.objects.filter(name__in=options["group"]))
        if len(groups) != len(set(options["group"])):
            raise CommandError("There is no such group.")
        given = deputies.delegate(
            person=by,
            deputy=deputy,
            starts_at=now,
            ends_at=now + timedelta(days=options["days"]),
            groups=groups,
            reason=options["reason"],
            now=now,
        )
        return {"delegation": str(given.pk), "deputy": deputy.get_username(), "ends_at": given.ends_at}

    def _end_delegation(self, by: User, options: dict[str, Any], now: datetime) -> dict[str, Any]:
        done = deputies.revoke(delegation_id=options["id"], by=by, now=now)
        return {"delegation": str(done.pk), "ended_at": done.revoked_at}

    def _revoke(self, by: User, options: dict[str, Any], now: datetime) -> dict[str, Any]:
        done = granting.revoke(grant_id=options["id"], by=by, now=now)
        return {"grant": str(done.pk), "uses": done.uses, "revoked_at": done.revoked_at}


def _told(request: ApprovalRequest) -> dict[str, Any]:
    return {"approval": str(request.pk), "state": str(request.state), "title": visible_line(request.title, 200)}


def _json(text: str, wrong: ApprovalsError) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        raise wrong from None
    if not isinstance(given, dict):
        raise wrong
    return given
