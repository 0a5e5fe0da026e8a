"""Schedules, incoming webhooks, event rules, events, and endpoints of outgoing webhooks."""

from typing import Any, ClassVar
from uuid import UUID

from django.db.models import Model, QuerySet
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response

from agents.api.requests import body, check_query, empty_body
from agents.api.trigger_serializers import (
    EndpointSerializer,
    EventRuleSerializer,
    MessageSerializer,
    RunSerializer,
    ScheduleSerializer,
    SecretSerializer,
    TriggerEventSerializer,
    WebhookDeliverySerializer,
    WebhookSerializer,
)
from agents.api.views import View, person
from agents.errors import NotVisible
from agents.models import (
    EventRule,
    Schedule,
    TriggerEvent,
    TriggerRun,
    Webhook,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookMessage,
)
from agents.payload import parse
from agents.triggers import changes, delivery, schedules
from agents.triggers.inputs import (
    EventInput,
    EventRuleInput,
    NewWebhookInput,
    ScheduleInput,
    SecretInput,
    WebhookEndpointInput,
    WebhookInput,
)
from audit.actor import Actor
from audit.api.pagination import ByName, ByTime

READ, WRITE = "triggers:read", "triggers:write"
TAGS = ["triggers"]
_LOCATION = OpenApiParameter("Location", OpenApiTypes.URI, OpenApiParameter.HEADER, response=[201])
_ONCE = "`secret` stands in this answer only."


class TriggerView(View):
    scopes: ClassVar[dict[str, str]] = {"GET": READ, "HEAD": READ, "POST": WRITE, "PATCH": WRITE, "DELETE": WRITE}
    model: ClassVar[type[Model]]

    def one(self, request: Request, pk: UUID) -> Any:
        """The row that the path names. Raises NotVisible."""
        return changes.visible_one(self.model, person(request), pk)


class TriggerList(TriggerView):
    pagination_class = ByName

    def get(self, request: Request) -> Response:
        """Your own, by name; a superuser's answer holds everybody's."""
        check_query(request, {"cursor", "limit"})
        page = self.paginate_queryset(changes.visible(self.model, person(request)).select_related("owner"))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def post(self, request: Request) -> Response:
        """Makes one. Bad input names its fields."""
        check_query(request, ())
        payload, secret = body(request), None
        if self.model is Webhook and isinstance(payload, dict):
            given = parse(NewWebhookInput, payload)
            secret = given.secret
            payload = {name: one for name, one in payload.items() if name != "secret"}
        row, shown = changes.create(self.model, payload, user=person(request), now=timezone.now(), secret=secret)
        data = {**self.get_serializer(row).data, **({"secret": shown} if shown else {})}
        return Response(data, status=201, headers={"Location": data["url"]})


class TriggerDetail(TriggerView):
    def get(self, request: Request, pk: UUID) -> Response:
        """One."""
        check_query(request, ())
        return Response(self.get_serializer(self.one(request, pk)).data)

    def patch(self, request: Request, pk: UUID) -> Response:
        """Changes the fields that are given."""
        row = changes.change(self.one(request, pk), body(request), by=person(request), now=timezone.now())
        return Response(self.get_serializer(row).data)

    def delete(self, request: Request, pk: UUID) -> Response:
        """Removes it. Jobs that it started stay."""
        changes.remove(self.one(request, pk), by=person(request))
        return Response(status=204)


class Rows(TriggerView):
    """What came of one: newest first."""

    pagination_class = ByTime
    related: ClassVar[str]

    def get(self, request: Request, pk: UUID) -> Response:
        """Newest first."""
        check_query(request, {"cursor", "limit"})
        rows: QuerySet[Any] = getattr(self.one(request, pk), self.related).all()
        return self.get_paginated_response(self.get_serializer(self.paginate_queryset(rows), many=True).data)


class Rotate(TriggerView):
    serializer_class = SecretSerializer

    def post(self, request: Request, pk: UUID) -> Response:
        """A new secret in place of the old one, which holds no more."""
        payload = body(request)
        given = parse(SecretInput, payload if isinstance(payload, dict) else {})
        secret = changes.rotate(self.one(request, pk), by=person(request), now=timezone.now(), secret=given.secret)
        return Response({"secret": secret})


def _list(noun: str, serializer: Any, request: Any, description: str = "") -> Any:
    answer = OpenApiResponse(serializer, description=description)
    return extend_schema_view(
        get=extend_schema(operation_id=f"list_{noun}s", tags=TAGS),
        post=extend_schema(
            operation_id=f"create_{noun}", tags=TAGS, request=request, parameters=[_LOCATION], responses={201: answer}
        ),
    )


def _detail(noun: str, serializer: Any, request: Any) -> Any:
    return extend_schema_view(
        get=extend_schema(operation_id=f"get_{noun}", tags=TAGS),
        patch=extend_schema(operation_id=f"change_{noun}", tags=TAGS, request=request, responses={200: serializer}),
        delete=extend_schema(operation_id=f"remove_{noun}", tags=TAGS, request=None, responses={204: None}),
    )


@_list("schedule", ScheduleSerializer, ScheduleInput)
class ScheduleList(TriggerList):
    model, serializer_class, queryset = Schedule, ScheduleSerializer, Schedule.objects.none()


@_detail("schedule", ScheduleSerializer, ScheduleInput)
class ScheduleDetail(TriggerDetail):
    model, serializer_class = Schedule, ScheduleSerializer


@extend_schema_view(get=extend_schema(operation_id="list_schedule_runs", tags=TAGS))
class ScheduleRuns(Rows):
    model, serializer_class, related, queryset = Schedule, RunSerializer, "runs", TriggerRun.objects.none()

    @extend_schema(
        operation_id="run_schedule",
        tags=TAGS,
        request=None,
        responses={202: RunSerializer, 409: OpenApiResponse(description="It is paused.")},
    )
    def post(self, request: Request, pk: UUID) -> Response:
        """Runs it now, beside its times: the job starts within a second or so."""
        empty_body(request)
        run = schedules.run_now(self.one(request, pk), by=Actor.user(person(request).pk), now=timezone.now())
        return Response(self.get_serializer(run).data, status=202)


@_list("webhook", WebhookSerializer, NewWebhookInput, _ONCE)
class WebhookList(TriggerList):
    model, serializer_class, queryset = Webhook, WebhookSerializer, Webhook.objects.none()


@_detail("webhook", WebhookSerializer, WebhookInput)
class WebhookDetail(TriggerDetail):
    model, serializer_class = Webhook, WebhookSerializer


@extend_schema_view(get=extend_schema(operation_id="list_webhook_deliveries", tags=TAGS))
class WebhookDeliveries(Rows):
    model, serializer_class, related = Webhook, WebhookDeliverySerializer, "deliveries"
    queryset = WebhookDelivery.objects.none()


@extend_schema_view(
    post=extend_schema(operation_id="rotate_webhook_secret", tags=TAGS, request=SecretInput, responses=SecretSerializer)
)
class WebhookRotate(Rotate):
    model = Webhook


@_list("event_rule", EventRuleSerializer, EventRuleInput)
class EventRuleList(TriggerList):
    model, serializer_class, queryset = EventRule, EventRuleSerializer, EventRule.objects.none()


@_detail("event_rule", EventRuleSerializer, EventRuleInput)
class EventRuleDetail(TriggerDetail):
    model, serializer_class = EventRule, EventRuleSerializer


@extend_schema_view(get=extend_schema(operation_id="list_event_rule_runs", tags=TAGS))
class EventRuleRuns(Rows):
    model, serializer_class, related, queryset = EventRule, RunSerializer, "runs", TriggerRun.objects.none()


class TriggerEventList(TriggerView):
    model, serializer_class, queryset = TriggerEvent, TriggerEventSerializer, TriggerEvent.objects.none()
    pagination_class = ByTime
    scopes: ClassVar[dict[str, str]] = {"GET": READ, "HEAD": READ, "POST": "events:write"}

    @extend_schema(operation_id="list_trigger_events", tags=TAGS)
    def get(self, request: Request) -> Response:
        """Your events of the last 30 days, newest first."""
        check_query(request, {"cursor", "limit"})
        rows = changes.visible(TriggerEvent, person(request))
        return self.get_paginated_response(self.get_serializer(self.paginate_queryset(rows), many=True).data)

    @extend_schema(operation_id="send_event", tags=TAGS, request=EventInput, responses={202: TriggerEventSerializer})
    def post(self, request: Request) -> Response:
        """Tells of something that happened; your own rules are asked about it."""
        check_query(request, ())
        event = changes.send_event(body(request), user=person(request), now=timezone.now())
        return Response(self.get_serializer(event).data, status=202)


@_list("webhook_endpoint", EndpointSerializer, WebhookEndpointInput, _ONCE)
class EndpointList(TriggerList):
    model, serializer_class, queryset = WebhookEndpoint, EndpointSerializer, WebhookEndpoint.objects.none()


@_detail("webhook_endpoint", EndpointSerializer, WebhookEndpointInput)
class EndpointDetail(TriggerDetail):
    model, serializer_class = WebhookEndpoint, EndpointSerializer


@extend_schema_view(
    post=extend_schema(
        operation_id="rotate_webhook_endpoint_secret", tags=TAGS, request=SecretInput, responses=SecretSerializer
    )
)
class EndpointRotate(Rotate):
    model = WebhookEndpoint


@extend_schema_view(get=extend_schema(operation_id="list_webhook_messages", tags=TAGS))
class EndpointMessages(Rows):
    model, serializer_class, related = WebhookEndpoint, MessageSerializer, "messages"
    queryset = WebhookMessage.objects.none()

    @extend_schema(operation_id="test_webhook_endpoint", tags=TAGS, request=None, responses={202: MessageSerializer})
    def post(self, request: Request, pk: UUID) -> Response:
        """Sends a message `endpoint.test`."""
        empty_body(request)
        message = delivery.send_test(self.one(request, pk), now=timezone.now())
        return Response(self.get_serializer(message).data, status=202)


class MessageReplay(TriggerView):
    model, serializer_class = WebhookMessage, MessageSerializer

    @extend_schema(operation_id="replay_webhook_message", tags=TAGS, request=None, responses={202: MessageSerializer})
    def post(self, request: Request, pk: UUID) -> Response:
        """Sends a message again, with the same id."""
        empty_body(request)
        endpoints = changes.visible(WebhookEndpoint, person(request))
        message = WebhookMessage.objects.filter(pk=pk, endpoint__in=endpoints).first()
        if message is None:
            raise NotVisible("There is no such message.")
        delivery.replay(message, by=Actor.user(person(request).pk), now=timezone.now())
        return Response(self.get_serializer(message).data, status=202)
