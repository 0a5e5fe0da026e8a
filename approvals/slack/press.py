"""What a press of a button, or a modal that is sent, does. The message itself is changed through the outbox."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from celery import current_app
from django.contrib.auth.models import User
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from approvals.decisions import decide
from approvals.errors import ChannelError, DecisionError, NotFound, PressMalformed, TooLate
from approvals.models import ApprovalRequest, Vote
from approvals.slack import api, blocks, identities
from approvals.slack.identities import Account

log = logging.getLogger(__name__)

SAY, QUEUE = "approvals.slack_say", "control"
CHANNEL = "slack"
UNLINKED = "This Slack account is not linked yet. Sign in here within ten minutes, then press again: {link}"
ON_THE_PAGE = "This is decided on its page."


@dataclass(frozen=True, slots=True, kw_only=True)
class Press:
    """action: the button, or `deny` of a modal; value: what it carries; place: the conversation, "" for a modal."""

    account: Account
    action: str
    value: str
    place: str = ""
    trigger: str = ""
    reason: str = ""
    modal: bool = False


def act(payload: str, *, now: datetime) -> dict[str, Any]:
    """Does what the payload says, and gives the answer to Slack ({}: nothing to say there).

    Whoever pressed learns what came of it from the bot, afterwards: Slack waits for three seconds.

    Raises:
        PressMalformed: it is not a press that we know.
    """
    press = _read(payload)
    if press is None or press.action.startswith("open"):
        return {}
    user = identities.user_of(press.account)
    if user is None:
        return _answer(press, UNLINKED.format(link=identities.link_for(press.account)))
    try:
        return _press(press, user, now)
    except (DecisionError, ChannelError) as error:
        return _answer(press, error.message)


def _press(press: Press, user: User, now: datetime) -> dict[str, Any]:
    """Raises DecisionError, ChannelError."""
    request = _shown(press)
    if press.action == "deny" and not press.modal:
        modal = {"trigger_id": press.trigger, "view": blocks.deny_modal(press.value, request)}
        api.call("views.open", modal, timeout_s=api.HURRY_S)
        return {}
    verdict = Vote.Verdict.DENY if press.action == "deny" else Vote.Verdict.APPROVE
    decided = decide(request_id=request.pk, by=user, verdict=verdict, reason=press.reason, channel=CHANNEL, now=now)
    if press.modal:
        return {}
    open_still = decided.state == ApprovalRequest.State.PENDING
    return _answer(press, "Your approval counts; more are needed." if open_still else "Approved.")


def _shown(press: Press) -> ApprovalRequest:
    """The request, as it was shown beside the button. Raises NotFound, TooLate, and DecisionError for high risk."""
    request_id, _, digest = press.value.partition(":")
    try:
        request = ApprovalRequest.objects.filter(pk=UUID(request_id)).first()
    except ValueError:
        request = None
    if request is None:
        raise NotFound("There is no such request.")
    if request.digest != digest:
        raise TooLate("The call has changed since this message: look at it again.")
    if not blocks.decidable(request):
        raise DecisionError(ON_THE_PAGE)
    return request


def _answer(press: Press, words: str) -> dict[str, Any]:
    """In the modal where there is one, else from the bot to whoever pressed."""
    if press.modal:
        return {"response_action": "errors", "errors": {"reason": words[:150]}}
    if press.place:
        try:
            current_app.send_task(SAY, args=[press.place, press.account.user, words], queue=QUEUE, ignore_result=True)
        except (KombuError, RedisError, OSError) as error:
            log.warning("slack.unsaid", extra={"error": type(error).__name__})
    return {}


def _read(payload: str) -> Press | None:
    """None: something else that Slack tells. Raises PressMalformed."""
    try:
        given = json.loads(payload)
        kind = given["type"]
        if kind == "block_actions":
            return _button(given)
        if kind == "view_submission":
            return _modal(given)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise PressMalformed("This is not what Slack sends when a button is pressed.") from None
    return None


def _button(given: Mapping[str, Any]) -> Press:
    action = given["actions"][0]
    return Press(
        account=_account(given),
        action=str(action["action_id"]),
        value=str(action.get("value") or ""),
        place=str((given.get("channel") or {}).get("id") or ""),
        trigger=str(given.get("trigger_id") or ""),
    )


def _modal(given: Mapping[str, Any]) -> Press:
    view = given["view"]
    return Press(
        account=_account(given),
        action=str(view["callback_id"]),
        value=str(view["private_metadata"]),
        reason=str(view["state"]["values"]["reason"]["reason"]["value"] or ""),
        modal=True,
    )


def _account(given: Mapping[str, Any]) -> Account:
    user, team = given["user"], given.get("team") or {}
    return Account(
        team=str(team.get("id") or user["team_id"])[:40],
        user=str(user["id"])[:40],
        name=str(user.get("username") or user.get("name") or "")[:80],
    )
