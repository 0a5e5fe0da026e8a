"""Celery tasks. A message is a hint: a doubled or lost one is harmless."""

from celery import shared_task
from django.utils import timezone

from approvals import notify
from approvals.slack import api, press


@shared_task(name=notify.TASK, ignore_result=True)
def deliver(notification_id: str) -> None:
    """Sends one notification, unless somebody did."""
    notify.deliver(notification_id, now=timezone.now())


@shared_task(name=press.SAY, ignore_result=True)
def slack_say(channel: str, user: str, words: str) -> None:
    """Tells whoever pressed a button what came of it."""
    api.say(channel, user, words)
