"""Is a request really from Slack, and is it the first time?

Slack signs the time and the body with the app's signing secret
(https://docs.slack.dev/authentication/verifying-requests-from-slack). A signature holds for five minutes, so each is
taken once and kept for longer than that.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from slack_sdk.signature import Clock, SignatureVerifier

from approvals.errors import SignatureReplayed, SignatureWrong
from approvals.models import SeenSignature

KEPT = timedelta(minutes=15)
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_SIGNATURE = re.compile(r"v0=[0-9a-f]{64}")


class _At(Clock):
    def __init__(self, now: datetime) -> None:
        self._now = now.timestamp()

    def now(self) -> float:
        return self._now


def check(body: bytes, headers: Mapping[str, str], *, now: datetime) -> None:
    """Looks at the signature, and takes it: the same one again is refused.

    Raises:
        SignatureWrong: not made with the secret, too old, or from the future; or there is no secret.
        SignatureReplayed
    """
    timestamp, signature = headers.get("X-Slack-Request-Timestamp", ""), headers.get("X-Slack-Signature", "")
    # its verifier raises on what is no number or no UTF-8, and compares ASCII only
    if not settings.SLACK_SIGNING_SECRET.strip() or not _TIMESTAMP.fullmatch(timestamp):
        raise SignatureWrong("The signature does not hold.")
    if not _SIGNATURE.fullmatch(signature):
        raise SignatureWrong("The signature does not hold.")
    try:
        holds = SignatureVerifier(settings.SLACK_SIGNING_SECRET, _At(now)).is_valid(body, timestamp, signature)
    except ValueError:
        raise SignatureWrong("The signature does not hold.") from None
    if not holds:
        raise SignatureWrong("The signature does not hold.")
    take(f"slack:{signature}", now=now)


def take(what: str, *, now: datetime, kept: timedelta = KEPT) -> None:
    """Takes something signed that counts once. Raises SignatureReplayed."""
    SeenSignature.objects.filter(at__lt=now - kept).delete()
    try:
        with transaction.atomic():
            SeenSignature.objects.create(digest=hashlib.sha256(what.encode()).hexdigest(), at=now)
    except IntegrityError:
        raise SignatureReplayed("This was taken before.") from None
