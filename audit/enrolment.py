"""Who may write: process keys, and the enrolment key that endorses them.

A process signs its records with a key that it makes for itself and never stores. The first record of a process brings
a `key.add` record with the public key, endorsed by the enrolment key, which every process of an installation derives
from SECRET_KEY. So whoever holds the database alone, or the log key alone, cannot add a record that verifies.
"""

import base64
import os
import threading
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from audit.entries import enrolment_message, key_id


class ProcessKey:
    """This process's key. `enrolled` is true from the commit of its `key.add` on."""

    def __init__(self) -> None:
        self._private = Ed25519PrivateKey.generate()
        self.public_key = self._private.public_key().public_bytes_raw()
        self.kid = key_id(self.public_key)
        self.pid = os.getpid()
        self.enrolled = False

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)

    def facts(self) -> dict[str, str]:
        """The context of its `key.add` record."""
        endorsement = enrolment_key().sign(enrolment_message(self.kid, self.public_key))
        return {
            "use": "records",
            "kid": self.kid,
            "public_key": base64.b64encode(self.public_key).decode(),
            "enrolment_key": base64.b64encode(enrolment_public_key()).decode(),
            "endorsement": base64.b64encode(endorsement).decode(),
        }


_lock = threading.Lock()
_current: ProcessKey | None = None


def process_key() -> ProcessKey:
    """The key of this process; a forked child gets its own."""
    global _current
    key = _current
    if key is not None and key.pid == os.getpid():
        return key
    with _lock:
        if _current is None or _current.pid != os.getpid():
            _current = ProcessKey()
        return _current


def forget_process_key() -> None:
    """The next record is signed by a new key, which enrols anew."""
    global _current
    _current = None


def _replace_lock() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have held it at the fork


os.register_at_fork(after_in_child=_replace_lock)


def enrolment_key() -> Ed25519PrivateKey:
    """The key that endorses process keys."""
    return _derived(settings.SECRET_KEY)


def enrolment_public_key() -> bytes:
    """Raw, 32 bytes. Who verifies elsewhere needs it, with the checkpoint key."""
    return enrolment_key().public_key().public_bytes_raw()


def trusted_enrolment_keys() -> set[bytes]:
    """Public keys of SECRET_KEY and of those before it that are still configured (SECRET_KEY_FALLBACKS)."""
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return {_derived(secret).public_key().public_bytes_raw() for secret in secrets}


@lru_cache(maxsize=4)
def _derived(secret: str) -> Ed25519PrivateKey:
    seed = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"countersign audit enrolment v1").derive(
        secret.encode()
    )
    return Ed25519PrivateKey.from_private_bytes(seed)
