"""What the API answers, and what it takes: unknown fields are refused and nothing is converted."""

from typing import Any

from django.contrib.auth.models import Group
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.reverse import reverse

from approvals.decisions import REASON_MAX, may_decide
from approvals.models import ApprovalRequest, BreakGlass, Comment, Delegation, Grant, Vote
from approvals.quorum import standing
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
    """`on_behalf_of`: the person whose deputy voted; `withdrawn_at`: since when it counts for nothing."""

    user = serializers.CharField(source="user.username", read_only=True)
    on_behalf_of = serializers.CharField(source="on_behalf_of.username", default=None, allow_null=True, read_only=True)

    class Meta:
        model = Vote
        fields = ["user", "on_behalf_of", "verdict", "reason", "channel", "at", "withdrawn_at"]
        read_only_fields = fields


class CommentSerializer(serializers.ModelSerializer[Comment]):
    """A question back. `answer` is untrusted where an agent wrote it (`answered_by` is `agent:NAME`)."""

    user = serializers.CharField(source="user.username", read_only=True)

    class Meta:
        model = Comment
        fields = ["id", "user", "text", "at", "state", "answer", "answered_by", "answered_at"]
        read_only_fields = fields


class RoleSerializer(serializers.Serializer[Any]):
    group = serializers.CharField()
    needed = serializers.IntegerField()
    who = serializers.ListField(child=serializers.CharField())


class StandingSerializer(serializers.Serializer[Any]):
    """Whose approvals count for which group now; `lapsed`: voters whose approval counts for nothing any more."""

    complete = serializers.BooleanField()
    roles = RoleSerializer(many=True)
    lapsed = serializers.ListField(child=serializers.CharField())


class ApprovalDetailSerializer(ApprovalSerializer):
    """A request with the exact call, its preview, the rule that asks, the votes, and whether you may vote (`why_not`
    says why you may not). `digest` is what an approval is bound to."""

    call = serializers.JSONField(read_only=True)
    risk_reasons = serializers.ListField(child=serializers.CharField(), read_only=True)
    policy = serializers.SerializerMethodField()
    votes = VoteSerializer(many=True, read_only=True)
    standing = serializers.SerializerMethodField()
    comments = CommentSerializer(many=True, read_only=True)
    escalate_to = serializers.CharField(source="escalate_to.name", default=None, allow_null=True, read_only=True)
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
            "standing",
            "comments",
            "second_factor",
            "environment",
            "blast",
            "escalate_to",
            "escalated_at",
            "execution_expires_at",
            "break_glass",
            "replaces",
            "changed",
            "may_decide",
            "why_not",
        ]
        read_only_fields = fields

    def get_policy(self, request: ApprovalRequest) -> str:
        return str(request.policy_version) if request.policy_version is not None else ""

    @extend_schema_field(StandingSerializer)
    def get_standing(self, request: ApprovalRequest) -> dict[str, Any]:
        found = standing(request)
        roles = [{"group": role.name, "needed": role.needed, "who": list(role.who)} for role in found.roles]
        return {"complete": found.complete, "roles": roles, "lapsed": list(found.lapsed)}

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


class EditSerializer(Strict):
    arguments = serializers.DictField(help_text="All arguments of the call, as they are to be.")
    reason = Text(required=False, default="", allow_blank=True, max_length=REASON_MAX)


class AskSerializer(Strict):
    text = Text(max_length=REASON_MAX, help_text="The agent answers, or the requester where there is none.")


class NothingSerializer(Strict):
    """An empty object."""


class BreakGlassSerializer(Strict):
    reason = Text(max_length=REASON_MAX, help_text="Why this cannot wait; somebody else reviews it afterwards.")


class Number(serializers.IntegerField):
    """A whole number, and nothing that could be made into one."""

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return super().to_internal_value(data)


class GiveSerializer(Strict):
    minutes = Number(min_value=1)
    uses = Number(min_value=1)
    matcher = serializers.DictField(
        child=Text(allow_blank=True, trim_whitespace=False),
        help_text="A pattern for each argument of the call; `*` stands for part of a word.",
    )
    reason = Text(required=False, default="", allow_blank=True, max_length=REASON_MAX)


class GrantSerializer(serializers.ModelSerializer[Grant]):
    """Leave for calls that fit, in one job, for a time and so many uses. `request` is what it was given with."""

    request = serializers.UUIDField(source="from_request_id", read_only=True)

    class Meta:
        model = Grant
        fields = [
            "id",
            "request",
            "parent_id",
            "tool",
            "target",
            "matcher",
            "words",
            "risk_max",
            "rule",
            "created_at",
            "expires_at",
            "uses_max",
            "uses",
            "revoked_at",
        ]
        read_only_fields = fields


class TriedSerializer(serializers.Serializer[Any]):
    asked = serializers.IntegerField()
    fit = serializers.IntegerField()
    covered = serializers.ListField(child=serializers.CharField())
    left = serializers.ListField(child=serializers.CharField())


class ProposalSerializer(serializers.Serializer[Any]):
    """What a grant would cover by default; `tried` on what people were asked about this tool in the last 30 days."""

    matcher = serializers.DictField(child=serializers.CharField())
    words = serializers.CharField()
    minutes = serializers.IntegerField()
    uses = serializers.IntegerField()
    tried = TriedSerializer()


class BatchSerializer(Strict):
    requests = serializers.ListField(child=serializers.UUIDField(), min_length=1, max_length=50)
    verdict = serializers.ChoiceField(choices=["approve", "deny"])
    reason = Text(required=False, default="", allow_blank=True, max_length=REASON_MAX)


class BatchResultSerializer(serializers.Serializer[Any]):
    """Of each request how it stands now, and why it was not decided, where it was not."""

    id = serializers.UUIDField()
    state = serializers.CharField()
    code = serializers.CharField(allow_null=True)
    detail = serializers.CharField(allow_null=True)


class DelegateSerializer(Strict):
    deputy = Text(max_length=150, help_text="A user's name.")
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()
    groups = serializers.ListField(
        child=Text(max_length=150), required=False, default=list, help_text="Only as a member of these; empty: of all."
    )
    reason = Text(required=False, default="", allow_blank=True, max_length=300)


class DelegationSerializer(serializers.ModelSerializer[Delegation]):
    """`deputy` votes in `person`'s place from one time to another; it is not passed on."""

    person = serializers.CharField(source="person.username", read_only=True)
    deputy = serializers.CharField(source="deputy.username", read_only=True)
    groups: serializers.SlugRelatedField[Group] = serializers.SlugRelatedField(
        slug_field="name", many=True, read_only=True
    )

    class Meta:
        model = Delegation
        fields = ["id", "person", "deputy", "groups", "starts_at", "ends_at", "reason", "revoked_at"]
        read_only_fields = fields


class GlassSerializer(serializers.ModelSerializer[BreakGlass]):
    """An approval in an emergency, and its review."""

    request = serializers.UUIDField(source="request_id", read_only=True)
    user = serializers.CharField(source="user.username", read_only=True)
    reviewer = serializers.CharField(source="reviewer.username", default=None, allow_null=True, read_only=True)

    class Meta:
        model = BreakGlass
        fields = ["id", "request", "user", "reason", "at", "review_by", "verdict", "reviewer", "review", "reviewed_at"]
        read_only_fields = fields


class ReviewSerializer(Strict):
    verdict = serializers.ChoiceField(choices=["justified", "unjustified"])
    words = Text(max_length=REASON_MAX)
