"""Tools by others: what was found, what changed since it was accepted, and who lets it be used."""

import json
from typing import Any, cast
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from audit.actor import Actor
from tools import admission
from tools.errors import ToolError
from tools.models import ToolDefinition
from tools.plugins import inspecting
from tools.spec import Effect

STATES = {"enabled": "success", "changed": "warning", "broken": "danger", "disabled": "info"}


class EnableForm(forms.Form):
    """sha256: of the definition that the page shows, so that nothing else is accepted by it."""

    sha256 = forms.CharField(max_length=64, widget=forms.HiddenInput())
    effect = forms.ChoiceField(
        choices=[(str(one), str(one)) for one in Effect],
        widget=UnfoldAdminSelectWidget(),
        help_text="What a lost attempt means: read changed nothing, repeatable may run again, once may have happened.",
    )
    queue = forms.ChoiceField(widget=UnfoldAdminSelectWidget(), help_text="Whose workers run it.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cast(forms.ChoiceField, self.fields["queue"]).choices = [(queue, queue) for queue in settings.QUEUES]


class DisableForm(forms.Form):
    reason = forms.CharField(
        max_length=500, required=False, label="Why", widget=UnfoldAdminTextInputWidget(), help_text="For the audit log."
    )


@admin.register(ToolDefinition)
class ToolDefinitionAdmin(ModelAdmin):
    """Rows are written by `tools.admission` alone; enabling and disabling need the permission to change them."""

    list_display = ["name", "shown_state", "origin", "effect", "queue", "version", "enabled_by", "enabled_at"]
    list_filter = ["enabled"]
    search_fields = ["name", "origin"]
    list_select_related = ["enabled_by"]
    fields = ["name", "origin", "found_at", "found", "accepted", "version", ("enabled_by", "enabled_at")]
    readonly_fields = ["name", "origin", "found_at", "found", "accepted", "version", "enabled_by", "enabled_at"]
    list_before_template = "admin/tools/tooldefinition/look.html"
    change_form_outer_before_template = "admin/tools/tooldefinition/overview.html"

    class Media:
        css = {"all": ["countersign/policy.css"]}

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False  # of its fields; what is done with it has views of its own

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_urls(self) -> list[Any]:
        own = [
            path("look/", self.admin_site.admin_view(self.look), name="tools_tooldefinition_look"),
            path("<uuid:pk>/enable/", self.admin_site.admin_view(self.enable), name="tools_tooldefinition_enable"),
            path("<uuid:pk>/disable/", self.admin_site.admin_view(self.disable), name="tools_tooldefinition_disable"),
        ]
        return [*own, *super().get_urls()]

    @display(description="state", label=STATES)
    def shown_state(self, row: ToolDefinition) -> str:
        return admission.state_of(row)

    @display(description="found (SHA-256)")
    def found(self, row: ToolDefinition) -> str:
        return _grouped(row.found_sha256)

    @display(description="accepted (SHA-256)")
    def accepted(self, row: ToolDefinition) -> str:
        return _grouped(row.pinned_sha256) or "nothing yet"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        more = {"may_look": _may(request), "look_href": reverse("admin:tools_tooldefinition_look")}
        return super().changelist_view(request, {**(extra_context or {}), **more})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        more = overview(row, may=_may(request)) if isinstance(row, ToolDefinition) else {}
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **more})

    def look(self, request: HttpRequest) -> HttpResponse:
        """POST: what do the installed plugins bring now?"""
        _only_post_by_who_may(request)
        try:
            changed, problems = inspecting.sync(now=timezone.now(), actor=Actor.user(request.user.pk))
        except ToolError as error:
            messages.error(request, error.message)
        else:
            for problem in problems:
                messages.error(request, problem)
            names = ", ".join(row.name for row in changed)
            messages.success(request, f"New or changed: {names}." if names else "Nothing has changed.")
        return HttpResponseRedirect(reverse("admin:tools_tooldefinition_changelist"))

    def enable(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        row = _row(request, pk)
        form = EnableForm(request.POST)
        if not form.is_valid():
            messages.error(request, "; ".join(f"{name}: {errors[0]}" for name, errors in form.errors.items()))
            return _to(row)
        try:
            row = admission.enable(
                row.name,
                by=cast(User, request.user),
                now=timezone.now(),
                actor=Actor.user(request.user.pk),
                **form.cleaned_data,
            )
        except ToolError as error:
            messages.error(request, error.message)
        else:
            messages.success(request, f"{row.name} may be used now. What no policy's rule names is denied.")
        return _to(row)

    def disable(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        row = _row(request, pk)
        form = DisableForm(request.POST)
        reason = form.cleaned_data["reason"] if form.is_valid() else ""
        admission.disable(row.name, actor=Actor.user(request.user.pk), reason=reason)
        messages.success(request, f"{row.name} is disabled: steps that ask for it are refused.")
        return _to(row)


def overview(row: ToolDefinition, *, may: bool) -> dict[str, Any]:
    """What the page of a tool shows above its fields."""
    definition = row.definition
    state = admission.state_of(row)
    initial = {
        "sha256": row.found_sha256,
        "effect": row.effect or definition.get("effect"),
        "queue": row.queue or definition.get("queue"),
    }
    lines = admission.difference(row).splitlines() if state == "changed" else []
    return {
        "tool": row,
        "state": state,
        "package": definition.get("package") or {},
        "mcp": definition.get("mcp") or {},
        "mcp_reached": _plain((definition.get("mcp") or {}).get("reached")),
        "mcp_hints": _plain((definition.get("mcp") or {}).get("hints")),
        "facts": [(name, definition.get(name)) for name in ("effect", "queue", "needs_profile", "undone_by")],
        "limits": sorted((definition.get("limits") or {}).items()),
        "lines": [(_kind(line), line) for line in lines],
        "schema": json.dumps(definition.get("schema", {}), indent=2, ensure_ascii=False),
        "examples": [json.dumps(one, ensure_ascii=False) for one in definition.get("examples", [])],
        "may_change": may,
        "enable_form": EnableForm(initial=initial) if may and not row.problem else None,
        "disable_form": DisableForm() if may and row.enabled else None,
        "enable_href": reverse("admin:tools_tooldefinition_enable", args=[row.pk]),
        "disable_href": reverse("admin:tools_tooldefinition_disable", args=[row.pk]),
    }


def _plain(facts: Any) -> list[tuple[str, str]]:
    """(name, value as text) of what is set."""
    if not isinstance(facts, dict):
        return []
    return [
        (str(name).replace("_", " "), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in facts.items()
        if value not in ("", [], {}, None)
    ]


def _grouped(digest: str) -> str:
    """With spaces, so that a narrow screen breaks it."""
    return " ".join(digest[place : place + 16] for place in range(0, len(digest), 16))


def _kind(line: str) -> str:
    if line.startswith(("+++", "---", "@@")):
        return "head"
    return {"+": "added", "-": "removed"}.get(line[:1], "same")


def _may(request: HttpRequest) -> bool:
    return request.user.has_perm("tools.change_tooldefinition")


def _only_post_by_who_may(request: HttpRequest) -> None:
    if not _may(request):
        raise PermissionDenied
    if request.method != "POST":
        raise Http404


def _row(request: HttpRequest, pk: UUID) -> ToolDefinition:
    _only_post_by_who_may(request)
    row = ToolDefinition.objects.filter(pk=pk).first()
    if row is None:
        raise Http404
    return row


def _to(row: ToolDefinition) -> HttpResponse:
    return HttpResponseRedirect(reverse("admin:tools_tooldefinition_change", args=[row.pk]))
