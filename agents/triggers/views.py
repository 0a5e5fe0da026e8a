"""POST /hooks/<name>/: no login; who knows the webhook's secret is heard."""

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from agents.triggers.receive import receive


class Incoming(APIView):
    """Answers 202 with the job's id (null where none was started); else a problem."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = ()  # each webhook has a bound of its own

    @extend_schema(exclude=True)
    def post(self, request: Request, name: str) -> Response:
        """Takes one delivery."""
        raw = request._request
        headers = {key.lower(): value for key, value in raw.headers.items()}
        delivery = receive(
            name, headers=headers, body=raw.body, address=str(raw.META.get("REMOTE_ADDR", "")), now=timezone.now()
        )
        answer = {
            "delivery": str(delivery.pk),
            "outcome": str(delivery.outcome),
            "job": None if delivery.job_id is None else str(delivery.job_id),
            "event": None if delivery.event_id is None else str(delivery.event_id),
        }
        return Response(answer, status=202)
