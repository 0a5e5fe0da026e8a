"""The ways to people: each is connected and signed in to. Nothing is sent, unless that is asked for."""

import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage, get_connection
from standardwebhooks import Webhook

from approvals import channels
from approvals.channels.slack import post_to_hook
from approvals.errors import ChannelError
from approvals.slack import api
from config.doctor import services
from config.verify.line import Line, failed, judged, not_here, passed

TIMEOUT_S = 5.0
TEST = "A test of the connection: nobody has to do anything."


def listed() -> Iterator[Line]:
    """The channels load, and one at least is set up."""
    try:
        names = [channel.name for channel in channels.active()]
    except ImproperlyConfigured as error:
        yield failed("channels", str(error), "Mend APPROVAL_CHANNELS.")
        return
    if names:
        yield passed("channels", ", ".join(names))
    else:
        yield failed("channels", "none is set up, so nobody learns of requests", "Set up mail or Slack.")


def mail(send_to: str = "") -> Iterator[Line]:
    """In production people must be reachable by mail."""
    if not settings.EMAIL_HOST and not settings.MAILBOX_ENABLED:
        yield failed("mail", "EMAIL_HOST is not set, so approvers get no mail", "Set EMAIL_HOST and EMAIL_FROM.")
        return
    lines = list(judged(services.mail()))
    yield from lines
    if send_to and all(line.result == "pass" for line in lines):
        message = EmailMessage(
            f"{settings.SITE_NAME}: a test", TEST, None, [send_to], connection=get_connection(fail_silently=False)
        )
        try:
            message.send()
        except (OSError, ValueError) as error:  # smtplib's errors are OSErrors
            yield failed("mail sent", f"{type(error).__name__}: {error}"[:300], "Check EMAIL_FROM and the address.")
        else:
            yield passed("mail sent", f"to {send_to}")


def slack(send: bool = False) -> Iterator[Line]:
    """The bot signs in; of an incoming webhook only the host can be asked without posting."""
    yield from judged(services.slack())
    if api.configured() and not settings.SLACK_SIGNING_SECRET:
        yield failed("slack buttons", "SLACK_SIGNING_SECRET is not set", "Copy it from the app's Basic Information.")
    elif api.interactive():
        yield passed("slack buttons", f"presses come to {settings.PUBLIC_URL}/slack/interactivity/")
    else:
        yield not_here("slack buttons", "not configured (SLACK_BOT_TOKEN)")
    if not settings.SLACK_WEBHOOK_URL or api.configured():
        if send and api.configured():
            yield from _slack_sent()
        return
    yield from _connected("slack webhook", settings.SLACK_WEBHOOK_URL)
    if send:
        yield from _slack_sent()


def _slack_sent() -> Iterator[Line]:
    said = {"text": f"{settings.SITE_NAME}: {TEST}"}
    try:
        if api.configured():
            api.call("chat.postMessage", {"channel": settings.SLACK_CHANNEL, **said})
        else:
            post_to_hook(said)
    except ChannelError as error:
        yield failed("slack sent", error.message, "Invite the app's bot to the conversation; check SLACK_CHANNEL.")
    else:
        yield passed("slack sent", "posted")


def webhook() -> Iterator[Line]:
    """A service of one's own (`approvals.channels.webhook`)."""
    if not settings.APPROVAL_WEBHOOK_URL:
        yield not_here("approval webhook", "not configured (APPROVAL_WEBHOOK_URL)")
        return
    try:
        Webhook(settings.APPROVAL_WEBHOOK_SECRET)
    except (ValueError, RuntimeError) as error:
        yield failed("approval webhook", f"APPROVAL_WEBHOOK_SECRET: {error}", "Set it as whsec_ and base64.")
        return
    if urlsplit(settings.APPROVAL_WEBHOOK_URL).scheme != "https" and not settings.ALLOW_LOCAL_WEBHOOKS:
        yield failed("approval webhook", "APPROVAL_WEBHOOK_URL is not https", "Give it an https address.")
        return
    yield from _connected("approval webhook", settings.APPROVAL_WEBHOOK_URL)


def _connected(name: str, url: str) -> Iterator[Line]:
    """Connects, with TLS where the address says so; no request is made. Of the address only the host is told."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with socket.create_connection((host, port), timeout=TIMEOUT_S) as plain:
            if parts.scheme == "https":
                ssl.create_default_context().wrap_socket(plain, server_hostname=host).close()
    except (OSError, ValueError) as error:
        yield failed(name, f"{host}: {type(error).__name__}: {error}"[:300], "Check the address and the way out to it.")
    else:
        yield passed(name, f"{host} can be connected to")
