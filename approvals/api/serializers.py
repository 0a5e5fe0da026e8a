"""What the API answers, and what it takes: unknown fields are refused and nothing is converted."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.reverse import reverse

from approvals.decisions import REASON_MAX, may_decide
from approvals.models import ApprovalRequest, Vote
from tools.spec import Risk


class ApprovalSerializer(serializers.ModelSerializer[ApprovalRequest]):
    """A request as lists show it. `url` is this resource; `page` is for people. Titles and commands are written by
    agents: untrusted."""

    url = serializers.SerializerMethodField()
    page = serializers.SerializerMethodField()
    risk = serializers.ChoiceField(choices=[str(one) for one in Risk], read_only=True)
    requester = serializers.CharField(source="requester.username", read_only=True)
    approvers = serializers.CharField(source="approvers.name", default=None, allow_null=True, read_only=True)

    class Meta:
        model = ApprovalRequest
        fields = [
            "id",
            "url",
            "page",
            "kind",
            "state",
            "title",
            "command",
            "risk",
            "requester",
            "approvers",
            "quorum",
            "subject_type",
            "subject_id",
            "parent_id",
            "created_at",
            "expires_at",
            "decided_at",
        ]
        read_only_fields = fields

    def get_url(self, request: ApprovalRequest) -> str:
        return reverse("approval-api", kwargs={"request_id": request.pk}, request=self.context.get("request"))

    def get_page(self, request: ApprovalRequest) -> str:
        asked: Request | None = self.context.get("request")
        path = request.get_absolute_url()
        return asked.build_absolute_uri(path) if asked is not None else path


class VoteSerializer(serializers.ModelSerializer[Vote]):
    user = serializers.CharField(source="user.username", read_only=True)

    class Meta:
        model = Vote
        fields = ["user", "verdict", "reason", "channel", "at"]
        read_only_fields = fields


class ApprovalDetailSerializer(ApprovalSerializer):
    """A request with the exact call, its preview, the rule that asks, the votes, and whether you may vote (`why_not`
    says why you may not). `digest` is what an approval is bound to."""

    call = serializers.JSONField(read_only=True)
    risk_reasons = serializers.ListField(child=serializers.CharField(), read_only=True)
    policy = serializers.SerializerMethodField()
    votes = VoteSerializer(many=True, read_only=True)
    may_decide = serializers.SerializerMethodField()
    why_not = serializers.SerializerMethodField()

    class Meta(ApprovalSerializer.Meta):
        fields = [
            *ApprovalSerializer.Meta.fields,
            "risk_reasons",
            "call",
            "digest",
            "preview",
            "preview_at",
            "context",
            "policy",
            "rule",
            "rule_reason",
            "answer",
            "votes",
            "may_decide",
            "why_not",
        ]
        read_only_fields = fields

    def get_policy(self, request: ApprovalRequest) -> str:
        return str(request.policy_version) if request.policy_version is not None else ""

    def get_may_decide(self, request: ApprovalRequest) -> bool:
        return may_decide(request, self.context["request"].user)[0]

    def get_why_not(self, request: ApprovalRequest) -> str:
        return may_decide(request, self.context["request"].user)[1]


class Text(serializers.CharField):
    """A string, and nothing that could be made into one."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Strict(serializers.Serializer[Any]):
    """Refuses fields that it does not have, naming each."""

    def to_internal_value(self, data: Any) -> Any:
        unknown = set(data) - set(self.fields) if isinstance(data, dict) else set()
        if unknown:
            raise serializers.ValidationError({str(name): ["Unknown field."] for name in sorted(unknown)})
        return super().to_internal_value(data)


class ApproveSerializer(Strict):
    reason = Text(required=False, default="", allow_blank=True, max_length=REASON_MAX)


class DenySerializer(Strict):
    reason = Text(max_length=REASON_MAX, help_text="The agent reads it and looks for another way.")


class AnswerSerializer(Strict):
    answer = Text(max_length=REASON_MAX)
