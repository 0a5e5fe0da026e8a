"""Handles of secrets. A value is never shown here, nor asked for: it lies where the workers are."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextInputWidget

from tools.models import SecretHandle

LISTS = ("tools", "agents", "groups", "hosts", "env_names")


class SecretHandleForm(forms.ModelForm):
    class Meta:
        model = SecretHandle
        fields = [
            *("name", "description", "source", "place", "enabled"),
            *LISTS,
        ]
        labels: ClassVar[dict[str, str]] = {"env_names": "Variables"}
        widgets: ClassVar[dict[str, forms.Widget]] = {name: UnfoldAdminTextInputWidget() for name in LISTS}


@admin.register(SecretHandle)
class SecretHandleAdmin(ModelAdmin):
    """Who may use which secret for what. Each change is recorded (see `audit.signals`)."""

    form = SecretHandleForm
    list_display = ["name", "shown_place", "shown_tools", "shown_to", "last_used_at", "enabled"]
    list_filter = ["enabled", "source"]
    search_fields = ["name", "description", "place"]
    readonly_fields = ["created_at", "rotated_at", "last_used_at"]
    fieldsets = [
        (None, {"fields": ["name", "description", ("source", "place"), "enabled"]}),
        (
            "Who may use it",
            {
                "fields": ["tools", "agents", "groups"],
                "description": "A comma between names. All three must fit; * is every one.",
            },
        ),
        (
            "Where it may go",
            {
                "fields": ["hosts", "env_names"],
                "description": "To a host, or to a command in a variable. A command that has a network as well reaches "
                "these hosts alone.",
            },
        ),
        ("What became of it", {"fields": [("created_at", "rotated_at", "last_used_at")]}),
    ]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        """A handle keeps its name: calls and the log speak of it."""
        return [*self.readonly_fields, *(["name"] if obj is not None else [])]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"agents": "*", "groups": "*", **super().get_changeform_initial_data(request)}

    @display(description="Place", ordering="place")
    def shown_place(self, handle: SecretHandle) -> str:
        return f"{handle.source} {handle.place}"

    @display(description="Tools")
    def shown_tools(self, handle: SecretHandle) -> str:
        return ", ".join(handle.tools)

    @display(description="Goes to")
    def shown_to(self, handle: SecretHandle) -> str:
        return ", ".join([*handle.hosts, *handle.env_names])
