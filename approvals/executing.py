"""May what was approved still run? Asked in the transaction that claims it, with the request's row locked."""

from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import User

from approvals.closing import State, locked
from approvals.eligibility import shut_out
from approvals.errors import NotFound
from approvals.models import ApprovalRequest, PolicyVersion
from approvals.quorum import standing

BREAK_GLASS = "approvals.break_the_glass"


def hold(request_id: UUID | str) -> ApprovalRequest | None:
    """The request, locked until the transaction ends: before the rows of what it approves. None: there is none."""
    try:
        return locked(request_id)
    except NotFound:
        return None


def flaw(request: ApprovalRequest, *, digest: str, now: datetime) -> str:
    """Why this approval gives no leave now to what has this digest (`approvals.digests.binding`), in a sentence; "" where
    it does. The caller voids it (`approvals.requests.void`) and has people asked anew."""
    if request.kind == ApprovalRequest.Kind.QUESTION:
        return ""
    if request.state != State.APPROVED:
        return f"The approval is {request.state}."
    if request.digest != digest:
        return "What would run is not what was approved."
    if request.execution_expires_at is not None and request.execution_expires_at <= now:
        return late_words(request)
    version = request.policy_version
    if version is not None and version.status != PolicyVersion.Status.PUBLISHED:
        return f"The policy {version} is in force no more."
    if request.break_glass:
        return _glass_flaw(request)
    found = standing(request)
    if not found.complete:
        gone = f" {', '.join(found.lapsed)} may not decide it any more." if found.lapsed else ""
        return f"Its approvals are no longer enough: {found.missing}.{gone}"
    return ""


def late_words(request: ApprovalRequest) -> str:
    """That what it approved did not run in time."""
    return f"It was approved, and did not run by {request.execution_expires_at:%Y-%m-%d %H:%M:%S} UTC."


def _glass_flaw(request: ApprovalRequest) -> str:
    user: User = request.glass.user
    if shut_out(request, user) or not user.has_perm(BREAK_GLASS):
        return "Who approved it in an emergency may not do so any more."
    return ""
