"""Who may decide a request. Asked anew at every vote, for the voter and for all who voted before, and again before what
was approved runs."""

from collections.abc import Sequence
from datetime import datetime

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Q, QuerySet
from django.utils import timezone

from approvals.models import ApprovalRequest, Delegation, Vote

QUESTION = ApprovalRequest.Kind.QUESTION


def refusal(request: ApprovalRequest, user: User | AnonymousUser, *, now: datetime | None = None) -> str:
    """Why `user` may not vote on this request, in a sentence for that user; "" where they may.

    An approval is for active members of its groups, without its requester and whoever else took part in it,
    superusers or not; who is deputy of such a member today decides in that person's place. A question gives leave to
    nothing: its requester may answer, the group that it asks, and superusers.
    """
    why = own_refusal(request, user)
    if why and isinstance(user, User) and person_for(request, user, now=now or timezone.now()) is not None:
        return ""
    return why


def own_refusal(request: ApprovalRequest, user: User | AnonymousUser) -> str:
    """The same for the user's own vote: whose deputy they are does not count."""
    why = shut_out(request, user)
    if why:
        return why
    assert isinstance(user, User)
    if request.kind == QUESTION:
        if user.pk == request.requester_id or user.is_superuser or _groups_of(request, user):
            return ""
        return "This question is not for you."
    if not _groups_of(request, user):
        names = " or ".join(f"{name!r}" for name in group_names(request))
        return f"Members of the group {names} decide this request."
    return ""


def shut_out(request: ApprovalRequest, user: User | AnonymousUser) -> str:
    """Why no right at all, their own or another's, lets `user` vote on this request; "" where one might."""
    if not isinstance(user, User) or not user.is_active:
        return "Only active users decide."
    if request.kind == QUESTION:
        return ""
    if user.pk == request.requester_id:
        return "Nobody approves their own request."
    if user.pk in request.excluded_ids:
        part = request.excluded_as.get(str(user.pk), "")
        return f"You took part in this request{f' as its {part}' if part else ''}, so somebody else decides it."
    return ""


def person_for(request: ApprovalRequest, user: User, *, now: datetime, voted: Sequence[int] = ()) -> User | None:
    """The person in whose place `user` may vote on this approval today, though not in their own; None: nobody.

    voted: people (primary keys) whose vote is there already. A deputy of a deputy is nobody's deputy.
    """
    if request.kind == QUESTION or shut_out(request, user):
        return None
    held = Delegation.objects.filter(deputy=user, starts_at__lte=now, ends_at__gt=now, revoked_at=None)
    for one in held.select_related("person").prefetch_related("groups").order_by("starts_at", "pk"):
        if one.person_id not in voted and not shut_out(request, one.person) and _lent(request, one):
            return one.person
    return None


def counts_for(request: ApprovalRequest, vote: Vote) -> frozenset[int]:
    """The groups (primary keys) for which this vote counts as things stand now; none where its voter, or the person in
    whose place it was given, may not decide any more.

    A delegation that has ended since stays good for the votes of its time; one that was revoked is good for nothing.
    """
    if shut_out(request, vote.user):
        return frozenset()
    if vote.on_behalf_of is None:
        return _groups_of(request, vote.user)
    if shut_out(request, vote.on_behalf_of):
        return frozenset()
    given = Delegation.objects.filter(
        person=vote.on_behalf_of, deputy=vote.user, starts_at__lte=vote.at, ends_at__gt=vote.at, revoked_at=None
    )
    return frozenset().union(*(_lent(request, one) for one in given.prefetch_related("groups")))


def groups(request: ApprovalRequest) -> list[int]:
    """Primary keys of the groups whose members decide: its own, those of its roles, and the one it escalated to."""
    found = [request.approvers_id] if request.approvers_id is not None else []
    found += [int(role["group"]) for role in request.roles]
    if request.escalated_at is not None and request.escalate_to_id is not None:
        found.append(request.escalate_to_id)
    return list(dict.fromkeys(found))


def group_names(request: ApprovalRequest) -> list[str]:
    """Their names, in the same order."""
    found = [request.approvers.name] if request.approvers is not None else [""]
    found += [str(role["name"]) for role in request.roles]
    if request.escalated_at is not None and request.escalate_to is not None:
        found.append(request.escalate_to.name)
    return list(dict.fromkeys(found))


def eligible_users(request: ApprovalRequest, *, now: datetime | None = None) -> QuerySet[User]:
    """Everybody for whom `refusal` is empty, but of superusers only those that a question's group or requester names:
    who may answer is not yet who should be asked."""
    users = User.objects.filter(is_active=True)
    asked = groups(request)
    if request.kind == QUESTION:
        return users.filter(Q(groups__in=asked) | Q(pk=request.requester_id)).distinct()
    out = [request.requester_id, *request.excluded_ids]
    members = users.filter(groups__in=asked).exclude(pk__in=out)
    at = now or timezone.now()
    held = Delegation.objects.filter(starts_at__lte=at, ends_at__gt=at, revoked_at=None, person__in=members)
    lent = held.filter(Q(groups=None) | Q(groups__in=asked)).prefetch_related("groups").select_related("person")
    deputies = [one.deputy_id for one in lent if _lent(request, one)]
    return users.filter(Q(groups__in=asked) | Q(pk__in=deputies)).exclude(pk__in=out).distinct()


def _groups_of(request: ApprovalRequest, user: User) -> frozenset[int]:
    return frozenset(user.groups.filter(pk__in=groups(request)).order_by().values_list("pk", flat=True))


def _lent(request: ApprovalRequest, given: Delegation) -> frozenset[int]:
    """The person's groups that this delegation lends to the deputy, of those that decide."""
    only = {group.pk for group in given.groups.all()}
    own = _groups_of(request, given.person)
    return own & only if only else own
