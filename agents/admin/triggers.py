"""Schedules, webhooks both ways, event rules. What they start acts as their owner: only the owner and superusers
change them, and every change goes through `agents.triggers.changes`, as the API's do."""

from typing import Any, ClassVar, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.decorators import action

from agents.admin.base import ReadOnly, rows_of
from agents.admin.work import ReadOnlyInline
from agents.errors import AgentsError, InvalidInput
from agents.models import (
    EventRule,
    Schedule,
    TriggerEvent,
    TriggerRun,
    Webhook,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookMessage,
)
from agents.triggers import changes, delivery, schedules
from audit.actor import Actor


class TriggerForm(forms.ModelForm):
    """Judged by the rules of the API; `acting` is set by the page."""

    acting: ClassVar[User]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._meta.model is WebhookEndpoint and "events" in self.fields:
            self.fields["events"].required = False  # an empty list is every event

    def clean_events(self) -> Any:
        found = self.cleaned_data["events"]
        return [] if found is None else found

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        names = changes.KINDS[self._meta.model].input.model_fields
        given = {name: cleaned[name] for name in names if name in cleaned}
        owner = self.acting if self.instance._state.adding else self.instance.owner
        try:
            changes.check(self._meta.model, given, owner=owner, now=timezone.now())
        except InvalidInput as error:
            for field, message in error.problems:
                top = field.partition(".")[0].partition("[")[0]
                where = "" if field == top else f"{field}: "
                self.add_error(top if top in self.fields else None, f"{where}{message}")
        return cleaned


class TriggerAdmin(ModelAdmin):
    list_filter = ["enabled"]
    search_fields = ["name", "owner__username"]
    list_select_related = ["owner"]
    form = TriggerForm

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        return rows if request.user.is_superuser else rows.filter(owner=request.user)

    def get_form(self, request: HttpRequest, obj: Model | None = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        return type(form.__name__, (form,), {"acting": request.user})

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        return list(changes.KINDS[self.model].input.model_fields)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Deleting many at once would go past the record of each."""
        found = super().get_actions(request)
        found.pop("delete_selected", None)
        return found

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and _mine(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and _mine(request, obj)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        now = timezone.now()
        if not change:
            obj.owner, obj.created_at = request.user, now
            if changes.KINDS[self.model].secret:
                request._secret = changes.give_secret(obj)  # type: ignore[attr-defined]
        changes.saved_by_form(obj, new=not change, by=_person(request), now=now)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        changes.remove(obj, by=_person(request))

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        secret = getattr(request, "_secret", "")
        if not secret:
            return super().response_add(request, obj, post_url_continue)
        return self._shown(request, obj, secret)

    def _shown(self, request: HttpRequest, obj: Any, secret: str) -> HttpResponse:
        """The page that shows a secret, once."""
        context = {
            **self.admin_site.each_context(request),
            "title": f"Secret of {obj.name}",
            "opts": self.opts,
            "row": obj,
            "secret": secret,
            "address": obj.get_absolute_url() if isinstance(obj, Webhook) else "",
        }
        response = TemplateResponse(request, "admin/agents/secret_shown.html", context)
        response["Cache-Control"] = "no-store"
        return response

    def has_rotate_permission(self, request: HttpRequest) -> bool:
        return super().has_change_permission(request)

    @action(description="Make a new secret", permissions=["rotate"])
    def new_secret(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        rows = rows_of(queryset)
        if len(rows) != 1:
            self.message_user(request, "Choose one.", messages.ERROR)
            return None
        return self._shown(request, rows[0], changes.rotate(rows[0], by=_person(request), now=timezone.now()))


def _person(request: HttpRequest) -> User:
    return cast(User, request.user)


def _mine(request: HttpRequest, obj: Any) -> bool:
    return obj is None or bool(request.user.is_superuser) or obj.owner_id == request.user.pk


@admin.register(Schedule)
class ScheduleAdmin(TriggerAdmin):
    list_display = ["name", "owner", "enabled", "cron", "time_zone", "interval_s", "next_due_at", "overlap"]
    readonly_fields = ["next_times"]
    actions = ["run_now"]

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        return [*super().get_fields(request, obj), *(["next_times"] if obj is not None else [])]

    @admin.display(description="next times (UTC)")
    def next_times(self, schedule: Schedule) -> str:
        found = schedules.upcoming(schedule, count=5, after=timezone.now())
        return ", ".join(f"{at:%a %Y-%m-%d %H:%M}" for at in found) or "none: it is paused"

    @action(description="Run now", permissions=["rotate"])
    def run_now(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        for schedule in rows_of(queryset):
            try:
                schedules.run_now(schedule, by=Actor.user(request.user.pk), now=timezone.now())
                self.message_user(request, f"{schedule.name} runs.", messages.SUCCESS)
            except AgentsError as error:
                self.message_user(request, f"{schedule.name}: {error.message}", messages.ERROR)


@admin.register(Webhook)
class WebhookAdmin(TriggerAdmin):
    list_display = ["name", "owner", "enabled", "scheme", "secret_hint", "event", "address"]
    actions = ["new_secret"]

    @admin.display(description="address")
    def address(self, webhook: Webhook) -> str:
        return webhook.get_absolute_url()


@admin.register(EventRule)
class EventRuleAdmin(TriggerAdmin):
    list_display = ["name", "owner", "enabled", "waits_for", "window_s"]

    @admin.display(description="waits for")
    def waits_for(self, rule: EventRule) -> str:
        return " and ".join(str(one["name"]) for one in rule.events)


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(TriggerAdmin):
    list_display = ["name", "owner", "enabled", "address", "secret_hint", "failing_since", "disabled_reason"]
    actions = ["new_secret"]


class Outcomes(ReadOnly):
    """What came of triggers; a person sees that of their own."""

    owner_path: ClassVar[str]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        return rows if request.user.is_superuser else rows.filter(**{self.owner_path: request.user})


@admin.register(TriggerRun)
class TriggerRunAdmin(ReadOnly):
    list_display = ["due_at", "what", "state", "code", "reason", "job"]
    list_filter = ["state", "code"]
    list_select_related = ["schedule", "rule", "job"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[TriggerRun]:
        return super().get_queryset(request).filter(pk__in=changes.visible_runs(request.user).values("pk"))

    @admin.display(description="schedule or rule")
    def what(self, run: TriggerRun) -> str:
        return str(run.schedule or run.rule)


@admin.register(TriggerEvent)
class TriggerEventAdmin(Outcomes):
    owner_path = "owner"
    list_display = ["at", "name", "key", "source", "owner", "handled_at"]
    search_fields = ["name", "key", "source"]
    list_select_related = ["owner"]


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(Outcomes):
    owner_path = "webhook__owner"
    list_display = ["at", "webhook", "delivery_id", "outcome", "code", "reason", "job", "size_bytes"]
    list_filter = ["outcome", "code", "webhook"]
    list_select_related = ["webhook", "job"]


class AttemptInline(ReadOnlyInline):
    model = WebhookAttempt
    fields = ["number", "at", "duration_ms", "status", "error", "answer"]


@admin.register(WebhookMessage)
class WebhookMessageAdmin(Outcomes):
    owner_path = "endpoint__owner"
    list_display = ["created_at", "endpoint", "event", "state", "attempts", "not_before", "error"]
    list_filter = ["state", "event", "endpoint"]
    list_select_related = ["endpoint"]
    inlines = [AttemptInline]
    actions = ["replay"]

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("agents.change_webhookendpoint"))

    @action(description="Send again", permissions=["replay"])
    def replay(self, request: HttpRequest, queryset: QuerySet[WebhookMessage]) -> None:
        for message in rows_of(queryset):
            try:
                delivery.replay(message, by=Actor.user(request.user.pk), now=timezone.now())
            except AgentsError as error:
                self.message_user(request, format_html("{}: {}", message, error.message), messages.ERROR)
            else:
                self.message_user(request, f"{message.event} is sent again.", messages.SUCCESS)
