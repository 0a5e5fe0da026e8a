"""Reading the log over HTTP. Nothing here writes."""

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from audit.api.pagination import ByTime
from audit.api.permissions import HasScope, IsAuditor
from audit.api.serializers import FilterSerializer, RecordDetailSerializer, RecordSerializer, StatusSerializer
from audit.models import Record
from audit.selectors import records
from audit.status import status


class AuditView(GenericAPIView):
    permission_classes = [IsAuthenticated, HasScope("audit:read"), IsAuditor]
    queryset = Record.objects.none()


class RecordList(AuditView):
    serializer_class = RecordSerializer
    pagination_class = ByTime

    @extend_schema(operation_id="list_audit_records", tags=["audit"], parameters=[FilterSerializer])
    def get(self, request: Request) -> Response:
        """Records of the audit log, newest first."""
        known = {*FilterSerializer().fields, "cursor", "limit"}
        unknown = set(request.query_params) - known
        if unknown:
            raise ValidationError({name: ["Is not a parameter of this list."] for name in sorted(unknown)})
        query = FilterSerializer(data={name: request.query_params[name] for name in request.query_params})
        query.is_valid(raise_exception=True)
        filters = dict(query.validated_data)
        found = records(after=filters.pop("after", None), before=filters.pop("before", None), filters=filters)
        page = self.paginate_queryset(found)
        return self.get_paginated_response(self.get_serializer(page, many=True).data)


class RecordDetail(AuditView):
    serializer_class = RecordDetailSerializer

    @extend_schema(operation_id="get_audit_record", tags=["audit"])
    def get(self, request: Request, record_id: UUID) -> Response:
        """One record: its values, and the signed bytes."""
        found = records().filter(pk=record_id).prefetch_related("payloads").first()
        if found is None:
            raise NotFound("There is no such record.")
        return Response(self.get_serializer(found).data)


class Status(AuditView):
    serializer_class = StatusSerializer

    @extend_schema(operation_id="get_audit_status", tags=["audit"])
    def get(self, request: Request) -> Response:
        """How many records there are, and the latest signed checkpoint."""
        return Response(self.get_serializer(status()).data)
