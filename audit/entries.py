"""What a record is made of: the bytes that are signed, committed to and hashed.

- a row's signature is over `"audit-event/v1\\n" + body`;
- a payload's commitment is SHA-256 over a tag, a 32-byte salt and the canonical JSON of `[slot, value]`;
- a log entry is the text `BODY LF KID SP SIGNATURE(hex) SP PREV LF` (PREV is `-` for none), and its leaf hash is
  that of RFC 6962 (`audit.merkle`).
"""

import hashlib
from uuid import UUID

from audit.canonical import canonical_json

ROW_TAG = b"audit-event/v1\n"
COMMITMENT_TAG = b"audit-commitment/v1\n"
ENROLMENT_TAG = b"audit-enrolment/v1\n"
SALT_BYTES = 32


def row_message(body: bytes) -> bytes:
    """What the writing process signs."""
    return ROW_TAG + body


def enrolment_message(kid: str, public_key: bytes) -> bytes:
    """What the enrolment key signs to let a process key write."""
    return ENROLMENT_TAG + f"{kid} {public_key.hex()}\n".encode()


def key_id(public_key: bytes) -> str:
    """The name of a raw Ed25519 public key in records: 16 hex digits of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def commitment(salt: bytes, slot: str, value_json: str) -> bytes:
    """The 32 bytes that a record holds in place of a payload; `value_json` is the value's canonical JSON."""
    return hashlib.sha256(
        COMMITMENT_TAG + salt + b"[" + canonical_json(slot) + b"," + value_json.encode() + b"]"
    ).digest()


def entry(body: str, kid: str, signature: bytes, prev: UUID | None) -> bytes:
    """A record as the log holds it."""
    return f"{body}\n{kid} {signature.hex()} {prev or '-'}\n".encode()


def entry_text(body: str, kid: str, signature: bytes, prev: str | None) -> str:
    """`entry` as text, with `prev` as text."""
    return f"{body}\n{kid} {signature.hex()} {prev or '-'}\n"
