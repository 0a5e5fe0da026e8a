"""Reminders at a quarter and at three quarters of a request's time; then the next group may decide too."""

import logging
from datetime import datetime
from uuid import UUID

from django.db import transaction

from approvals import notify
from approvals.closing import State, target
from approvals.models import ApprovalRequest, Notification
from approvals.requests import REMIND_AT
from audit.actor import Actor
from audit.append import record
from audit.kinds import Event

log = logging.getLogger(__name__)

CLOCK = Actor.system("reminders")
BATCH = 200


def remind_due(now: datetime) -> int:
    """Sends what is due, a transaction each; what somebody is deciding at this moment comes with the next pass.

    How many were reminded of. One that fails is logged and does not stop the others.
    """
    due = ApprovalRequest.objects.filter(state=State.PENDING, remind_at__lte=now, expires_at__gt=now)
    found = list(due.order_by("remind_at").values_list("pk", flat=True)[:BATCH])
    return sum(_remind(request_id, now) for request_id in found)


def _remind(request_id: UUID, now: datetime) -> bool:
    try:
        with transaction.atomic():
            request = (
                ApprovalRequest.objects.select_for_update(of=("self",), skip_locked=True)
                .select_related("approvers", "escalate_to")
                .filter(pk=request_id, state=State.PENDING, remind_at__lte=now, expires_at__gt=now)
                .first()
            )
            if request is None:
                return False
            _tell(request, now)
    except Exception:
        log.exception("approval.reminder_failed", extra={"approval": str(request_id)})
        return False
    return True


def _tell(request: ApprovalRequest, now: datetime) -> None:
    lifetime = request.expires_at - request.created_at
    later = [at for share in REMIND_AT if (at := request.created_at + lifetime * share) > now]
    request.reminders += 1
    request.remind_at = later[0] if later else None
    escalates = not later and request.escalate_to_id is not None and request.escalated_at is None
    if escalates:
        request.escalated_at = now
    request.save(update_fields=["reminders", "remind_at", "escalated_at"])
    record(
        Event.APPROVAL_REMINDED,
        actor=CLOCK,
        target=target(request.pk),
        context={"number": request.reminders, "expires_at": request.expires_at.isoformat()},
    )
    notify.queue(request, now=now, kind=Notification.Kind.REMINDER)
    if escalates:
        record(Event.APPROVAL_ESCALATED, actor=CLOCK, target=target(request.pk), context={"to": request.escalate_to_id})
        notify.queue(request, now=now, kind=Notification.Kind.ESCALATION)
