"""Making, changing and removing what starts jobs: whoever asks (API, admin), the same rules and the same record.

What starts jobs acts as its owner, so only the owner and superusers change it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from django.contrib.auth.models import AnonymousUser, User
from django.db import IntegrityError, models, transaction
from django.db.models import Q, QuerySet
from pydantic import BaseModel

from agents.errors import InvalidInput, NotVisible
from agents.models import EventRule, Schedule, TriggerEvent, TriggerRun, Webhook, WebhookEndpoint
from agents.payload import parse
from agents.triggers import addresses, emit, expressions, outbox, runs, schedules, secrets, times
from agents.triggers.errors import AddressRefused
from agents.triggers.inputs import EventInput, EventRuleInput, ScheduleInput, WebhookEndpointInput, WebhookInput
from audit.actor import Actor, Target
from audit.append import record
from audit.canonical import canonical_json
from audit.kinds import Event

Row = TypeVar("Row", bound=models.Model)

EVENT_DATA_MAX_BYTES = 64 * 1024
EACH_MAX = 200  # of a kind, one user
NAMES_WEBHOOK = {"body", "headers"}
NAMES_EVENT = {"event"}
NAMES_RULE = {"key", "events"}
NAMES_SCHEDULE = {"schedule"}
SECRET_MIN, SECRET_MAX = 16, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """noun: in records; check: judges the whole input for an owner; secret: it has one."""

    noun: str
    input: type[BaseModel]
    check: Callable[[Any, User, datetime], None]
    secret: bool = False


def visible(model: type[Row], user: User | AnonymousUser) -> QuerySet[Row]:
    """The user's own; superusers see all."""
    rows: QuerySet[Row] = model._default_manager.all()
    if not user.is_authenticated or not user.is_active:
        return rows.none()
    return rows if user.is_superuser else rows.filter(owner=user)


def visible_one(model: type[Row], user: User | AnonymousUser, pk: UUID | str) -> Row:
    """Raises NotVisible."""
    row = visible(model, user).filter(pk=pk).first()
    if row is None:
        raise NotVisible(f"There is no such {model._meta.verbose_name}.")
    return row


def visible_runs(user: User | AnonymousUser) -> QuerySet[TriggerRun]:
    """Runs of the user's own schedules and rules; superusers see all."""
    runs = TriggerRun.objects.select_related("schedule", "rule", "job")
    return runs.filter(Q(schedule__in=visible(Schedule, user)) | Q(rule__in=visible(EventRule, user)))


def check(model: type[models.Model], payload: object, *, owner: User, now: datetime) -> BaseModel:
    """The checked input; writes nothing.

    Raises:
        InvalidInput: with every wrong field that could be found.
    """
    kind = KINDS[model]
    given = parse(kind.input, payload)
    kind.check(given, owner, now)
    return given


def create(
    model: type[Row], payload: object, *, user: User, now: datetime, secret: str | None = None
) -> tuple[Row, str]:
    """A new row of the user's, and its secret: the only time that anybody sees it ("" where it has none).

    Raises:
        InvalidInput
    """
    kind = KINDS[model]
    given = check(model, payload, owner=user, now=now)
    if visible(model, user).filter(owner=user).count() >= EACH_MAX:
        raise InvalidInput(f"You have {EACH_MAX} of them already.", field="name")
    row = model(owner=user, created_at=now, **given.model_dump())
    plain = give_secret(row, secret) if kind.secret else ""
    _set_next(row, now)
    _save(row, lambda: row.save(force_insert=True), "created", by=user, now=now)
    return row, plain


def change(row: Row, payload: object, *, by: User, now: datetime) -> Row:
    """Changes the fields that `payload` names. Raises InvalidInput."""
    if not isinstance(payload, Mapping):
        raise InvalidInput("The body must be a JSON object.")
    model = type(row)
    owner = row.owner  # type: ignore[attr-defined]
    given = check(model, {**as_input(row), **payload}, owner=owner, now=now)
    for name, one in given.model_dump().items():
        setattr(row, name, one)
    _changed(row, now)
    _save(row, row.save, "changed", by=by, now=now)
    return row


def rotate(row: Webhook | WebhookEndpoint, *, by: User, now: datetime, secret: str | None = None) -> str:
    """A new secret in place of the old one, which holds no more. Raises InvalidInput."""
    plain = give_secret(row, secret)
    _save(row, row.save, "secret_rotated", by=by, now=now)
    return plain


def remove(row: models.Model, *, by: User) -> None:
    """Deletes it with its runs or deliveries; the jobs that it started stay."""
    with transaction.atomic():
        _record(row, "removed", by=by)
        row.delete()


def as_input(row: models.Model) -> dict[str, Any]:
    """The row as its input would say it."""
    return {name: getattr(row, name) for name in KINDS[type(row)].input.model_fields}


def send_event(payload: object, *, user: User, now: datetime) -> TriggerEvent:
    """An event of the user's own. Raises InvalidInput."""
    given = parse(EventInput, payload)
    if len(canonical_json(given.data)) > EVENT_DATA_MAX_BYTES:
        raise InvalidInput(f"Must be at most {EVENT_DATA_MAX_BYTES // 1024} KiB.", field="data")
    with transaction.atomic():
        return emit.emit(given.name, owner_id=user.pk, source="api", key=given.key, data=given.data, now=now)


def saved_by_form(row: models.Model, *, new: bool, by: User, now: datetime) -> None:
    """For a form that has checked its input with `check`: writes the row with its record."""
    _changed(row, now)
    _save(row, row.save, "created" if new else "changed", by=by, now=now)


def _check_schedule(given: ScheduleInput, owner: User, now: datetime) -> None:
    times.check(cron=given.cron, time_zone=given.time_zone, interval_s=given.interval_s, now=now)
    expressions.check_payload(given.payload, NAMES_SCHEDULE, owner=owner)
    expressions.check_values(given.payload, expressions.scope(runs.schedule_facts(given.name, now)))


def _check_webhook(given: WebhookInput, owner: User, now: datetime) -> None:
    if given.payload is None and not given.event:
        raise InvalidInput("Give a payload, which starts a job, or an event to emit.", field="payload")
    if given.event_key and not given.event:
        raise InvalidInput("Only an event has a key.", field="event_key")
    expressions.check(given.condition, NAMES_WEBHOOK, field="condition")
    expressions.check(given.event_key, NAMES_WEBHOOK, field="event_key")
    if given.payload is not None:
        expressions.check_payload(given.payload, NAMES_WEBHOOK, owner=owner)


def _check_rule(given: EventRuleInput, owner: User, now: datetime) -> None:
    for place, one in enumerate(given.events):
        expressions.check(one.when, NAMES_EVENT, field=f"events[{place}].when")
    expressions.check(given.correlation, NAMES_EVENT, field="correlation")
    expressions.check_payload(given.payload, NAMES_RULE, owner=owner)


def _check_endpoint(given: WebhookEndpointInput, owner: User, now: datetime) -> None:
    try:
        addresses.check(given.address)
    except AddressRefused as error:
        raise InvalidInput(error.message, field="address") from None
    for place, name in enumerate(given.events):
        if name not in outbox.EVENTS:
            raise InvalidInput(f"Must be one of {', '.join(outbox.EVENTS)}.", field=f"events[{place}]")


KINDS: dict[type[models.Model], Kind] = {
    Schedule: Kind(noun="schedule", input=ScheduleInput, check=_check_schedule),
    Webhook: Kind(noun="webhook", input=WebhookInput, check=_check_webhook, secret=True),
    EventRule: Kind(noun="event_rule", input=EventRuleInput, check=_check_rule),
    WebhookEndpoint: Kind(noun="webhook_endpoint", input=WebhookEndpointInput, check=_check_endpoint, secret=True),
}


def give_secret(row: Any, secret: str | None = None) -> str:
    """A secret of ours, or the one that the other side has made. Raises InvalidInput."""
    plain = secrets.new_secret() if secret is None else secret
    if not SECRET_MIN <= len(plain) <= SECRET_MAX or not plain.isascii() or not plain.isprintable():
        raise InvalidInput(f"Must be {SECRET_MIN} to {SECRET_MAX} visible ASCII characters.", field="secret")
    row.secret_sealed = secrets.seal(plain)
    # a part of a short secret would be too much of it
    row.secret_hint = secrets.hint(plain) if secret is None else f"{plain[:2]}…"
    return plain


def _changed(row: models.Model, now: datetime) -> None:
    _set_next(row, now)
    if isinstance(row, WebhookEndpoint) and row.enabled:
        row.disabled_reason, row.failing_since, row.not_before = "", None, None


def _set_next(row: models.Model, now: datetime) -> None:
    """A schedule counts from when it was made, changed or turned on: no times of before come up."""
    if isinstance(row, Schedule):
        found = schedules.upcoming(row, count=1, after=now)
        row.next_due_at = found[0] if found else None


def _save(row: models.Model, write: Callable[[], object], action: str, *, by: User, now: datetime) -> None:
    """Raises InvalidInput: the name is taken."""
    try:
        with transaction.atomic():
            write()
            if isinstance(row, EventRule):  # its places may mean something else now
                row.matches.filter(run__isnull=True).delete()
            _record(row, action, by=by)
    except IntegrityError as error:
        diagnosis = getattr(error.__cause__, "diag", None)
        if "_name_" not in (getattr(diagnosis, "constraint_name", None) or ""):
            raise
        raise InvalidInput(f"The name {row.name!r} is taken.", field="name") from None  # type: ignore[attr-defined]


def _record(row: Any, action: str, *, by: User) -> None:
    record(
        Event.TRIGGER_CHANGED,
        actor=Actor.user(by.pk),
        target=Target(type=KINDS[type(row)].noun, id=str(row.pk)),
        context={"action": action, "name": row.name, "enabled": row.enabled, "owner": str(row.owner_id)},
        payload={"settings": as_input(row)},
    )
