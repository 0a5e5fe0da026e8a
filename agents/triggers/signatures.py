"""Signatures of deliveries: Standard Webhooks (both ways), GitHub's and GitLab's. Pure.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass

from agents.triggers.errors import DeliveryMalformed, DeliveryStale, SignatureInvalid
from agents.triggers.secrets import PREFIX

ID_MAX = 200
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_ID = re.compile(r"[\x21-\x7e]{1,200}")
SIGNATURES_MAX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """delivery_id: as the sender names it; identity: what of it is signed, so that it cannot be sent twice."""

    delivery_id: str
    identity: str


def sign(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` of a message: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key(secret), signed, hashlib.sha256).digest()).decode()


def key(secret: str) -> bytes:
    """The bytes that `whsec_…` stands for; any other text stands for itself."""
    if not secret.startswith(PREFIX):
        return secret.encode()
    encoded = secret.removeprefix(PREFIX)
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return secret.encode()


def verify(
    scheme: str, secret: str, *, headers: Mapping[str, str], body: bytes, tolerance_s: int, now_s: float
) -> Verified:
    """Does the delivery come from who knows the secret? `headers` have lower-case names.

    Raises:
        DeliveryMalformed: a header is missing or has no form.
        SignatureInvalid, DeliveryStale
    """
    return {"standard": _standard, "github": _github, "gitlab": _gitlab}[scheme](
        secret, headers, body, tolerance_s, now_s
    )


def _standard(secret: str, headers: Mapping[str, str], body: bytes, tolerance_s: int, now_s: float) -> Verified:
    message_id, timestamp = _header(headers, "webhook-id"), _header(headers, "webhook-timestamp")
    given = _header(headers, "webhook-signature").split(" ")[:SIGNATURES_MAX]
    if not _ID.fullmatch(message_id):
        raise DeliveryMalformed(f"webhook-id must be 1 to {ID_MAX} visible ASCII characters.")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise DeliveryMalformed("webhook-timestamp must be seconds since 1970.")
    expected = sign(secret, message_id=message_id, timestamp=int(timestamp), body=body)
    # each is compared, whichever fits: the time says nothing
    held = [hmac.compare_digest(expected.encode(), one.encode()) for one in given]
    if True not in held:
        raise SignatureInvalid("The signature does not hold.")
    if abs(now_s - int(timestamp)) > tolerance_s:
        raise DeliveryStale(f"webhook-timestamp lies more than {tolerance_s} seconds from this server's time.")
    return Verified(delivery_id=message_id, identity=message_id)


def _github(secret: str, headers: Mapping[str, str], body: bytes, tolerance_s: int, now_s: float) -> Verified:
    """GitHub signs the body and nothing else: X-GitHub-Delivery could be made up, so the body is the identity."""
    given = _header(headers, "x-hub-signature-256")
    expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), given.encode()):
        raise SignatureInvalid("The signature does not hold.")
    return Verified(delivery_id=_id(headers, "x-github-delivery"), identity=hashlib.sha256(body).hexdigest())


def _gitlab(secret: str, headers: Mapping[str, str], body: bytes, tolerance_s: int, now_s: float) -> Verified:
    """GitLab sends the token itself and signs nothing; it names each delivery by Idempotency-Key."""
    given = _header(headers, "x-gitlab-token")
    if not hmac.compare_digest(secret.encode(), given.encode()):
        raise SignatureInvalid("The token does not hold.")
    named = _id(headers, "idempotency-key") or _id(headers, "x-gitlab-event-uuid")
    return Verified(delivery_id=named, identity=named or hashlib.sha256(body).hexdigest())


def _header(headers: Mapping[str, str], name: str) -> str:
    found = headers.get(name, "")
    if not found:
        raise DeliveryMalformed(f"The header {name} is missing.")
    return found


def _id(headers: Mapping[str, str], name: str) -> str:
    found = headers.get(name, "")
    return found if _ID.fullmatch(found) else ""
