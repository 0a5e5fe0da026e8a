import base64
import json
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from audit.models import Record


class ActorSerializer(serializers.Serializer):
    type = serializers.CharField()
    id = serializers.CharField()
    on_behalf_of = serializers.CharField(allow_null=True)


class TargetSerializer(serializers.Serializer):
    type = serializers.CharField()
    id = serializers.CharField()


class RecordSerializer(serializers.ModelSerializer):
    """`index` is the record's place in the log, null while it waits for one."""

    index = serializers.SerializerMethodField()
    actor = serializers.SerializerMethodField()
    target = serializers.SerializerMethodField()
    context = serializers.SerializerMethodField()  # type: ignore[assignment]  # a field, beside the property

    class Meta:
        model = Record
        fields = ["id", "index", "created_at", "event", "outcome", "actor", "target", "context"]

    def get_index(self, record: Record) -> int | None:
        return getattr(record, "index", None)

    @extend_schema_field(ActorSerializer)
    def get_actor(self, record: Record) -> dict[str, Any]:
        return {"type": record.actor_type, "id": record.actor_id, "on_behalf_of": record.actor_for}

    @extend_schema_field(TargetSerializer)
    def get_target(self, record: Record) -> dict[str, Any]:
        return {"type": record.target_type, "id": record.target_id}

    def get_context(self, record: Record) -> dict[str, Any]:
        context = json.loads(record.body).get("context")
        return context if isinstance(context, dict) else {}


class RecordDetailSerializer(RecordSerializer):
    """With what a stranger needs to check it: the signed body as it is, the signature, the key's id, the chain."""

    payload = serializers.SerializerMethodField()
    signature = serializers.SerializerMethodField()

    class Meta(RecordSerializer.Meta):
        fields = [*RecordSerializer.Meta.fields, "payload", "body", "signature", "kid", "prev"]

    def get_payload(self, record: Record) -> dict[str, Any]:
        """Values by slot; null where a value was erased."""
        return {part.slot: None if part.value is None else json.loads(part.value) for part in record.payloads.all()}

    def get_signature(self, record: Record) -> str:
        return base64.b64encode(bytes(record.signature)).decode()


class PlaceSerializer(serializers.Serializer):
    """How far checkpoints have come at a place outside or at a witness."""

    name = serializers.CharField()
    size = serializers.IntegerField()
    behind = serializers.IntegerField()
    delivered_at = serializers.DateTimeField(allow_null=True)
    failures = serializers.IntegerField()
    error = serializers.CharField()
    healthy = serializers.BooleanField()


class StatusSerializer(serializers.Serializer):
    size = serializers.IntegerField()
    pending = serializers.IntegerField()
    checkpoint_size = serializers.IntegerField(allow_null=True)
    checkpoint_at = serializers.DateTimeField(allow_null=True)
    root = serializers.CharField(allow_null=True)  # type: ignore[assignment]  # a field, beside the property
    healthy = serializers.BooleanField()
    message = serializers.CharField()
    deliveries = PlaceSerializer(many=True)


class FilterSerializer(serializers.Serializer):
    """The query of the list. Times are ISO 8601 with an offset; `target` is an id, `target_type` its kind."""

    event = serializers.CharField(required=False, max_length=64)
    outcome = serializers.CharField(required=False, max_length=32)
    actor_type = serializers.CharField(required=False, max_length=16)
    actor = serializers.CharField(required=False, max_length=200)
    target_type = serializers.CharField(required=False, max_length=64)
    target = serializers.CharField(required=False, max_length=200)
    after = serializers.DateTimeField(required=False)
    before = serializers.DateTimeField(required=False)
