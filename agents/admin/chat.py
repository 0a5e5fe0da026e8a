"""Conversations, to look at; who owns one changes it on its page."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from agents.admin.base import ReadOnly
from agents.models import Conversation, ConversationLink


@admin.register(Conversation)
class ConversationAdmin(ReadOnly):
    list_display = ["title", "owner", "agent", "repository", "said_at", "archived_at"]
    list_filter = ["agent", "repository"]
    search_fields = ["id", "title", "owner__username"]
    list_select_related = ["owner", "agent", "repository"]
    date_hierarchy = "said_at"
    exclude = ["deleted_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        """Deleted ones say nothing, and nobody owns what they leave."""
        return super().get_queryset(request).filter(deleted_at=None)


@admin.register(ConversationLink)
class ConversationLinkAdmin(ReadOnly):
    list_display = ["conversation", "created_by", "created_at", "expires_at", "revoked_at", "opened", "opened_at"]
    list_select_related = ["conversation", "created_by"]
    search_fields = ["conversation__title", "created_by__username"]
    exclude = ["sha256"]
