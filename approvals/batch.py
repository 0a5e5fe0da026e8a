"""Deciding several like requests of low risk at once. Each is decided by itself, by the one decision function."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import User

from approvals.decisions import checked_words, decide
from approvals.errors import DecisionError, NotAlike, NotFound
from approvals.models import ApprovalRequest, Vote
from approvals.selectors import inbox
from tools.spec import Risk

MEMBERS_MAX = 50
CHANNEL = "batch"


def alike(request: ApprovalRequest, user: User, now: datetime) -> list[ApprovalRequest]:
    """The pending requests that this user may decide together with `request`, itself first: of low risk, and of the
    same rule, tool, target and policy version. Empty where it can only be decided alone."""
    if not request.alike or request.risk != Risk.LOW:
        return []
    found = list(inbox(user).filter(alike=request.alike, risk=Risk.LOW, expires_at__gt=now)[: MEMBERS_MAX + 1])
    if all(one.pk != request.pk for one in found):
        return []
    return sorted(found, key=lambda one: one.pk != request.pk)[:MEMBERS_MAX]


def decide_all(
    *,
    request_ids: Iterable[UUID | str],
    by: User,
    verdict: Vote.Verdict | str,
    reason: str,
    channel: str = CHANNEL,
    now: datetime,
    second_factor_at: datetime | None = None,
    behind: Sequence[int] = (),
) -> list[tuple[ApprovalRequest, DecisionError | None]]:
    """Decides exactly these requests, and says of each why it was not. What came meanwhile is not among them.

    Raises:
        NotAlike: they are not all like the first, not all of low risk, or too many; none was decided.
        NotFound, InvalidReason
    """
    ids = list(dict.fromkeys(str(one) for one in request_ids))
    checked_words(reason)
    members = _members(ids)
    results: list[tuple[ApprovalRequest, DecisionError | None]] = []
    for member in members:
        try:
            done = decide(
                request_id=member.pk,
                by=by,
                verdict=verdict,
                reason=reason,
                channel=channel,
                now=now,
                second_factor_at=second_factor_at,
                behind=behind,
            )
            results.append((done, None))
        except DecisionError as error:
            member.refresh_from_db()
            results.append((member, error))
    return results


def _members(ids: list[str]) -> list[ApprovalRequest]:
    if not ids or len(ids) > MEMBERS_MAX:
        raise NotAlike(f"Name between 1 and {MEMBERS_MAX} requests.")
    try:
        found = {str(one.pk): one for one in ApprovalRequest.objects.filter(pk__in=[UUID(one) for one in ids])}
    except ValueError:
        raise NotFound("There is no such request.") from None
    if len(found) != len(ids):
        raise NotFound("There is no such request.")
    members = [found[one] for one in ids]
    if any(one.risk != Risk.LOW or not one.alike or one.alike != members[0].alike for one in members):
        raise NotAlike("Only requests of low risk that are alike (rule, tool, target, policy) are decided together.")
    return members
