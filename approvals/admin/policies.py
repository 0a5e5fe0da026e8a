"""Policies: what is in force of each, its versions, drafts from packs and from YAML."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import action
from unfold.forms import BaseDialogForm

from approvals.admin.base import OneByOne, ReadOnlyInline, acting, done, named
from approvals.admin.trials import ImportForm
from approvals.errors import ApprovalsError, InvalidPolicyFile
from approvals.models import Policy, PolicyVersion
from approvals.policy import importing, packs, versions

DRAFT, PUBLISHED = PolicyVersion.Status.DRAFT, PolicyVersion.Status.PUBLISHED


class VersionInline(ReadOnlyInline):
    model = PolicyVersion
    fields = ["version", "status", "notes", "created_by", "published_by", "published_at"]
    readonly_fields = ["version"]
    ordering = ["-number"]
    verbose_name_plural = "history"

    @admin.display(description="version")
    def version(self, version: PolicyVersion) -> SafeString:
        return format_html('<a href="{}">{}</a>', _page(version), str(version))


@admin.register(Policy)
class PolicyAdmin(OneByOne):
    """A policy has no say until a version of it is published."""

    list_display = ["name", "description", "in_force", "drafts", "created_at"]
    search_fields = ["name", "description"]
    fields = ["name", "description"]
    inlines = [VersionInline]
    actions_detail = ["new_draft"]
    actions_list = ["packs", "import_yaml"]

    def get_urls(self) -> list[Any]:
        site = self.admin_site
        return [
            path("packs/", site.admin_view(self.packs_page), name="approvals_policy_packs_page"),
            path("import/", site.admin_view(self.import_page), name="approvals_policy_import_page"),
            *super().get_urls(),
        ]

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

    def has_drafting_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("approvals.add_policyversion"))

    @admin.display(description="in force")
    def in_force(self, policy: Policy) -> SafeString | str:
        version = policy.versions.filter(status=PUBLISHED).select_related("policy").first()
        return format_html('<a href="{}">{}</a>', _page(version), version) if version else "nothing"

    @admin.display(description="drafts")
    def drafts(self, policy: Policy) -> str:
        numbers = policy.versions.filter(status=DRAFT).order_by("-number").values_list("number", flat=True)[:5]
        return ", ".join(f"@{number}" for number in numbers) or "-"

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

    @action(description="Packs", icon="inventory_2", permissions=["drafting"])
    def packs(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:approvals_policy_packs_page"))

    @action(description="Import YAML", icon="upload", permissions=["drafting"])
    def import_yaml(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:approvals_policy_import_page"))

    def packs_page(self, request: HttpRequest) -> HttpResponse:
        """The policies that come with the server; each becomes a draft by a button."""
        self._may_draft(request)
        problems: list[tuple[str, str]] = []
        if request.method == "POST":
            try:
                draft = importing.import_pack(
                    request.POST.get("pack", ""), by=acting(request), create_groups=self._groups(request)
                )
            except ApprovalsError as error:
                problems = list(getattr(error, "problems", ())) or [("", error.message)]
            else:
                messages.success(request, f"{draft} is a draft. It changes nothing until it is published.")
                return HttpResponseRedirect(_page(draft))
        return self._own_page(request, "packs", "Packs", packs=packs.every(), problems=problems)

    def import_page(self, request: HttpRequest) -> HttpResponse:
        """A draft from YAML that was pasted."""
        self._may_draft(request)
        form, problems = ImportForm(request.POST or None), []
        if request.method == "POST" and form.is_valid():
            wanted = form.cleaned_data["create_groups"]
            try:
                draft = importing.import_yaml(
                    form.cleaned_data["source"], by=acting(request), create_groups=wanted and self._groups(request)
                )
            except InvalidPolicyFile as error:
                problems = list(error.problems) or [("", error.message)]
            else:
                messages.success(request, f"{draft} is a draft. It changes nothing until it is published.")
                return HttpResponseRedirect(_page(draft))
        return self._own_page(request, "import", "Import YAML", form=form, problems=problems)

    def _groups(self, request: HttpRequest) -> bool:
        return "create_groups" in request.POST and request.user.has_perm("auth.add_group")

    def _may_draft(self, request: HttpRequest) -> None:
        if not self.has_drafting_permission(request):
            raise PermissionDenied

    def _own_page(self, request: HttpRequest, name: str, title: str, **context: Any) -> HttpResponse:
        given = {
            **self.admin_site.each_context(request),
            "title": title,
            "may_make_groups": request.user.has_perm("auth.add_group"),
            **context,
        }
        return TemplateResponse(request, f"admin/approvals/policy/{name}.html", given)


def _page(version: PolicyVersion) -> str:
    return reverse("admin:approvals_policyversion_change", args=[version.pk])
