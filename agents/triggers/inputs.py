"""The shapes of schedules, webhooks, rules, events and endpoints, as the API and the admin hand them in."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from agents.payload import Slug

Expression = Annotated[str, Field(max_length=2000, description="CEL.")]
EventName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]*$", max_length=120)]
EventPattern = Annotated[str, Field(pattern=r"^[a-z*][a-z0-9_.*-]*$", max_length=120)]
Payload = Annotated[
    dict[str, Any], Field(description="The submission, as POST /api/v1/jobs takes it; texts may hold ${{ CEL }}.")
]


class ScheduleInput(BaseModel):
    """Starts a job at times: a `cron` expression in a time zone, or every `interval_s` seconds."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Slug
    enabled: bool = True
    cron: Annotated[str, Field(max_length=200, description="minute hour day month weekday; or @daily and the like")] = (
        ""
    )
    time_zone: Annotated[str, Field(max_length=64, description="IANA name.")] = "UTC"
    interval_s: int | None = None
    payload: Payload
    catch_up: Annotated[Literal["skip", "last", "all"], Field(description="Of times that were missed.")] = "last"
    overlap: Annotated[Literal["allow", "skip", "queue"], Field(description="Where the last job is unfinished.")] = (
        "skip"
    )


class WebhookInput(BaseModel):
    """An address that others post to. It starts a job (`payload`), emits an event (`event`), or both."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[Slug, Field(description="Also the end of its address: /hooks/<name>/.")]
    enabled: bool = True
    scheme: Literal["standard", "github", "gitlab"] = "standard"
    condition: Annotated[Expression, Field(description="CEL over body and headers: false leaves it out.")] = ""
    payload: Payload | None = None
    event: Annotated[
        str, Field(pattern=r"^([a-z][a-z0-9_.-]*)?$", max_length=120, description="An event that each delivery emits.")
    ] = ""
    event_key: Annotated[Expression, Field(description="CEL: the event's key, such as body.after.")] = ""
    tolerance_s: Annotated[int, Field(ge=10, le=3600)] = 300
    rate_per_minute: Annotated[int, Field(ge=1, le=6000)] = 60


class RuleEvent(BaseModel):
    """One of the events that a rule waits for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[EventPattern, Field(description="* stands for anything: job.*")]
    when: Annotated[Expression, Field(description="CEL over event: false leaves it out.")] = ""


class EventRuleInput(BaseModel):
    """Starts a job when each of `events` has come for the same key within `window_s`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Slug
    enabled: bool = True
    events: Annotated[list[RuleEvent], Field(min_length=1, max_length=8)]
    correlation: Annotated[Expression, Field(description="CEL over event: what is the same; empty: event.key.")] = ""
    window_s: Annotated[int, Field(ge=1, le=7 * 86_400)] = 3600
    payload: Payload


class EventInput(BaseModel):
    """Something happened. Your own rules are asked about it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: EventName
    key: Annotated[str, Field(max_length=200, description="What it is about, such as a commit.")] = ""
    data: Annotated[dict[str, Any], Field(description="At most 64 KiB.")] = {}


class WebhookEndpointInput(BaseModel):
    """Where we post to, signed by the Standard Webhooks specification."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Slug
    address: Annotated[str, Field(max_length=500, description="https://…")]
    events: Annotated[list[str], Field(max_length=20, description="Empty: every event.")] = []
    enabled: bool = True


class NewWebhookInput(WebhookInput):
    """A new webhook; `secret` where the other side has made one, else we make it."""

    secret: Annotated[str | None, Field(description="16 to 200 visible characters. Never shown again.")] = None


class SecretInput(BaseModel):
    """A new secret; empty: we make one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    secret: str | None = None
