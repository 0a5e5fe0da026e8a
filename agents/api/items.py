"""What became of each item of a map."""

from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from agents.api.requests import check_query
from agents.api.views import View
from agents.models import MapItem
from agents.selectors import visible_step
from audit.api.pagination import BySeq


class ByIndex(BySeq):
    ordering = "index"


class MapItemSerializer(serializers.ModelSerializer[MapItem]):
    """An item as it ended. `result`: summary, data and text, those that there are."""

    class Meta:
        model = MapItem
        fields = ["index", "ok", "result", "error_code", "error"]
        read_only_fields = fields


class ItemList(View):
    serializer_class = MapItemSerializer
    pagination_class = ByIndex
    queryset = MapItem.objects.none()

    @extend_schema(
        operation_id="list_map_items",
        tags=["steps"],
        parameters=[OpenApiParameter("failed", bool, description="true: only items that failed")],
    )
    def get(self, request: Request, job_id: UUID, key: str) -> Response:
        """The items of a map that have ended, by their place in the list."""
        check_query(request, {"cursor", "limit", "failed"})
        items = MapItem.objects.filter(step=visible_step(request.user, job_id, key))
        failed = request.query_params.get("failed", "false")
        if failed not in {"true", "false"}:
            raise ValidationError({"failed": ["Must be true or false."]})
        if failed == "true":
            items = items.filter(ok=False)
        page = self.paginate_queryset(items)
        return self.get_paginated_response(self.get_serializer(page, many=True).data)
