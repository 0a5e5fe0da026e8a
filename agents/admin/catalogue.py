"""Agents and repositories."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.options import InlineModelAdmin
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils import timezone
from guardian.admin import GuardedModelAdminMixin
from unfold.admin import ModelAdmin, TabularInline

from agents import profiles
from agents.admin.base import SharedByObject
from agents.errors import InvalidInput
from agents.models import Agent, Repository, RepositoryLogin, Team, TeamMember
from agents.repositories import check_address


@admin.register(Agent)
class AgentAdmin(ModelAdmin):
    """What is saved here is a version of the profile; jobs that run stay with the one they began with."""

    list_display = ["name", "role", "model", "planning", "max_steps", "max_tokens", "enabled"]
    list_filter = ["enabled", "planning"]
    search_fields = ["name", "description", "role"]

    def save_model(self, request: HttpRequest, obj: Agent, form: forms.ModelForm, change: bool) -> None:
        super().save_model(request, obj, form, change)
        assert isinstance(request.user, User)
        profiles.version_of(obj, now=timezone.now(), by=request.user)


class TeamMemberInline(TabularInline):
    model = TeamMember
    extra = 1
    autocomplete_fields = ["agent"]


@admin.register(Team)
class TeamAdmin(ModelAdmin):
    list_display = ["name", "lead", "enabled"]
    search_fields = ["name", "description"]
    autocomplete_fields = ["lead"]
    inlines = [TeamMemberInline]


class RepositoryForm(forms.ModelForm):
    class Meta:
        model = Repository
        fields = ["name", "url", "default_branch", "environment", "hosting", "credential", "owner"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if "url" in cleaned and "default_branch" in cleaned:
            try:
                check_address(cleaned["url"], cleaned["default_branch"])
            except InvalidInput as error:
                self.add_error(error.field, error.message)
        return cleaned


class RepositoryLoginInline(TabularInline):
    """Users whose jobs go to the repository with a handle of their own."""

    model = RepositoryLogin
    extra = 0
    autocomplete_fields = ["user"]
    verbose_name_plural = "logins of users"


@admin.register(Repository)
class RepositoryAdmin(SharedByObject, GuardedModelAdminMixin, ModelAdmin):
    """Who may use one is said on its page, under "Object permissions": `view_repository`."""

    form = RepositoryForm
    list_display = ["name", "url", "default_branch", "environment", "owner", "created_at"]
    list_filter = ["environment"]
    search_fields = ["name", "url"]
    autocomplete_fields = ["owner"]
    list_select_related = ["owner"]

    def get_inlines(self, request: HttpRequest, obj: Repository | None) -> list[type[InlineModelAdmin]]:
        return [RepositoryLoginInline] if obj is not None else []

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"owner": request.user.pk, **super().get_changeform_initial_data(request)}
