"""Celery tasks. A message is a hint: a doubled or lost one is harmless."""

from celery import shared_task
from django.utils import timezone

from approvals import notify


@shared_task(name=notify.TASK, ignore_result=True)
def deliver(notification_id: str) -> None:
    """Sends one notification, unless somebody did."""
    notify.deliver(notification_id, now=timezone.now())
