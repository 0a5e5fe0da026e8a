"""Tenants and rate limits."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from agents.models import RateLimit, Tenant
from agents.models.tenant import DEFAULT
from approvals.policy.match import valid


@admin.register(Tenant)
class TenantAdmin(ModelAdmin):
    """Whose share of the workers a job uses. Users belong to a tenant by their groups."""

    list_display = ["name", "weight", "max_running", "jobs_queued_max"]
    search_fields = ["name"]
    filter_horizontal = ["groups"]

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return super().has_delete_permission(request, obj) and getattr(obj, "name", "") != DEFAULT


class RateLimitForm(forms.ModelForm):
    class Meta:
        model = RateLimit
        fields = ["name", "kind", "pattern", "per_tenant", "calls", "tokens", "window_s", "max_running", "enabled"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        given = dict(cleaned)  # an error takes its field away
        tool = given["kind"] == RateLimit.Kind.TOOL
        if tool and not valid(given["pattern"]):
            self.add_error("pattern", "Is not a tool's name or pattern, such as git.push or git.*.")
        if tool and given["tokens"] is not None:
            self.add_error("tokens", "Only an endpoint's calls use tokens.")
        for name in ("calls", "tokens", "max_running"):
            if given[name] == 0:
                self.add_error(name, "Must be at least 1, or empty.")
        if all(given[name] is None for name in ("calls", "tokens", "max_running")):
            self.add_error("calls", "Give at least one of calls, tokens and max running.")
        return cleaned


@admin.register(RateLimit)
class RateLimitAdmin(ModelAdmin):
    form = RateLimitForm
    list_display = ["name", "kind", "pattern", "per_tenant", "calls", "tokens", "window_s", "max_running", "enabled"]
    list_filter = ["kind", "enabled"]
    search_fields = ["name", "pattern"]
