"""Policies: their versions and rules. Drafts are edited; publishing and retiring call `approvals.policy.versions`."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Model
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import StackedInline
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm

from approvals.admin.base import OneByOne, ReadOnlyInline, acting, done, named
from approvals.errors import InvalidCondition, InvalidPolicy, NotADraft
from approvals.models import Policy, PolicyRule, PolicyVersion
from approvals.policy import conditions, versions
from approvals.policy.match import valid

DRAFT, PUBLISHED = PolicyVersion.Status.DRAFT, PolicyVersion.Status.PUBLISHED


class VersionInline(ReadOnlyInline):
    model = PolicyVersion
    fields = ["version", "status", "notes", "created_by", "published_by", "published_at"]
    readonly_fields = ["version"]
    ordering = ["-number"]

    @admin.display(description="version")
    def version(self, version: PolicyVersion) -> SafeString:
        return format_html('<a href="{}">{}</a>', _page(version), str(version))


@admin.register(Policy)
class PolicyAdmin(OneByOne):
    """A policy has no say until a version of it is published."""

    list_display = ["name", "description", "in_force", "created_at"]
    search_fields = ["name", "description"]
    fields = ["name", "description"]
    inlines = [VersionInline]
    actions_detail = ["new_draft"]

    def get_inlines(self, request: HttpRequest, obj: Model | None) -> Any:
        return self.inlines if obj is not None else []

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        """Decisions name their policy, so its name stays once a version was published."""
        used = isinstance(obj, Policy) and obj.versions.exclude(status=DRAFT).exists()
        return ["name"] if used else []

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        used = isinstance(obj, Policy) and obj.versions.exists()
        return not used and super().has_delete_permission(request, obj)

    def has_draft_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        known = named(Policy.objects.all(), object_id) is not None
        return known and request.user.has_perm("approvals.add_policyversion")

    @admin.display(description="in force")
    def in_force(self, policy: Policy) -> str:
        return str(policy.versions.filter(status=PUBLISHED).first() or "nothing")

    @action(
        description="New draft",
        permissions=["draft"],
        dialog={
            "title": "New draft",
            "description": "A copy of the version in force, or an empty one where there is none. A draft changes nothing.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Make the draft",
        },
    )
    def new_draft(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        policy = Policy.objects.get(pk=object_id)
        source = policy.versions.filter(status=PUBLISHED).first()
        return done(request, _page(versions.new_draft(policy, source=source, by=acting(request))))


class RuleForm(forms.ModelForm):
    class Meta:
        model = PolicyRule
        fields = ["order", "name", "tools", "condition", "effect", "reason", "approvers", "quorum", "expires_s"]

    def clean_condition(self) -> str:
        source = str(self.cleaned_data["condition"])
        try:
            conditions.check(source)
        except InvalidCondition as error:
            raise forms.ValidationError(error.message) from None
        return source

    def clean_tools(self) -> list[str]:
        patterns = [pattern.strip() for pattern in self.cleaned_data["tools"]]
        wrong = [pattern for pattern in patterns if not valid(pattern)]
        if wrong:
            raise forms.ValidationError(f"{wrong[0]!r} is no pattern of tool names, such as git.* or files.read.")
        return patterns

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("effect") == PolicyRule.Effect.ASK and not cleaned.get("approvers"):
            self.add_error("approvers", "A rule that asks names whom.")
        return cleaned

    def _get_validation_exclusions(self) -> set[str]:
        """Rules may change places, so their order is compared in the formset, not with the rows as they are."""
        return {*super()._get_validation_exclusions(), "order"}  # type: ignore[misc]


class RuleFormSet(BaseInlineFormSet):
    def clean(self) -> None:
        super().clean()
        seen: set[int] = set()
        for form in self.forms:
            given = getattr(form, "cleaned_data", {})
            order = given.get("order")
            if order is None or given.get("DELETE"):
                continue
            if order in seen:
                form.add_error("order", "Two rules have this place.")
            seen.add(order)


class RuleInline(StackedInline):
    model = PolicyRule
    form = RuleForm
    formset = RuleFormSet
    extra = 0
    ordering = ["order"]
    fields = [
        ("order", "name"),
        "tools",
        "condition",
        ("effect", "reason"),
        ("approvers", "quorum", "expires_s"),
    ]

    def _draft(self, request: HttpRequest, obj: Model | None) -> bool:
        return isinstance(obj, PolicyVersion) and obj.status == DRAFT and _may_edit(request)

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._draft(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._draft(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._draft(request, obj)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.has_perm("approvals.view_policyversion")) or _may_edit(request)


@admin.register(PolicyVersion)
class PolicyVersionAdmin(OneByOne):
    """Drafts are edited here; published and retired versions never change (triggers hold it)."""

    list_display = ["__str__", "shown_status", "notes", "created_by", "created_at", "published_by", "published_at"]
    list_filter = ["status", "policy"]
    list_select_related = ["policy", "created_by", "published_by"]
    ordering = ["policy__name", "-number"]
    fields = ["policy", "number", "status", "notes", "created_by", "created_at", "published_by", "published_at"]
    inlines = [RuleInline]
    actions_detail = ["new_draft", "publish", "retire"]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        return [name for name in self.fields if name != "notes"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # by the action "New draft", which numbers and copies

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        draft = not isinstance(obj, PolicyVersion) or obj.status == DRAFT
        return draft and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        draft = isinstance(obj, PolicyVersion) and obj.status == DRAFT
        return draft and super().has_delete_permission(request, obj)

    def has_draft_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        known = named(PolicyVersion.objects.all(), object_id) is not None
        return known and request.user.has_perm("approvals.add_policyversion")

    def has_publish_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return _has_status(object_id, DRAFT) and request.user.has_perm("approvals.publish_policyversion")

    def has_retire_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return _has_status(object_id, PUBLISHED) and request.user.has_perm("approvals.publish_policyversion")

    @display(description="status", ordering="status", label={DRAFT: "warning", PUBLISHED: "success"})
    def shown_status(self, version: PolicyVersion) -> str:
        return version.status

    @action(
        description="New draft from this version",
        permissions=["draft"],
        dialog={
            "title": "New draft from this version",
            "description": "Copies the rules. A draft changes nothing until it is published.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Make the draft",
        },
    )
    def new_draft(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        source = PolicyVersion.objects.select_related("policy").get(pk=object_id)
        return done(request, _page(versions.new_draft(source.policy, source=source, by=acting(request))))

    @action(
        description="Publish",
        permissions=["publish"],
        dialog={
            "title": "Publish this version",
            "description": "It decides on every call from now on; the version in force retires. Neither changes again.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Publish",
        },
    )
    def publish(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        version = PolicyVersion.objects.get(pk=object_id)
        try:
            version = versions.publish(version.pk, by=acting(request), now=timezone.now())
        except InvalidPolicy as error:
            for rule, message in error.problems:
                self.message_user(request, f"{rule}: {message}" if rule else message, messages.ERROR)
        except NotADraft as error:
            self.message_user(request, error.message, messages.ERROR)
        else:
            self.message_user(request, f"{version} is in force.", messages.SUCCESS)
        return done(request, _page(version))

    @action(
        description="Retire",
        permissions=["retire"],
        dialog={
            "title": "Retire this version",
            "description": "Nothing takes its place: what no other policy allows is denied.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Retire",
        },
    )
    def retire(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        version = PolicyVersion.objects.get(pk=object_id)
        try:
            version = versions.retire(version.pk, by=acting(request))
        except NotADraft as error:
            self.message_user(request, error.message, messages.ERROR)
        else:
            self.message_user(request, f"{version} is retired.", messages.SUCCESS)
        return done(request, _page(version))


def _may_edit(request: HttpRequest) -> bool:
    return bool(request.user.has_perm("approvals.change_policyversion"))


def _has_status(object_id: Any, status: str) -> bool:
    return named(PolicyVersion.objects.filter(status=status), object_id) is not None


def _page(version: PolicyVersion) -> str:
    return reverse("admin:approvals_policyversion_change", args=[version.pk])
