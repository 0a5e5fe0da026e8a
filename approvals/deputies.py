"""Out of office: somebody decides in a person's place from one day to another. It is dated, and not passed on."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from django.contrib.auth.models import Group, User
from django.db import transaction

from approvals.decisions import checked_words
from approvals.errors import InvalidDelegation, NotEligible, NotFound
from approvals.models import Delegation
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

LONGEST = timedelta(days=92)


@transaction.atomic
def delegate(
    *,
    person: User,
    deputy: User,
    starts_at: datetime,
    ends_at: datetime,
    now: datetime,
    groups: Iterable[Group] = (),
    reason: str = "",
    by: User | None = None,
) -> Delegation:
    """Lets `deputy` vote in `person`'s place, as a member of `groups` (default: of all of the person's) alone.

    by: who does it: the person (default), or a superuser for somebody who is away already.

    Raises:
        InvalidDelegation: `field` says what does not fit.
        NotEligible: `by` may not give this person's place away.
        InvalidReason
    """
    giver = by or person
    if giver.pk != person.pk and not (giver.is_superuser and giver.is_active):
        raise NotEligible("Only the person, or a superuser, names a deputy.")
    words = checked_words(reason)
    only = list(groups)
    _check(person, deputy, starts_at, ends_at, now, only, words)
    if giver.pk == deputy.pk:
        raise NotEligible("Nobody takes another's place by themselves.")
    given = Delegation.objects.create(person=person, deputy=deputy, starts_at=starts_at, ends_at=ends_at, reason=words)
    given.groups.set(only)
    record(
        Event.DELEGATION_GIVEN,
        actor=Actor.user(giver.pk),
        target=_target(given),
        context={
            "person": str(person.pk),
            "deputy": str(deputy.pk),
            "groups": sorted(group.pk for group in only),
            "starts_at": starts_at.isoformat(),
            "ends_at": ends_at.isoformat(),
        },
        payload={"reason": words} if words else None,
    )
    return given


@transaction.atomic
def revoke(*, delegation_id: UUID | str, by: User, now: datetime) -> Delegation:
    """Ends a delegation at once; votes that were given by it count for nothing any more, where nothing has run yet.

    For the person, the deputy, and superusers; once is enough.

    Raises:
        NotFound, NotEligible
    """
    given = Delegation.objects.select_for_update().filter(pk=delegation_id).first()
    if given is None:
        raise NotFound("There is no such delegation.")
    if by.pk not in {given.person_id, given.deputy_id} and not (by.is_superuser and by.is_active):
        raise NotEligible("Only the person, the deputy, or a superuser ends it.")
    if given.revoked_at is None:
        Delegation.objects.filter(pk=given.pk, revoked_at=None).update(revoked_at=now)
        given.revoked_at = now
        record(
            Event.DELEGATION_REVOKED,
            actor=Actor.user(by.pk),
            target=_target(given),
            context={"person": str(given.person_id), "deputy": str(given.deputy_id)},
        )
    return given


def principals_of(user: User, now: datetime) -> list[User]:
    """The people in whose place `user` may vote today."""
    held = Delegation.objects.filter(
        deputy=user, starts_at__lte=now, ends_at__gt=now, revoked_at=None, person__is_active=True
    )
    return list(dict.fromkeys(one.person for one in held.select_related("person").order_by("person__username", "pk")))


def _check(
    person: User,
    deputy: User,
    starts_at: datetime,
    ends_at: datetime,
    now: datetime,
    groups: list[Group],
    reason: str,
) -> None:
    if person.pk == deputy.pk:
        raise InvalidDelegation("Nobody is their own deputy.", field="deputy")
    if not deputy.is_active:
        raise InvalidDelegation("The deputy is not active.", field="deputy")
    if ends_at <= starts_at or ends_at <= now:
        raise InvalidDelegation("It must end after it starts, and not in the past.", field="ends_at")
    if ends_at - starts_at > LONGEST:
        raise InvalidDelegation(f"At most {LONGEST.days} days.", field="ends_at")
    if len(reason) > 300:
        raise InvalidDelegation("At most 300 characters.", field="reason")
    own = set(person.groups.values_list("pk", flat=True))
    if strange := [group.name for group in groups if group.pk not in own]:
        raise InvalidDelegation(f"{person.get_username()} is no member of {strange[0]!r}.", field="groups")


def _target(given: Delegation) -> Target:
    return Target(type="delegation", id=str(given.pk))
