"""Event rules: each new event is put to its owner's rules once; a rule whose places are all filled becomes a run."""

import hashlib
import logging
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from django.db import connection, transaction

from agents.models import EventMatch, EventRule, TriggerEvent, TriggerRun
from agents.triggers import expressions, runs
from agents.triggers.errors import ExpressionFailed

log = logging.getLogger(__name__)

BATCH = 200
KEY_MAX = 200
NEAR_MAX = 500  # partial matches of one key that are looked at
STARTS_MAX, STARTS_WITHIN = 100, timedelta(hours=1)  # a rule that its own jobs set off must end somewhere
State = TriggerRun.State


def match_new(now: datetime) -> int:
    """Puts new events to the rules, a transaction each. Gives how many runs came of it."""
    new = TriggerEvent.objects.filter(handled_at__isnull=True)
    owners = set(EventRule.objects.filter(enabled=True).values_list("owner_id", flat=True))
    new.exclude(owner_id__in=owners).update(handled_at=now)
    if not owners:
        return 0
    ids = list(new.filter(owner_id__in=owners).order_by("id").values_list("pk", flat=True)[:BATCH])
    return sum(handle(event_id, now=now) for event_id in ids)


@transaction.atomic
def handle(event_id: Any, *, now: datetime) -> int:
    """Puts one event to the rules of its owner, unless somebody else does or did. Gives how many runs came of it."""
    held = TriggerEvent.objects.select_for_update(skip_locked=True).filter(pk=event_id, handled_at__isnull=True)
    event = held.first()
    if event is None:
        return 0
    written = 0
    for rule in EventRule.objects.filter(owner_id=event.owner_id, enabled=True).order_by("pk"):
        if str(event.data.get("trigger", "")) == f"rule:{rule.name}":
            continue  # what a rule's own job tells does not set the rule off again
        written += _offer(rule, event, now=now)
    TriggerEvent.objects.filter(pk=event.pk).update(handled_at=now)
    return written


def clean(now: datetime) -> int:
    """Removes partial matches whose window is over."""
    gone = 0
    for rule_id, window_s in EventRule.objects.values_list("pk", "window_s"):
        late = EventMatch.objects.filter(rule_id=rule_id, run__isnull=True, at__lt=now - timedelta(seconds=window_s))
        gone += late.delete()[0]
    return gone


def _offer(rule: EventRule, event: TriggerEvent, *, now: datetime) -> int:
    places = [place for place, one in enumerate(rule.events) if fnmatchcase(event.name, one["name"])]
    if not places:
        return 0
    try:
        variables = expressions.scope({"event": runs.event_facts(event)})
        fitting = [place for place in places if expressions.holds(rule.events[place]["when"], variables)]
        key = event.key
        if fitting and rule.correlation.strip():
            key = expressions.text(rule.correlation, variables, limit=KEY_MAX)
    except ExpressionFailed as error:
        log.info("rule.not_fitting", extra={"rule": str(rule.pk), "event": str(event.pk), "error": error.message})
        return 0
    return _fill(rule, fitting, key, event, now=now) if fitting else 0


def _fill(rule: EventRule, places: list[int], key: str, event: TriggerEvent, *, now: datetime) -> int:
    """Under a lock of (rule, key), so that two events that complete it at once make one run."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"rule:{rule.pk}:{key}"])
    window = timedelta(seconds=rule.window_s)
    waiting = EventMatch.objects.filter(
        rule=rule, key=key, run__isnull=True, at__gte=event.at - window, at__lte=event.at + window
    )
    near = list(waiting.order_by("at", "id")[:NEAR_MAX])
    # one event fills one place: one that nothing fills yet, else it waits for the next round
    filled = {match.place for match in near}
    place = next((place for place in places if place not in filled), places[0])
    mine, _ = EventMatch.objects.get_or_create(
        rule=rule, place=place, event=event, defaults={"key": key, "at": event.at}
    )
    chosen = _complete([*near, mine], len(rule.events), window)
    if not chosen:
        return 0
    ids = sorted(str(match.event_id) for match in chosen)
    run = TriggerRun.objects.create(
        rule=rule,
        due_at=now,
        key=key,
        fingerprint=hashlib.sha256(",".join(ids).encode()).hexdigest(),
        created_at=now,
    )
    EventMatch.objects.filter(pk__in=[match.pk for match in chosen]).update(run=run)
    if TriggerRun.objects.filter(rule=rule, created_at__gt=now - STARTS_WITHIN).count() > STARTS_MAX:
        runs.end(run, State.SKIPPED, code="too_many", reason=f"More than {STARTS_MAX} starts in an hour.", now=now)
    return 1


def _complete(matches: list[EventMatch], places: int, window: timedelta) -> list[EventMatch]:
    """One match for each place, the oldest that lie within one window; empty where there is none."""
    in_order = sorted(matches, key=lambda match: match.at)
    for first in in_order:
        chosen: dict[int, EventMatch] = {}
        for match in in_order:
            if first.at <= match.at <= first.at + window:
                chosen.setdefault(match.place, match)
        if len(chosen) == places:
            return list(chosen.values())
    return []
