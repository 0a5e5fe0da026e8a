"""The page of what starts jobs: what comes in the next day, what was last started, what was last posted."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from agents.models import EventRule, Schedule, TriggerRun, Webhook, WebhookDelivery, WebhookEndpoint, WebhookMessage
from agents.selectors import visible_jobs
from agents.triggers import changes, schedules
from agents.web.views import page, who
from agents.web.words import ago

HOURS = 24
MARKS_MAX = 300  # of one schedule in the picture
LANES_MAX = 12
SHOWN = 20
LANE_PX, TOP_PX = 30, 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A schedule's times in the picture: x in percent; y, text_y in pixels."""

    name: str
    y: int
    text_y: int
    marks: list[str]
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    lanes: list[Lane]
    hours: list[tuple[str, str]]
    height: int
    more: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A run in the list. href: "" where the reader may not see the job."""

    run: TriggerRun
    name: str
    kind: str
    href: str
    age: str


@page
@require_safe
def triggers(request: HttpRequest) -> HttpResponse:
    user, now = who(request), timezone.now()
    mine = list(changes.visible(Schedule, user).select_related("owner"))
    context = {
        "this_year": now.year,
        "schedules": [(one, schedules.upcoming(one, count=3, after=now)) for one in mine],
        "webhooks": changes.visible(Webhook, user).select_related("owner"),
        "rules": changes.visible(EventRule, user).select_related("owner"),
        "endpoints": changes.visible(WebhookEndpoint, user).select_related("owner"),
        "timeline": timeline(mine, now),
        "started": _started(user, now),
        "deliveries": _deliveries(user, now),
        "messages_out": _messages(user, now),
        "may_add": bool(user.is_staff and user.has_perm("agents.add_schedule")),
        "admin_of": {
            "schedule": reverse("admin:agents_schedule_changelist"),
            "webhook": reverse("admin:agents_webhook_changelist"),
            "rule": reverse("admin:agents_eventrule_changelist"),
            "endpoint": reverse("admin:agents_webhookendpoint_changelist"),
        }
        if user.is_staff
        else {},
    }
    return render(request, "triggers/triggers.html", context)


def timeline(rows: list[Schedule], now: datetime) -> Timeline:
    """The next 24 hours of the schedules that fire in them."""
    lanes: list[Lane] = []
    more = 0
    for schedule in rows:
        end = now + timedelta(hours=HOURS)
        found = [at for at in schedules.upcoming(schedule, count=MARKS_MAX, after=now) if at <= end]
        if not found:
            continue
        if len(lanes) == LANES_MAX:
            more += 1
            continue
        y = TOP_PX + len(lanes) * LANE_PX
        count = f"{MARKS_MAX} times or more" if len(found) == MARKS_MAX else _times(len(found))
        said = f"{schedule.name}: {count}, next at {timezone.localtime(found[0]):%H:%M}"
        marks = [_percent((at - now).total_seconds()) for at in found]
        lanes.append(Lane(name=schedule.name, y=y + 17, text_y=y + 10, marks=marks, said=said))
    return Timeline(lanes=lanes, hours=_hours(now), height=TOP_PX + len(lanes) * LANE_PX + 4, more=more)


def _hours(now: datetime) -> list[tuple[str, str]]:
    """(x, label) of each sixth hour."""
    first = timezone.localtime(now).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    full = [first + timedelta(hours=n) for n in range(HOURS)]
    return [(_percent((at - now).total_seconds()), f"{at:%H:%M}") for at in full if at.hour % 6 == 0]


def _percent(seconds: float) -> str:
    return f"{100 * seconds / (HOURS * 3600):.2f}%"


def _times(count: int) -> str:
    return f"{count} time{'s' if count != 1 else ''}"


def _started(user: User, now: datetime) -> list[Started]:
    runs = list(changes.visible_runs(user)[:SHOWN])
    seen = set(visible_jobs(user).filter(pk__in=[run.job_id for run in runs]).values_list("pk", flat=True))
    return [
        Started(
            run=run,
            name=str(run.schedule or run.rule),
            kind="schedule" if run.schedule_id else "rule",
            href=f"/jobs/{run.job_id}/" if run.job_id in seen else "",
            age=ago(run.due_at, now),
        )
        for run in runs
    ]


def _deliveries(user: User, now: datetime) -> list[tuple[WebhookDelivery, str]]:
    rows = WebhookDelivery.objects.filter(webhook__in=changes.visible(Webhook, user)).select_related("webhook")
    return [(row, ago(row.at, now)) for row in rows[:SHOWN]]


def _messages(user: User, now: datetime) -> list[tuple[Any, str]]:
    rows = WebhookMessage.objects.filter(endpoint__in=changes.visible(WebhookEndpoint, user))
    return [(row, ago(row.created_at, now)) for row in rows.select_related("endpoint")[:SHOWN]]
