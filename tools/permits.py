"""Permits: leave to run one exact call, once."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.db.models import F, Q

from tools.errors import PermitMismatch, PermitSpent
from tools.models import Permit


@dataclass(slots=True, kw_only=True)
class Spent:
    """Proof that this permit was spent in the transaction that claimed its step: good for one call of its digest."""

    id: UUID
    subject: str
    digest: str
    used: bool = field(default=False, init=False)

    def use(self, digest: str) -> str:
        """The permit's subject, once.

        Raises:
            PermitMismatch: it is for another call.
            PermitSpent: it was used before.
        """
        if self.digest != digest:
            raise PermitMismatch("The call is not the one that was permitted.", permit=str(self.id))
        if self.used:
            raise PermitSpent("This permit was used before.", permit=str(self.id))
        self.used = True
        return self.subject


def issue(*, subject: str, digest: str, granted_by: str, now: datetime, expires_at: datetime | None = None) -> Permit:
    """Leave to run the call of this digest once.

    subject: what the call belongs to (a step's id); granted_by: the policy's rule or the approval. Inside the
    transaction of the decision that grants it.
    """
    return Permit.objects.create(
        subject=subject, digest=digest, granted_by=granted_by, created_at=now, expires_at=expires_at
    )


def withdraw(permit_id: UUID) -> bool:
    """Makes an unspent permit worthless, against `spend` of the same moment. True: what it permitted never began, and
    never will by this permit."""
    # its own beginning as its end: also for whoever took the time before it was withdrawn
    return bool(Permit.objects.filter(pk=permit_id, spent_at__isnull=True).update(expires_at=F("created_at")))


def spend(permit_id: UUID, *, digest: str, by: str, now: datetime, subject: str = "") -> Permit:
    """Uses the permit up, by one conditional UPDATE: of many who try, one returns.

    subject: what the call belongs to, where the caller knows: the permit of another step's same call is not good for it.

    Raises:
        PermitMismatch: there is no such permit, or it is for another call or subject; it stays unspent.
        PermitSpent: it was used before, or its time is over.
    """
    own = {"subject": subject} if subject else {}
    won = (
        Permit.objects.filter(pk=permit_id, digest=digest, spent_at__isnull=True, **own)
        .filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now))
        .update(spent_at=now, spent_by=by[:200])
    )
    permit = Permit.objects.filter(pk=permit_id).first()
    if permit is None:
        raise PermitMismatch("There is no such permit.", permit=str(permit_id))
    if won:
        return permit
    if permit.digest != digest:
        raise PermitMismatch("The call is not the one that was permitted.", permit=str(permit_id))
    if subject and permit.subject != subject:
        raise PermitMismatch("The permit was given to another step.", permit=str(permit_id))
    if permit.spent_at is not None:
        raise PermitSpent("This permit was used before.", permit=str(permit_id), spent_by=permit.spent_by)
    raise PermitSpent("This permit has expired.", permit=str(permit_id))
