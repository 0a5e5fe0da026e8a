"""Policies as the API shows and takes them."""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from approvals.api.serializers import Strict, Text
from approvals.models import Policy, PolicyVersion, ShadowDecision
from approvals.policy import backtest, rules, versions, yamlform

YAML_MAX = 256 * 1024


class PolicySerializer(serializers.ModelSerializer[Policy]):
    """`published`: the number of the version in force; null where none is."""

    published = serializers.IntegerField(allow_null=True, read_only=True)
    latest = serializers.IntegerField(allow_null=True, read_only=True)

    class Meta:
        model = Policy
        fields = ["name", "description", "published", "latest", "created_at"]
        read_only_fields = fields


class PolicyVersionSerializer(serializers.ModelSerializer[PolicyVersion]):
    """A version as lists show it."""

    policy = serializers.CharField(source="policy.name", read_only=True)
    created_by = serializers.CharField(source="created_by.username", default=None, allow_null=True, read_only=True)
    proposed_by = serializers.CharField(source="proposed_by.username", default=None, allow_null=True, read_only=True)
    published_by = serializers.CharField(source="published_by.username", default=None, allow_null=True, read_only=True)

    class Meta:
        model = PolicyVersion
        fields = [
            *("policy", "number", "status", "notes", "created_by", "created_at", "proposed_by", "proposed_at"),
            *("published_by", "published_at", "shadow_since"),
        ]
        read_only_fields = fields


class PolicyVersionDetailSerializer(PolicyVersionSerializer):
    """With its rules as YAML. `missing`: why you cannot publish this draft now; empty where you can."""

    rules_sha256 = serializers.SerializerMethodField()
    yaml = serializers.SerializerMethodField()
    missing = serializers.SerializerMethodField()

    class Meta(PolicyVersionSerializer.Meta):
        fields = [*PolicyVersionSerializer.Meta.fields, "rules_sha256", "yaml", "missing"]
        read_only_fields = fields

    def get_rules_sha256(self, version: PolicyVersion) -> str:
        return rules.sha256(version)

    def get_yaml(self, version: PolicyVersion) -> str:
        return yamlform.dump(version)

    @extend_schema_field(serializers.ListField(child=serializers.CharField()))
    def get_missing(self, version: PolicyVersion) -> list[str]:
        if version.status != PolicyVersion.Status.DRAFT:
            return []
        return versions.hindrances(version, by=self.context["request"].user, now=timezone.now())


class PolicyPackSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    description = serializers.CharField()
    rules = serializers.IntegerField()
    groups = serializers.ListField(child=serializers.CharField())
    yaml = serializers.CharField(source="source")


class PolicyOutcomeSerializer(serializers.Serializer[Any]):
    """`state`: decides, matches (but another rule decides), or no; `fails`: what does not fit."""

    policy = serializers.CharField()
    order = serializers.IntegerField()
    rule = serializers.CharField()
    effect = serializers.CharField()
    state = serializers.CharField()
    why = serializers.CharField()
    fails = serializers.ListField(child=serializers.CharField())


class PolicySimulatedSerializer(serializers.Serializer[Any]):
    decision = serializers.DictField()
    risk = serializers.CharField()
    risk_score = serializers.IntegerField()
    rules = PolicyOutcomeSerializer(many=True)


class PolicyBacktestSerializer(serializers.Serializer[Any]):
    """`counts`: of each flip, such as `deny->allow`; `groups`: flips by tool and rules, with examples."""

    state = serializers.CharField()
    days = serializers.IntegerField(required=False)
    total = serializers.IntegerField(required=False)
    compared = serializers.IntegerField(required=False)
    same = serializers.IntegerField(required=False)
    counts = serializers.DictField(child=serializers.IntegerField(), required=False)
    already = serializers.DictField(child=serializers.IntegerField(), required=False)
    groups = serializers.ListField(child=serializers.DictField(), required=False)
    acknowledged = serializers.DictField(required=False, allow_null=True)
    must_acknowledge = serializers.BooleanField()


class PolicyDifferenceSerializer(serializers.ModelSerializer[ShadowDecision]):
    class Meta:
        model = ShadowDecision
        fields = ["subject_id", "parent_id", "tool", "command", "live", "draft", "at"]
        read_only_fields = fields


class PolicyShadowSerializer(serializers.Serializer[Any]):
    since = serializers.DateTimeField(allow_null=True)
    ends_at = serializers.DateTimeField(allow_null=True)
    compared = serializers.IntegerField()
    differ = serializers.IntegerField()
    differences = PolicyDifferenceSerializer(many=True)


class PolicyChangeSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField()
    rule = serializers.CharField()
    field = serializers.CharField(allow_blank=True)
    was = serializers.CharField(allow_blank=True)
    now = serializers.CharField(allow_blank=True)


class PolicyDiffSerializer(serializers.Serializer[Any]):
    against = serializers.IntegerField()
    changes = PolicyChangeSerializer(many=True)
    text = serializers.CharField(allow_blank=True)


class RolledBackSerializer(serializers.Serializer[Any]):
    """`missing`: what must still happen before it is in force; empty where it is."""

    version = PolicyVersionDetailSerializer()
    missing = serializers.CharField(allow_blank=True)


class Nothing(Strict):
    """An operation without input."""


class PolicyDraftSerializer(Strict):
    source = serializers.IntegerField(required=False, default=None, allow_null=True, min_value=1)  # type: ignore[assignment]


class PolicyYamlSerializer(Strict):
    yaml = Text(max_length=YAML_MAX, trim_whitespace=False)


class PolicyImportSerializer(PolicyYamlSerializer):
    pass


class PolicyCallSerializer(Strict):
    """Either `call` ({tool, arguments, agent, owner, repository, …}) or `step`, the id of one that was decided on."""

    call = serializers.DictField(required=False, default=None, allow_null=True)
    step = Text(required=False, default="", allow_blank=True, max_length=64)

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        if bool(given["step"]) == (given["call"] is not None):
            raise serializers.ValidationError({"call": ["Give either call or step."]})
        return given


class PolicyDaysSerializer(Strict):
    days = serializers.IntegerField(required=False, default=30, min_value=1, max_value=backtest.DAYS_MAX)


class PolicyNoteSerializer(Strict):
    note = Text(max_length=backtest.NOTE_MAX_CHARS, help_text="Why these calls may run.")


class PolicyPublishSerializer(Strict):
    rules_sha256 = Text(
        required=False, default="", allow_blank=True, max_length=64, help_text="Refused where the rules are others."
    )


class PolicyReasonSerializer(Strict):
    reason = Text(required=False, default="", allow_blank=True, max_length=300)
