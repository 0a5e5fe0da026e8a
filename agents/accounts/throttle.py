"""How often somebody may try to sign in. Counted before anything is looked at, so that many at once are no way around."""

import hashlib
import unicodedata

from django import forms
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest

from approvals import rates
from approvals.web.times import span
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

TRIES = 10  # one address with one name, one user's second factor, one user's password asked again
NAME_TRIES = 100  # one name from everywhere
ADDRESS_TRIES = 100  # one address with whatever names: an office behind one address still gets in
WINDOW_S = 300


def key(name: str, address: str) -> str:
    """What tries are counted under: no name stands in Redis, and spellings that look alike are one."""
    return _hashed("sign-in", f"{_spelled(name)}\n{address}")


def name_key(name: str) -> str:
    return _hashed("sign-in-name", _spelled(name))


def address_key(address: str) -> str:
    return _hashed("sign-in-address", address)


def code_key(user_id: int) -> str:
    return f"second-factor:{user_id}"


def count(name: str, address: str) -> None:
    """Counts a try to sign in by a password.

    Raises:
        django.forms.ValidationError: there were too many; the first of a window is recorded.
    """
    bounds = (
        (key(name, address), TRIES, "with this name"),
        (name_key(name), NAME_TRIES, "with this name"),
        (address_key(address), ADDRESS_TRIES, "from your address"),
    )
    hits = [(rates.hit(counted, window_s=WINDOW_S), most, words) for counted, most, words in bounds]
    for tries, most, words in hits:
        if tries.count > most:
            if tries.count == most + 1:
                _record(name, address)
            raise _later(tries, f"Too many tries to sign in {words}.")


def right(name: str, address: str) -> None:
    """The password was right: this name at this address starts anew, and elsewhere this try does not count."""
    rates.forget(key(name, address))
    rates.undo(name_key(name))
    rates.undo(address_key(address))


def count_code(user: User) -> None:
    """Counts a try with a code or a password of a user who is known already. Raises django.forms.ValidationError."""
    tries = rates.hit(code_key(user.pk), window_s=WINDOW_S)
    if tries.count > TRIES:
        raise _later(tries, "Too many wrong codes or passwords.")


def right_code(user: User) -> None:
    rates.forget(code_key(user.pk))


def address_of(request: HttpRequest | None) -> str:
    return "" if request is None else str(request.META.get("REMOTE_ADDR", ""))


def _later(tries: rates.Hits, why: str) -> forms.ValidationError:
    wait = span(tries.left_s) if tries.left_s >= 60 else f"{tries.left_s} seconds"
    return forms.ValidationError(f"{why} Try again in {wait}.", code="throttled")


def _spelled(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip().casefold()


def _hashed(kind: str, text: str) -> str:
    return f"{kind}:{hashlib.sha256(text.encode()).hexdigest()}"


@transaction.atomic
def _record(name: str, address: str) -> None:
    """Once a window, so that a flood of tries is no flood of records."""
    known = User.objects.filter(username=name).values_list("pk", flat=True).first()
    record(
        Event.AUTH_FAILED,
        actor=Actor.system("anonymous"),
        target=Target(type="user", id="unknown" if known is None else str(known)),
        outcome="throttled",
        payload={"name": name[:300], "address": address[:300]},
    )
