"""What a user sees of requests. Who may decide is asked of `approvals.eligibility`."""

from collections.abc import Collection, Iterator
from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from approvals.errors import NotFound
from approvals.executing import BREAK_GLASS
from approvals.models import ApprovalRequest, Delegation, Vote

Kind, State = ApprovalRequest.Kind, ApprovalRequest.State


def visible(user: User | AnonymousUser, *, now: datetime | None = None) -> QuerySet[ApprovalRequest]:
    """Requests that are the user's own, that ask a group of theirs or of somebody whose deputy they are, or that they
    voted on; superusers and whoever may break the glass see all."""
    found = ApprovalRequest.objects.select_related("approvers", "escalate_to", "requester", "policy_version__policy")
    if not isinstance(user, User) or not user.is_active:
        return found.none()
    if user.is_superuser or user.has_perm(BREAK_GLASS):
        return found
    asked = Q(requester=user) | _asks(_groups(user)) | Q(Exists(_votes(user)))
    for _, groups in _represented(user, now or timezone.now()):
        asked |= _asks(groups)
    return found.filter(asked)


def inbox(user: User | AnonymousUser, *, now: datetime | None = None) -> QuerySet[ApprovalRequest]:
    """Pending requests that this user may decide now, in their own place or another's, the first to expire first.

    A superuser finds here also the questions that ask no group, since somebody must be able to answer them.
    """
    found = visible(user, now=now).filter(state=State.PENDING, expires_at__gt=Now())
    if not isinstance(user, User):
        return found
    member = _asks(_groups(user))
    own = member & ~Q(Exists(_standing_in(user)))
    for person, groups in _represented(user, now or timezone.now()):
        theirs = _asks(groups) & ~Q(requester=person) & ~Q(excluded_ids__contains=[person.pk])
        own |= ~member & theirs & ~Q(Exists(_votes(person))) & ~Q(Exists(_standing_in(person)))
    approvals = Q(kind=Kind.APPROVAL) & own & ~Q(requester=user) & ~Q(excluded_ids__contains=[user.pk])
    mine = Q(requester=user) | member
    questions = Q(kind=Kind.QUESTION) & (mine | Q(approvers=None) if user.is_superuser else mine)
    return found.filter(approvals | questions).exclude(Exists(_votes(user))).order_by("expires_at", "pk")


def lines(requests: QuerySet[ApprovalRequest]) -> QuerySet[ApprovalRequest]:
    """As lists need them: without the call and its preview, which may be hundreds of kilobytes each."""
    return requests.defer("call", "preview")


def visible_request(user: User | AnonymousUser, request_id: UUID | str) -> ApprovalRequest:
    """Raises NotFound, also where there is such a request and it is not for this user: a stranger cannot tell."""
    found = visible(user).filter(pk=request_id).first()
    if found is None:
        raise NotFound("There is no such request, or it is not for you.")
    return found


def _asks(groups: Collection[int]) -> Q:
    """Requests that ask members of these groups: their own, a role's, or the one that they escalated to."""
    asked = Q(approvers__in=groups) | Q(escalated_at__isnull=False, escalate_to__in=groups)
    for group in groups:
        asked |= Q(roles__contains=[{"group": group}])
    return asked


def _groups(user: User) -> list[int]:
    return list(user.groups.order_by().values_list("pk", flat=True))


def _represented(user: User, now: datetime) -> Iterator[tuple[User, Collection[int]]]:
    """Each person whose deputy the user is today, with the groups as whose member."""
    held = Delegation.objects.filter(
        deputy=user, starts_at__lte=now, ends_at__gt=now, revoked_at=None, person__is_active=True
    )
    for given in held.select_related("person").prefetch_related("groups"):
        only = {group.pk for group in given.groups.all()}
        groups = set(_groups(given.person))
        yield given.person, groups & only if only else groups


def _votes(user: User) -> QuerySet[Vote]:
    return Vote.objects.filter(request=OuterRef("pk"), user=user, withdrawn_at=None)


def _standing_in(person: User) -> QuerySet[Vote]:
    """Votes that a deputy gave in this person's place."""
    return Vote.objects.filter(request=OuterRef("pk"), on_behalf_of=person, withdrawn_at=None)


def request_ids(parent_id: str) -> list[UUID]:
    """Of all requests about a job, for whoever reads the audit log about it."""
    return list(ApprovalRequest.objects.filter(parent_id=parent_id).order_by("pk").values_list("pk", flat=True))
