"""What a user sees of requests. Who may decide is asked of `approvals.eligibility`."""

from uuid import UUID

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from approvals.errors import NotFound
from approvals.models import ApprovalRequest, Vote

Kind, State = ApprovalRequest.Kind, ApprovalRequest.State


def visible(user: User | AnonymousUser) -> QuerySet[ApprovalRequest]:
    """Requests that are the user's own, that ask a group of theirs, or that they voted on; superusers see all."""
    found = ApprovalRequest.objects.select_related("approvers", "requester", "policy_version__policy")
    if not isinstance(user, User) or not user.is_active:
        return found.none()
    if user.is_superuser:
        return found
    return found.filter(Q(requester=user) | Q(approvers__in=_groups(user)) | Q(Exists(_votes(user))))


def inbox(user: User | AnonymousUser) -> QuerySet[ApprovalRequest]:
    """Pending requests that this user may decide now, the first to expire first.

    A superuser finds here also the questions that ask no group, since somebody must be able to answer them.
    """
    found = visible(user).filter(state=State.PENDING, expires_at__gt=Now())
    if not isinstance(user, User):
        return found
    member = Q(approvers__in=_groups(user))
    approvals = Q(kind=Kind.APPROVAL) & member & ~Q(requester=user) & ~Q(excluded_ids__contains=[user.pk])
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


def _groups(user: User) -> QuerySet:
    return user.groups.order_by().values("pk")


def _votes(user: User) -> QuerySet[Vote]:
    return Vote.objects.filter(request=OuterRef("pk"), user=user)
