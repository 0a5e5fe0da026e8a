"""What the explorer is asked for, and the records that fit."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.db.models import QuerySet
from django.http import QueryDict
from django.utils.dateparse import parse_date, parse_datetime

from audit import related
from audit.kinds import Event
from audit.models import Record
from audit.selectors import records

SHOWN = 50
TIMEOUT_MS = 5_000
FIELDS = ("show", "event", "actor", "job", "tool", "outcome", "after", "before")
PRESETS = {
    "decisions": ("Decisions of policies", [Event.STEP_DECIDED, Event.STEP_REFUSED, Event.PERMIT_REFUSED]),
    "approvals": (
        "Approvals",
        [event for event in Event if event.startswith(("approval.", "glass.", "grant.", "delegation."))],
    ),
    "effects": ("What ran", [Event.STEP_DISPATCHED, Event.STEP_CONFIRMED, Event.STEP_FAILED, Event.STEP_IN_DOUBT]),
    "policies": ("Policies and administration", [event for event in Event if event.startswith(("policy.", "admin."))]),
    "people": ("Signing in and tokens", [event for event in Event if event.startswith(("auth.", "token."))]),
    "log": ("The log itself", [event for event in Event if event.startswith(("log.", "key.", "payload."))]),
}


@dataclass(slots=True)
class Asked:
    """The form's values as they were typed; errors by field."""

    show: str = ""
    event: str = ""
    actor: str = ""
    job: str = ""
    tool: str = ""
    outcome: str = ""
    after: str = ""
    before: str = ""
    errors: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, query: QueryDict) -> "Asked":
        asked = cls()
        for name in FIELDS:
            setattr(asked, name, query.get(name, "").strip().replace("\0", "")[:200])
        return asked

    @property
    def job_id(self) -> str:
        """The job's id in its usual spelling, "" where none was given or it is none."""
        try:
            return str(UUID(self.job)) if self.job else ""
        except ValueError:
            return ""

    def query(self) -> str:
        """The filters as a query string, for links."""
        made = QueryDict(mutable=True)
        for name in FIELDS:
            if value := getattr(self, name):
                made[name] = value
        return made.urlencode()


def found(asked: Asked, *, older_than: UUID | None) -> list[Record]:
    """At most SHOWN + 1 records, newest first; of a filter with an error, none.

    Raises:
        OperationalError: it takes too long; a narrower time helps.
    """
    wanted = _queryset(asked)
    if asked.errors:
        return []
    if older_than is not None:
        wanted = wanted.filter(pk__lt=older_than)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {TIMEOUT_MS}")
        return list(wanted[: SHOWN + 1])


def _queryset(asked: Asked) -> QuerySet[Record]:
    wanted = records(after=_time(asked, "after"), before=_time(asked, "before"))
    if asked.show in PRESETS:
        wanted = wanted.filter(event__in=PRESETS[asked.show][1])
    elif asked.show:
        asked.errors["show"] = "There is no such selection."
    if asked.event:
        if asked.event not in set(Event):
            asked.errors["event"] = f"There is no event {asked.event!r}."
        wanted = wanted.filter(event=asked.event)
    if asked.outcome:
        wanted = wanted.filter(outcome=asked.outcome)
    if asked.actor:
        wanted = wanted.filter(actor_id=_actor(asked.actor))
    if asked.job:
        if asked.job_id:
            wanted = wanted.filter(target_id__in=related.ids("job", asked.job_id))
        else:
            asked.errors["job"] = "A job's id looks like 0199c5c4-9d3e-7c62-b6f4-3f0a1c2d4e5f."
    if asked.tool:
        # bodies are canonical JSON: this is how the name of a tool stands in one
        wanted = wanted.filter(body__contains=f'"tool":"{_json_text(asked.tool)}"')
    return wanted


def _actor(typed: str) -> str:
    """Somebody may type a user's name; the log knows ids."""
    if typed.isdigit():
        return typed
    user = get_user_model()._default_manager.filter(username=typed).first()
    return str(user.pk) if user is not None else typed


def _json_text(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _time(asked: Asked, name: str) -> datetime | None:
    typed = getattr(asked, name)
    if not typed:
        return None
    try:
        day = parse_date(typed)
        at = datetime(day.year, day.month, day.day, tzinfo=UTC) if day else parse_datetime(typed)
    except ValueError:
        at = None
    if at is None:
        asked.errors[name] = "A date such as 2030-01-31, or a time such as 2030-01-31T09:00."
        return None
    if day and name == "before":
        at += timedelta(days=1)  # the day itself is meant
    return at if at.tzinfo else at.replace(tzinfo=UTC)
