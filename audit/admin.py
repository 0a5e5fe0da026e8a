"""The log in the admin: to read, by people with the permission to view records. Nothing here writes."""

import base64
import json
from typing import Any

from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from audit.kinds import Event
from audit.models import Checkpoint, Record
from audit.status import status

# Deleting many rows at once writes its log entries past Django's signals, so past this log: one by one leaves records.
admin.site.disable_action("delete_selected")


class ReadOnly(ModelAdmin):
    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class EventFilter(admin.SimpleListFilter):
    """From the vocabulary: distinct values of a long log are slow to gather."""

    title = "event"
    parameter_name = "event"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(event.value, event.value) for event in sorted(Event)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Record]) -> QuerySet[Record]:
        return queryset.filter(event=self.value()) if self.value() else queryset


@admin.register(Record)
class RecordAdmin(ReadOnly):
    list_display = ["created_at", "event", "outcome", "who", "what", "place"]
    list_filter = [EventFilter]
    search_fields = ["=id", "=target_id", "=actor_id"]
    search_help_text = "The exact id of a record, of what it is about, or of who did it"
    fields = ["created_at", "event", "outcome", "who", "what", "place", "facts", "values", "signed", "body"]
    readonly_fields = fields
    list_before_template = "audit/admin_status.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Record]:
        return super().get_queryset(request).annotate(index=F("leaf__index"))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {**(extra_context or {}), "log_status": status()})

    @admin.display(description="who", ordering="actor_id")
    def who(self, record: Record) -> str:
        whom = f" for user {record.actor_for}" if record.actor_for else ""
        return f"{record.actor_type} {record.actor_id}{whom}"

    @admin.display(description="about", ordering="target_id")
    def what(self, record: Record) -> str:
        return f"{record.target_type} {record.target_id}"

    @admin.display(description="place in the log")
    def place(self, record: Record) -> str:
        index = getattr(record, "index", None)
        return "waiting" if index is None else str(index)

    @admin.display(description="facts")
    def facts(self, record: Record) -> SafeString:
        return _table(json.loads(record.body).get("context") or {})

    @admin.display(description="values (can be erased)")
    def values(self, record: Record) -> SafeString:
        parts = {part.slot: part.value for part in record.payloads.all()}
        return _table({slot: "erased" if text is None else json.loads(text) for slot, text in parts.items()})

    @admin.display(description="signature")
    def signed(self, record: Record) -> str:
        return f"{base64.b64encode(bytes(record.signature)).decode()} by the key {record.kid}"


@admin.register(Checkpoint)
class CheckpointAdmin(ReadOnly):
    list_display = ["created_at", "size", "root_text"]
    fields = ["created_at", "size", "root_text", "note_text"]
    readonly_fields = fields
    list_before_template = "audit/admin_status.html"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {**(extra_context or {}), "log_status": status()})

    @admin.display(description="root")
    def root_text(self, checkpoint: Checkpoint) -> str:
        return base64.b64encode(bytes(checkpoint.root)).decode()

    @admin.display(description="signed note")
    def note_text(self, checkpoint: Checkpoint) -> SafeString:
        return format_html("<pre>{}</pre>", checkpoint.note)


def _table(values: dict[str, Any]) -> SafeString:
    """Names and values, one a row; what is not plain is shown as indented JSON. Everything is escaped."""
    if not values:
        return format_html("{}", "none")
    rows = (
        (name, value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False))
        for name, value in values.items()
    )
    body = format_html_join(
        "",
        '<tr><th scope="row" style="text-align:left;padding-right:1rem;vertical-align:top">{}</th>'
        '<td><pre style="white-space:pre-wrap;overflow-wrap:anywhere">{}</pre></td></tr>',
        rows,
    )
    return format_html("<table>{}</table>", body)
