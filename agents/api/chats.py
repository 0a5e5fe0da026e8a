"""Conversations by API: begin, go on, read, search, share; and a job's feed as a stream of events."""

from typing import Any, ClassVar
from uuid import UUID

from django.db import connections
from django.http import StreamingHttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response

from agents.api.chat_serializers import (
    ConversationSerializer,
    LinkSerializer,
    NewLinkSerializer,
    TurnSerializer,
)
from agents.api.requests import body, check_query, whole_number
from agents.api.serializers import JobDetailSerializer
from agents.api.submitting import key_of, makers, submits, submitted
from agents.api.views import READ, WRITE, View, person
from agents.chat import links, selectors, turns
from agents.chat.payload import ChatChange, ChatInput, LinkInput, MessageInput
from agents.models import Conversation, ConversationLink, Job
from agents.payload import JobInput
from agents.selectors import visible_job
from agents.web.stream import events
from audit.api.pagination import ByTime

_RUNNING = "The agent has not answered the last message yet (`turn_running`)."
_MAX_SEQ = 999_999_999


class _InOrder(ByTime):
    """As it was said."""

    ordering = "id"


class ChatList(View):
    serializer_class = ConversationSerializer
    pagination_class = ByTime
    queryset = Conversation.objects.none()

    @extend_schema(
        operation_id="list_chats",
        tags=["chats"],
        parameters=[
            OpenApiParameter("q", str, description="Words that were said, or beginnings of them; all must be found."),
            OpenApiParameter("archived", bool, description="`true`: only those that are out of the list."),
        ],
    )
    def get(self, request: Request) -> Response:
        """Your conversations, the newest first."""
        check_query(request, {"q", "archived", "cursor", "limit"})
        archived = request.query_params.get("archived", "false")
        if archived not in {"true", "false"}:
            raise ValidationError({"archived": ["Must be true or false."]})
        if "\x00" in (text := request.query_params.get("q", "")):
            raise ValidationError({"q": ["Must not hold a NUL character."]})
        talks = selectors.visible_conversations(request.user).filter(archived_at__isnull=archived == "false")
        page = self.paginate_queryset(selectors.search(talks, text))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @submits("begin_chat", tag="chats", request=ChatInput, answer=TurnSerializer)
    def post(self, request: Request) -> Response:
        """Begins a conversation with an agent. Its first turn is on its way: follow `stream`, or read it again."""
        job, new = turns.begin(body(request), **_said(request))
        return submitted(self, TurnSerializer, job, new)


class ChatDetail(View):
    serializer_class = ConversationSerializer
    scopes: ClassVar[dict[str, str]] = {"PATCH": WRITE, "DELETE": WRITE}

    @extend_schema(operation_id="get_chat", tags=["chats"])
    def get(self, request: Request, talk_id: UUID) -> Response:
        """One conversation."""
        check_query(request, ())
        return Response(self.get_serializer(selectors.visible_conversation(request.user, talk_id)).data)

    @extend_schema(operation_id="change_chat", tags=["chats"], request=ChatChange, responses=ConversationSerializer)
    def patch(self, request: Request, talk_id: UUID) -> Response:
        """Names it, puts it out of the list, or back."""
        turns.change(talk_id, body(request), user=person(request), now=timezone.now())
        return Response(self.get_serializer(selectors.own_conversation(request.user, talk_id)).data)

    @extend_schema(operation_id="delete_chat", tags=["chats"], responses={204: None})
    def delete(self, request: Request, talk_id: UUID) -> Response:
        """Deletes it: nobody finds it any more, its links end, and the turn that runs is cancelled. Its turns and the jobs
        that were started from it stay as jobs."""
        check_query(request, ())
        turns.delete(talk_id, user=person(request), now=timezone.now())
        return Response(status=204)


class TurnList(View):
    serializer_class = TurnSerializer
    pagination_class = _InOrder
    queryset = Job.objects.none()

    @extend_schema(operation_id="list_turns", tags=["chats"])
    def get(self, request: Request, talk_id: UUID) -> Response:
        """What was said, in order, with the jobs that were started from it."""
        check_query(request, {"cursor", "limit"})
        talk = selectors.visible_conversation(request.user, talk_id)
        page = self.paginate_queryset(selectors.turns(talk))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @submits("say", tag="chats", request=MessageInput, answer=TurnSerializer, conflict=_RUNNING)
    def post(self, request: Request, talk_id: UUID) -> Response:
        """Says something: the next turn."""
        job, new = turns.say(talk_id, body(request), **_said(request))
        return submitted(self, TurnSerializer, job, new)


class ChatJobs(View):
    serializer_class = JobDetailSerializer

    @submits("start_job_from_chat", tag="chats", request=JobInput, answer=JobDetailSerializer)
    def post(self, request: Request, talk_id: UUID) -> Response:
        """Submits a job that stands in the conversation and asks its questions there. A goal's agent and the repository
        are the conversation's where none is named."""
        job, new = turns.start_job(talk_id, body(request), **_said(request))
        return submitted(self, JobDetailSerializer, job, new)


class ChatLinks(View):
    serializer_class = LinkSerializer
    pagination_class = ByTime
    queryset = ConversationLink.objects.none()

    @extend_schema(operation_id="list_chat_links", tags=["chats"])
    def get(self, request: Request, talk_id: UUID) -> Response:
        """The links by which others read it, ended ones too."""
        check_query(request, {"cursor", "limit"})
        talk = selectors.own_conversation(request.user, talk_id)
        page = self.paginate_queryset(talk.links.select_related("created_by"))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(operation_id="share_chat", tags=["chats"], request=LinkInput, responses={201: NewLinkSerializer})
    def post(self, request: Request, talk_id: UUID) -> Response:
        """Makes a link by which whoever is signed in reads the conversation. Its address is told this once."""
        talk = selectors.own_conversation(request.user, talk_id)
        link, address = links.make(talk, body(request), by=person(request), now=timezone.now())
        context = {**self.get_serializer_context(), "address": address}
        return Response(NewLinkSerializer(link, context=context).data, status=201)


class ChatLinkDetail(View):
    serializer_class = LinkSerializer
    scopes: ClassVar[dict[str, str]] = {"DELETE": WRITE}

    @extend_schema(operation_id="revoke_chat_link", tags=["chats"], responses={204: None})
    def delete(self, request: Request, talk_id: UUID, link_id: UUID) -> Response:
        """Revokes a link: it finds nothing any more."""
        talk = selectors.own_conversation(request.user, talk_id)
        links.revoke(talk, link_id, by=person(request), now=timezone.now())
        return Response(status=204)


class _Any(BaseContentNegotiation):
    """Clients of event streams ask for that type alone; errors are problems in JSON all the same."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class JobStream(View):
    scopes: ClassVar[dict[str, str]] = {"GET": READ}
    content_negotiation_class = _Any

    @extend_schema(
        operation_id="stream_job",
        tags=["events"],
        parameters=[OpenApiParameter("after", int, description="The last `seq` that you have; 0 from the beginning.")],
        responses={(200, "text/event-stream"): OpenApiTypes.STR},
    )
    def get(self, request: Request, job_id: UUID) -> StreamingHttpResponse:
        """The job's feed as server-sent events: `line` for each entry (JSON, its id the `seq`; of a model's words the kind
        is `token`), then `end`. At `again` and `busy`, and where it breaks off, connect again with the last `seq`."""
        check_query(request, {"after"})
        after = whole_number(request, "after", default=0, low=0, high=_MAX_SEQ)
        job = visible_job(request.user, job_id)
        user = person(request).pk
        connections.close_all()  # what this request opened would stay open as long as the stream
        response = StreamingHttpResponse(events(job.pk, user, after), content_type="text/event-stream")
        response["Cache-Control"] = "no-store, no-transform"
        response["X-Accel-Buffering"] = "no"
        return response


def _said(request: Request) -> dict[str, Any]:
    """What a message and a job have in common: who says it, when, and with whose help."""
    check_query(request, ())
    return {"user": person(request), "now": timezone.now(), "key": key_of(request), "took_part": makers(request)}
