"""Requests that nobody answered in time. Expired is not denied: nobody said no."""

import logging
from datetime import datetime
from uuid import UUID

from django.db import transaction

from approvals.closing import State, close
from approvals.models import ApprovalRequest
from audit.actor import Actor

log = logging.getLogger(__name__)

CLOCK = Actor.system("expiry")
BATCH = 200


def expire_due(now: datetime) -> int:
    """Closes what is overdue, a transaction each; what a person is deciding at this moment is left to them.

    One that cannot be closed is logged and does not stop the others. Gives how many were closed.
    """
    due = list(
        ApprovalRequest.objects.filter(state=State.PENDING, expires_at__lte=now)
        .order_by("expires_at")
        .values_list("pk", flat=True)[:BATCH]
    )
    return sum(_expire(request_id, now) for request_id in due)


def _expire(request_id: UUID, now: datetime) -> bool:
    try:
        with transaction.atomic():
            request = (
                ApprovalRequest.objects.select_for_update(of=("self",), skip_locked=True)
                .filter(pk=request_id, state=State.PENDING, expires_at__lte=now)
                .first()
            )
            if request is None:
                return False
            close(request, State.EXPIRED, actor=CLOCK, now=now)
    except Exception:
        log.exception("approval.expiry_failed", extra={"approval": str(request_id)})
        return False
    return True
