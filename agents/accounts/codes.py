"""One-time codes (RFC 6238) and recovery codes of a user. A code is taken once, whichever process is asked."""

from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from allauth.mfa.utils import decrypt
from django.contrib.auth.models import User
from django.db import transaction
from django.utils.crypto import constant_time_compare

LAST = "last_counter"


def taken(user: User, code: str) -> Authenticator | None:
    """What the code is of, used up by this; None where it is wrong or was used before."""
    plain = "".join(code.split())
    for found in Authenticator.objects.filter(user=user).order_by("pk"):
        if found.type == Authenticator.Type.TOTP and _totp(found.pk, plain):
            return found
        if found.type == Authenticator.Type.RECOVERY_CODES and found.wrap().validate_code(plain):
            return found
    return None


@transaction.atomic
def _totp(pk: int, code: str) -> bool:
    """RFC 6238, 5.2: a code counts once. The row is locked, so of two who send the same code one gets in."""
    row = Authenticator.objects.select_for_update().get(pk=pk)
    secret = decrypt(row.data["secret"])
    for counter in yield_hotp_counters_from_time():
        if counter > row.data.get(LAST, -1) and constant_time_compare(
            format_hotp_value(hotp_value(secret, counter)), code
        ):
            row.data[LAST] = counter
            row.save(update_fields=["data"])
            return True
    return False


def left(user: User) -> int | None:
    """How many recovery codes are unused; None: there are none to use."""
    found = Authenticator.objects.filter(user=user, type=Authenticator.Type.RECOVERY_CODES).first()
    return None if found is None else len(found.wrap().get_unused_codes())
