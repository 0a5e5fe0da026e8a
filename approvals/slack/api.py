"""Slack's Web API, with errors that say whether another try helps."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web import SlackResponse, WebClient

from approvals.errors import ChannelError

log = logging.getLogger(__name__)

TIMEOUT_S = 10
HURRY_S = 2  # while Slack waits for our own answer, which it does for three seconds
# The message is wrong, or gone: no other try helps. What an administrator can mend in the app is tried again.
_FINAL = frozenset(
    {
        "invalid_blocks",
        "invalid_blocks_format",
        "msg_too_long",
        "no_text",
        "message_not_found",
        "cant_update_message",
        "edit_window_closed",
        "invalid_arguments",
    }
)


def configured() -> bool:
    """Can messages be sent and changed by the app's bot?"""
    return bool(settings.SLACK_BOT_TOKEN and settings.SLACK_CHANNEL)


def interactive() -> bool:
    """Can presses of buttons be told from forgeries?"""
    return configured() and bool(settings.SLACK_SIGNING_SECRET)


def call(method: str, arguments: Mapping[str, Any], *, timeout_s: float | None = None) -> SlackResponse:
    """One call that writes, such as `chat.postMessage`.

    Raises:
        ChannelError: Slack did not take it, or could not be reached; the token is never part of what it says.
    """
    with _told(method):
        return _client(timeout_s).api_call(method, json=dict(arguments))


def ask(method: str, arguments: Mapping[str, Any], *, timeout_s: float | None = None) -> SlackResponse:
    """One call that reads, such as `users.info`: those take no JSON. Raises ChannelError."""
    with _told(method):
        return _client(timeout_s).api_call(method, params=dict(arguments))


@contextmanager
def _told(method: str) -> Iterator[None]:
    try:
        yield
    except SlackApiError as error:
        said = str(error.response.get("error") or error.response.status_code)[:100]
        raise ChannelError(f"Slack refuses {method}: {said}", permanent=said in _FINAL) from None
    except (SlackClientError, OSError, ValueError) as error:
        raise ChannelError(f"Slack could not be reached for {method}: {type(error).__name__}.") from None


def _client(timeout_s: float | None) -> WebClient:
    token, url = settings.SLACK_BOT_TOKEN, settings.SLACK_API_URL
    return WebClient(token=token, base_url=url, timeout=int(timeout_s or TIMEOUT_S), retry_handlers=[])


def say(channel: str, user: str, text: str) -> None:
    """Tells one person something that nobody else sees. Losing it costs nothing: the message itself says what is so."""
    try:
        call("chat.postEphemeral", {"channel": channel, "user": user, "text": escaped(text)})
    except ChannelError as error:
        log.warning("slack.unsaid", extra={"error": error.message})


def escaped(text: str) -> str:
    """Where text is markup to Slack, these three characters are its syntax."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
