"""Figures of each rule that asks people, by REST."""

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from approvals.fatigue import figures
from approvals.models import ApprovalRequest
from audit.api.permissions import HasScope, may_read

DAYS, DAYS_MAX = 30, 366


class DeciderSerializer(serializers.Serializer):
    user = serializers.CharField()
    votes = serializers.IntegerField()


class RuleFiguresSerializer(serializers.Serializer):
    """Rates are shares of what ended by people or the clock; null where nothing did."""

    policy = serializers.CharField()
    rule = serializers.CharField()
    asked = serializers.IntegerField()
    pending = serializers.IntegerField()
    approved = serializers.IntegerField()
    denied = serializers.IntegerField()
    expired = serializers.IntegerField()
    approve_rate = serializers.FloatField(allow_null=True)
    deny_rate = serializers.FloatField(allow_null=True)
    expired_rate = serializers.FloatField(allow_null=True)
    decide_median_s = serializers.FloatField(allow_null=True, help_text="Seconds from the question to the decision.")
    decide_p90_s = serializers.FloatField(allow_null=True)
    deciders = DeciderSerializer(many=True)


class FiguresSerializer(serializers.Serializer):
    days = serializers.IntegerField()
    rules = RuleFiguresSerializer(many=True)


class MaySeeFigures(BasePermission):
    """They name who decides how often: for those who view policy rules, as in the admin, and for auditors."""

    message = "Figures are for those with the permission to view policy rules, and for auditors."
    code = "not_permitted"

    def has_permission(self, request: Request, view: APIView) -> bool:
        return bool(request.user.has_perm("approvals.view_policyrule") or may_read(request.user))


class Figures(GenericAPIView):
    serializer_class = FiguresSerializer
    queryset = ApprovalRequest.objects.none()
    permission_classes = [IsAuthenticated, HasScope("approvals:read"), MaySeeFigures]

    @extend_schema(
        operation_id="get_approval_figures",
        tags=["approvals"],
        parameters=[OpenApiParameter("days", int, description=f"Of the last days: 1 to {DAYS_MAX}, {DAYS} by itself.")],
    )
    def get(self, request: Request) -> Response:
        """For each rule that asks: how long people take, how often they approve, deny or let it expire, and who decides.

        A rule that is always approved within seconds is read by nobody: allow it, or make it ask for less.
        """
        unknown = sorted(set(request.query_params) - {"days"})
        if unknown:
            raise ValidationError({name: ["Unknown query parameter."] for name in unknown})
        given = request.query_params.get("days", str(DAYS))
        if not (given.isascii() and given.isdigit() and len(given) < 4 and 1 <= int(given) <= DAYS_MAX):
            raise ValidationError({"days": [f"Must be 1 to {DAYS_MAX}."]})
        rules = [one.as_json() for one in figures(now=timezone.now(), days=int(given))]
        return Response(self.get_serializer({"days": int(given), "rules": rules}).data)
