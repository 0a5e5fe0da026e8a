"""Slack: messages of an app with buttons, changed in place; or of an incoming webhook, with a button to the page."""

from typing import Any

import httpx2
from django.conf import settings

from approvals.channels.base import Channel, Kind, Message
from approvals.errors import ChannelError
from approvals.slack import api, blocks

TIMEOUT = httpx2.Timeout(10.0, connect=5.0)
POSTED = frozenset({Kind.REQUEST, Kind.REMINDER, Kind.ESCALATION})


class Slack(Channel):
    """One message a request in `settings.SLACK_CHANNEL`, or wherever the incoming webhook posts."""

    name = "slack"
    kinds = POSTED
    coalesces = True

    def configured(self) -> bool:
        return api.configured() or bool(settings.SLACK_WEBHOOK_URL)

    def takes(self, kind: str) -> bool:
        """What an incoming webhook posted cannot be changed."""
        return kind in POSTED or (kind == Kind.UPDATE and api.configured())

    def send(self, message: Message) -> str:
        """Gives the conversation and the time stamp that the app's message has.

        Raises:
            ChannelError: not taken; permanent where Slack refuses the message or the webhook itself.
        """
        said = blocks.message(message.items, message.kind)
        if not api.configured():
            return post_to_hook(said)
        channel, _, stamp = message.place.partition("/")
        if message.kind == Kind.UPDATE:
            api.call("chat.update", {"channel": channel, "ts": stamp, **said})
            return message.place
        quiet = {"unfurl_links": False, "unfurl_media": False, "link_names": False, "parse": "none"}
        if stamp:  # a reminder stands below what it reminds of, and is seen by all
            said = {**said, "thread_ts": stamp, "reply_broadcast": True}
        answer = api.call("chat.postMessage", {"channel": channel or settings.SLACK_CHANNEL, **said, **quiet})
        return f"{answer.get('channel')}/{answer.get('ts')}"


def post_to_hook(said: dict[str, Any]) -> str:
    """Posts to the incoming webhook. Raises ChannelError."""
    try:
        answer = httpx2.post(settings.SLACK_WEBHOOK_URL, json=said, timeout=TIMEOUT, follow_redirects=False)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        # the address is a secret: it never stands in the error
        raise ChannelError(f"Slack could not be reached: {type(error).__name__}.") from None
    if answer.status_code != 200:
        again = answer.status_code == 429 or answer.status_code >= 500
        raise ChannelError(f"Slack answered {answer.status_code}: {answer.text[:100]}", permanent=not again)
    return ""
