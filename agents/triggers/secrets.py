"""Secrets that signatures are made with: they must be read again, so they are encrypted with a key from SECRET_KEY.

Who reads the database alone has none of them. A new SECRET_KEY makes them unreadable: rotate them then; the old key
may stand in SECRET_KEY_FALLBACKS meanwhile.
"""

import base64
import hashlib
import secrets

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

PREFIX = "whsec_"
HINT_CHARS = 10
SECRET_BYTES = 32


class SecretUnreadable(Exception):
    """It was encrypted with another SECRET_KEY."""


def new_secret() -> str:
    """`whsec_` and 32 random bytes in base64, as Standard Webhooks writes them."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def seal(secret: str) -> str:
    return _box().encrypt(secret.encode()).decode()


def unseal(sealed: str) -> str:
    """Raises SecretUnreadable."""
    try:
        return _box().decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise SecretUnreadable("The secret was encrypted with another SECRET_KEY: rotate it.") from None


def hint(secret: str) -> str:
    return secret[:HINT_CHARS]


def _box() -> MultiFernet:
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return MultiFernet([Fernet(_key(str(key))) for key in keys])


def _key(secret_key: str) -> bytes:
    """Of its own, so that it says nothing about what else SECRET_KEY signs."""
    digest = hashlib.blake2b(
        b"", key=hashlib.sha512(secret_key.encode()).digest(), person=b"cs-webhooks", digest_size=32
    )
    return base64.urlsafe_b64encode(digest.digest())
