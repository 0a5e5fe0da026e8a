"""Freeze windows. Each change counts from its commit on, also for what is queued already."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from approvals.admin.base import OneByOne, acting
from approvals.models import FreezeWindow
from approvals.policy import freezes


class FreezeForm(forms.ModelForm):
    class Meta:
        model = FreezeWindow
        fields = (
            *("name", "reason", "starts_at", "ends_at", "environments", "repositories", "tools", "effects"),
            *("effect", "approvers", "quorum", "enabled"),
        )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for field, message in freezes.problems(FreezeWindow(**_known(cleaned))):
            self.add_error(field, message)
        return cleaned


def _known(cleaned: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in cleaned.items() if value is not None}


@admin.register(FreezeWindow)
class FreezeWindowAdmin(OneByOne):
    """While one holds, what it fits is denied, or people are asked. It never allows anything."""

    form = FreezeForm
    list_display = ["name", "starts_at", "ends_at", "effect", "environments", "repositories", "tools", "enabled"]
    list_filter = ["enabled", "effect"]
    search_fields = ["name", "reason"]
    date_hierarchy = "starts_at"

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        assert isinstance(obj, FreezeWindow)
        freezes.save(obj, by=acting(request))

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        assert isinstance(obj, FreezeWindow)
        freezes.delete(obj, by=acting(request))
