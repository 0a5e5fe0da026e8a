"""Workflows: who may change one is said here; versions are looked at."""

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from guardian.admin import GuardedModelAdminMixin
from unfold.admin import ModelAdmin

from agents.admin.base import ReadOnly, SharedByObject
from agents.models import Workflow, WorkflowVersion


@admin.register(Workflow)
class WorkflowAdmin(SharedByObject, GuardedModelAdminMixin, ModelAdmin):
    """A workflow is made by saving a draft. Who may change it is said under "Object permissions": `change_workflow`."""

    fields = ["name", "owner", "created_at"]
    readonly_fields = ["name", "created_at"]
    list_display = ["name", "owner", "created_at"]
    search_fields = ["name"]
    autocomplete_fields = ["owner"]
    list_select_related = ["owner"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(WorkflowVersion)
class WorkflowVersionAdmin(ReadOnly):
    list_display = ["__str__", "status", "note", "created_by", "created_at", "published_by", "published_at"]
    list_filter = ["status", "workflow"]
    search_fields = ["workflow__name", "note"]
    list_select_related = ["workflow", "created_by", "published_by"]
