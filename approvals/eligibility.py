"""Who may decide a request. Asked anew at every vote, for the voter and for all who voted before."""

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Q, QuerySet

from approvals.models import ApprovalRequest

QUESTION = ApprovalRequest.Kind.QUESTION


def refusal(request: ApprovalRequest, user: User | AnonymousUser) -> str:
    """Why `user` may not vote on this request, in a sentence for that user; "" where they may.

    An approval is for active members of its approvers group, without its requester and whoever else is excluded,
    superusers or not. A question gives leave to nothing: its requester may answer, the group that it asks, and
    superusers.
    """
    if not isinstance(user, User) or not user.is_active:
        return "Only active users decide."
    if request.kind == QUESTION:
        if user.pk == request.requester_id or user.is_superuser or _is_member(request, user):
            return ""
        return "This question is not for you."
    if user.pk == request.requester_id:
        return "Nobody approves their own request."
    if user.pk in request.excluded_ids:
        return "You took part in this request, so somebody else decides it."
    if not _is_member(request, user):
        group = request.approvers.name if request.approvers is not None else ""
        return f"Members of the group {group!r} decide this request."
    return ""


def eligible_users(request: ApprovalRequest) -> QuerySet[User]:
    """Everybody for whom `refusal` is empty, but of superusers only those that a question's group or requester names:
    who may answer is not yet who should be asked."""
    users = User.objects.filter(is_active=True)
    member = Q(groups=request.approvers_id) if request.approvers_id is not None else Q(pk__in=[])
    if request.kind == QUESTION:
        return users.filter(member | Q(pk=request.requester_id)).distinct()
    return users.filter(member).exclude(pk__in=[request.requester_id, *request.excluded_ids]).distinct()


def _is_member(request: ApprovalRequest, user: User) -> bool:
    return request.approvers_id is not None and user.groups.filter(pk=request.approvers_id).exists()
