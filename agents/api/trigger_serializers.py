"""What the API answers about schedules, webhooks, rules, events and endpoints."""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.reverse import reverse

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
from agents.triggers import schedules

NEXT_SHOWN = 5


class _Named(serializers.ModelSerializer[Any]):
    """`url` is this resource."""

    view_name = ""

    url = serializers.SerializerMethodField()
    owner = serializers.CharField(source="owner.username", read_only=True)

    def get_url(self, row: Any) -> str:
        return reverse(self.view_name, kwargs={"pk": row.pk}, request=self.context.get("request"))


class ScheduleSerializer(_Named):
    view_name = "schedule"
    next_runs = serializers.SerializerMethodField()

    class Meta:
        model = Schedule
        fields = [
            *("id", "url", "name", "owner", "enabled", "cron", "time_zone", "interval_s", "payload", "catch_up"),
            *("overlap", "next_due_at", "next_runs", "created_at"),
        ]
        read_only_fields = fields

    @extend_schema_field(serializers.ListField(child=serializers.DateTimeField()))
    def get_next_runs(self, row: Schedule) -> list[str]:
        return [at.isoformat() for at in schedules.upcoming(row, count=NEXT_SHOWN, after=timezone.now())]


class WebhookSerializer(_Named):
    """`address` is where the other side posts to. `secret` stands in the answer to its creation alone."""

    view_name = "webhook"
    scheme = serializers.CharField(read_only=True)
    address = serializers.SerializerMethodField()

    class Meta:
        model = Webhook
        fields = [
            *("id", "url", "name", "owner", "enabled", "address", "scheme", "secret_hint", "condition", "payload"),
            *("event", "event_key", "tolerance_s", "rate_per_minute", "created_at"),
        ]
        read_only_fields = fields

    def get_address(self, row: Webhook) -> str:
        request = self.context.get("request")
        path = row.get_absolute_url()
        return request.build_absolute_uri(path) if request is not None else path


class WebhookDeliverySerializer(serializers.ModelSerializer[WebhookDelivery]):
    class Meta:
        model = WebhookDelivery
        fields = ["id", "delivery_id", "outcome", "code", "reason", "job", "event", "body_sha256", "size_bytes", "at"]
        read_only_fields = fields


class EventRuleSerializer(_Named):
    view_name = "event-rule"

    class Meta:
        model = EventRule
        fields = [
            *("id", "url", "name", "owner", "enabled", "events", "correlation", "window_s", "payload", "created_at"),
        ]
        read_only_fields = fields


class RunSerializer(serializers.ModelSerializer[TriggerRun]):
    class Meta:
        model = TriggerRun
        fields = ["id", "due_at", "key", "state", "code", "reason", "job", "created_at", "ended_at"]
        read_only_fields = fields


class TriggerEventSerializer(serializers.ModelSerializer[TriggerEvent]):
    owner = serializers.CharField(source="owner.username", read_only=True)

    class Meta:
        model = TriggerEvent
        fields = ["id", "name", "key", "data", "source", "owner", "at", "handled_at"]
        read_only_fields = fields


class EndpointSerializer(_Named):
    """`secret` stands in the answer to its creation alone."""

    view_name = "webhook-endpoint"

    class Meta:
        model = WebhookEndpoint
        fields = [
            *("id", "url", "name", "owner", "enabled", "address", "events", "secret_hint", "disabled_reason"),
            *("failing_since", "created_at"),
        ]
        read_only_fields = fields


class WebhookAttemptSerializer(serializers.ModelSerializer[WebhookAttempt]):
    class Meta:
        model = WebhookAttempt
        fields = ["number", "at", "duration_ms", "status", "error", "answer"]
        read_only_fields = fields


class MessageSerializer(serializers.ModelSerializer[WebhookMessage]):
    attempts = WebhookAttemptSerializer(source="tries", many=True, read_only=True)

    class Meta:
        model = WebhookMessage
        fields = ["id", "event", "body", "state", "not_before", "error", "attempts", "created_at", "ended_at"]
        read_only_fields = fields


class SecretSerializer(serializers.Serializer[Any]):
    """Shown once."""

    secret = serializers.CharField(read_only=True)
