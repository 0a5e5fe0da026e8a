"""MCP servers: how each is started or reached, and a look at what it has. Its tools are accepted on their own pages."""

from pathlib import PurePath
from typing import Any, ClassVar
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget

from audit.actor import Actor
from tools import admission, mcp
from tools.errors import ToolError
from tools.mcp import changing
from tools.mcp.models import McpServer
from tools.mcp.naming import origin_of
from tools.models import ToolDefinition

LISTS = ("args", "paths", "network")
STATES = {"fine": "success", "off": "info", "not looked at": "info", "cannot be asked": "danger"}


class LinesField(forms.Field):
    """A list of texts, one a line: an argument may hold commas and blanks."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}), required=False, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list | tuple) else value

    def to_python(self, value: Any) -> list[str]:
        return [line.strip() for line in str(value or "").splitlines() if line.strip()]


class McpServerForm(forms.ModelForm):
    args = LinesField(help_text="One a line. {tree}, {repo} and {scratch} stand for the job's folders.")
    paths = LinesField(
        help_text="One a line: folders beyond the system's that it may read, such as where it is installed."
    )
    network = LinesField(help_text="One a line: hosts that it may reach, such as api.example.org. Empty: none.")

    class Meta:
        model = McpServer
        fields = [
            *("name", "description", "transport", "protocol", "enabled", "command", "args", "paths", "env", "secrets"),
            *("network", "profile", "url", "auth", "secret", "client_id", "issuer", "scopes", "timeout_s", "idle_s"),
        ]
        labels: ClassVar[dict[str, str]] = {"url": "URL", "env": "Variables", "client_id": "Client id"}
        widgets: ClassVar[dict[str, forms.Widget]] = {
            name: UnfoldAdminTextareaWidget(attrs={"rows": 2}) for name in ("env", "secrets")
        }


@admin.register(McpServer)
class McpServerAdmin(ModelAdmin):
    """Saving goes through `tools.mcp.changing`: it is on record, and takes tools out of use that were accepted otherwise."""

    form = McpServerForm
    list_display = ["name", "shown_state", "transport", "shown_place", "shown_tools", "found_at"]
    list_filter = ["transport", "enabled"]
    search_fields = ["name", "description", "command", "url"]
    readonly_fields = ["found_at", "shown_found", "problem"]
    change_form_outer_before_template = "admin/tools/mcpserver/overview.html"
    fieldsets = [
        (None, {"fields": ["name", "description", ("transport", "protocol"), "enabled"]}),
        (
            "A command in the sandbox",
            {
                "fields": ["command", "args", "paths", "env", "secrets", "network", "profile"],
                "description": "For stdio. It runs as the job's own user, with no network but what is named here.",
            },
        ),
        (
            "Streamable HTTP",
            {
                "fields": ["url", "auth", "secret", ("client_id", "scopes"), "issuer"],
                "description": "Secrets are named by their handle; a token goes to this address over https and nowhere else.",
            },
        ),
        ("Time", {"fields": [("timeout_s", "idle_s")]}),
        ("What became of it", {"fields": ["found_at", "shown_found", "problem"]}),
    ]

    class Media:
        css = {"all": ["countersign/policy.css"]}

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        """A server keeps its name: calls, policies and the log speak of it."""
        return [*self.readonly_fields, *(["name"] if obj is not None else [])]

    def get_urls(self) -> list[Any]:
        look = path("<uuid:pk>/look/", self.admin_site.admin_view(self.look), name="tools_mcpserver_look")
        return [look, *super().get_urls()]

    @display(description="state", label=STATES)
    def shown_state(self, row: McpServer) -> str:
        if not row.enabled:
            return "off"
        if row.problem:
            return "cannot be asked"
        return "fine" if row.found_at else "not looked at"

    @display(description="Started or reached")
    def shown_place(self, row: McpServer) -> str:
        return row.url or " ".join(PurePath(word).name for word in (row.command, *row.args))[:60]

    @display(description="Tools in use")
    def shown_tools(self, row: McpServer) -> str:
        rows = ToolDefinition.objects.filter(origin=origin_of(row.name))
        return f"{rows.filter(enabled=True).count()} of {rows.count()}"

    @display(description="What it said of itself")
    def shown_found(self, row: McpServer) -> str:
        return ", ".join(f"{name} {value}" for name, value in row.found.items() if name != "instructions" and value)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        more = overview(row, may=self.has_change_permission(request)) if isinstance(row, McpServer) else {}
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **more})

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        assert isinstance(obj, McpServer)
        changed = changing.save(obj, now=timezone.now(), actor=Actor.user(request.user.pk))
        out = ", ".join(row.name for row in changed)
        if out:
            messages.warning(request, f"Started or reached in another way, and so to be accepted again: {out}.")

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        assert isinstance(obj, McpServer)
        changing.remove(obj, now=timezone.now(), actor=Actor.user(request.user.pk))

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for row in queryset:
            self.delete_model(request, row)

    def look(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """POST: what does the server have now?"""
        if not self.has_change_permission(request):
            raise PermissionDenied
        row = McpServer.objects.filter(pk=pk).first()
        if row is None or request.method != "POST":
            raise Http404
        try:
            looked = mcp.look(row, now=timezone.now(), actor=Actor.user(request.user.pk))
        except ToolError as error:
            messages.error(request, error.message)
        else:
            names = ", ".join(one.name for one in looked.changed)
            messages.success(
                request, f"{looked.tools} tools. " + (f"New or changed: {names}." if names else "As before.")
            )
        return HttpResponseRedirect(reverse("admin:tools_mcpserver_change", args=[pk]))


def overview(row: McpServer, *, may: bool) -> dict[str, Any]:
    """What the page of a server shows above its fields."""
    tools = ToolDefinition.objects.filter(origin=origin_of(row.name))
    return {
        "mcp_server": row,
        "mcp_tools": [
            {
                "name": one.name,
                "state": admission.state_of(one),
                "summary": (one.problem or str(one.definition.get("summary", "")))[:160],
                "href": reverse("admin:tools_tooldefinition_change", args=[one.pk]),
            }
            for one in tools
        ],
        "mcp_look_href": reverse("admin:tools_mcpserver_look", args=[row.pk]) if may else "",
    }
