"""A rule of a draft, on a page of its own."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Max, Model
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.admin import TabularInline
from unfold.widgets import UnfoldAdminTextareaWidget

from approvals.admin import matchfields
from approvals.admin.base import OneByOne, acting, named
from approvals.errors import InvalidCondition
from approvals.models import PolicyRule, PolicyVersion, RuleApprovers
from approvals.policy import conditions, constraints, matching, rules, versions, yamlform
from approvals.policy.match import valid

DRAFT = PolicyVersion.Status.DRAFT
ASKED = ("approvers", "quorum", "escalate_to", "expires_s", "execution_expires_s", "grant_max_s", "second_factor")
MATCH, HOW = matchfields.match_fields(), matchfields.constraint_fields()


class RuleForm(forms.ModelForm):
    """The rule's columns; `match` and `constraints` as fields of their own."""

    tools = forms.CharField(
        label="Tools",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="Comma or line between; * stands for anything: git.push, git.*, *",
    )

    draft_id: Any = None  # of the draft that a new rule goes to

    class Meta:
        model = PolicyRule
        fields = ["name", "effect", "reason", "condition", *ASKED]
        help_texts = {"condition": "CEL that gives true or false, over call, job and now. Empty: always."}
        labels = {
            "expires_s": "Request expires after",
            "execution_expires_s": "Approval expires after",
            "grant_max_s": "Longest grant",
            "condition": "Condition",
        }
        widgets = {"condition": UnfoldAdminTextareaWidget(attrs={"rows": 3, "spellcheck": "false"})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        rule = kwargs.get("instance") or PolicyRule()
        given = {"tools": ", ".join(rule.tools or [])}
        given |= matchfields.match_initial(rule.match) | matchfields.constraint_initial(rule.constraints)
        kwargs["initial"] = given | (kwargs.get("initial") or {})
        super().__init__(*args, **kwargs)

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        version = self.instance.version_id or self.draft_id
        if PolicyRule.objects.filter(version=version, name=name).exclude(pk=self.instance.pk).exists():
            raise forms.ValidationError("Another rule has this name.")
        return name

    def clean_tools(self) -> list[str]:
        patterns = matchfields.listed(self.cleaned_data["tools"])
        wrong = [pattern for pattern in patterns if not valid(pattern)]
        if wrong or not patterns:
            raise forms.ValidationError(
                f"{(wrong or [''])[0]!r} is no pattern of tool names, such as git.* or files.read."
            )
        return patterns

    def clean_condition(self) -> str:
        source = str(self.cleaned_data["condition"]).replace("\r\n", "\n")
        try:
            conditions.check(source)
        except InvalidCondition as error:
            raise forms.ValidationError(error.message) from None
        return source

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("effect") == PolicyRule.Effect.ASK and not cleaned.get("approvers"):
            self.add_error("approvers", "A rule that asks names whom.")
        self.match, self.how = matchfields.match_of(cleaned), matchfields.constraints_of(cleaned)
        found = [*matching.problems(self.match), *constraints.problems(self.how, effect=cleaned.get("effect", ""))]
        for message in found:
            field = matchfields.field_of(message)
            self.add_error(field if field in self.fields else None, message)
        for name in ("expires_s", "execution_expires_s"):
            if not rules.EXPIRES_MIN_S <= (cleaned.get(name) or 0) <= rules.EXPIRES_MAX_S:
                self.add_error(name, f"Must be from {rules.EXPIRES_MIN_S} to {rules.EXPIRES_MAX_S} seconds.")
        return cleaned

    def save(self, commit: bool = True) -> Any:
        self.instance.tools = self.cleaned_data["tools"]
        self.instance.match, self.instance.constraints = self.match, self.how
        return super().save(commit)


# declared one by one elsewhere; here they follow the schema
RuleForm.base_fields |= {**MATCH, **HOW}
RuleForm.declared_fields |= {**MATCH, **HOW}


class RolesFormSet(BaseInlineFormSet):
    def clean(self) -> None:
        super().clean()
        if self.instance.effect != PolicyRule.Effect.ASK and any(
            form.cleaned_data and not form.cleaned_data.get("DELETE") for form in self.forms
        ):
            raise forms.ValidationError("Only a rule that asks has further groups.")


class RoleInline(TabularInline):
    model = RuleApprovers
    formset = RolesFormSet
    fields = ["group", "count"]
    extra = 0
    verbose_name = "group that must agree as well"
    verbose_name_plural = "groups that must agree as well"

    def _may(self, request: HttpRequest, obj: Model | None) -> bool:
        return may_edit(request) and (
            not isinstance(obj, PolicyRule) or obj._state.adding or obj.version.status == DRAFT
        )

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._may(request, obj)

    has_change_permission = has_add_permission
    has_delete_permission = has_add_permission

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may_see(request)


@admin.register(PolicyRule)
class PolicyRuleAdmin(OneByOne):
    """Reached from its version's page; rules of published versions are looked at."""

    form = RuleForm
    inlines = [RoleInline]
    fieldsets = [
        (None, {"fields": [("name", "effect"), "tools", "reason"]}),
        (
            "Who is asked",
            {
                "fields": [("approvers", "quorum"), ("expires_s", "execution_expires_s")],
                "description": "Of rules that ask. Further groups that must agree stand below.",
            },
        ),
        (
            "About which calls",
            {
                "fields": [
                    ("match_branches", "match_environments"),
                    ("match_repositories", "match_programs"),
                    ("match_network", "match_secrets"),
                    ("match_agents", "match_risk_at_least"),
                    ("match_owners", "match_groups"),
                    ("match_risks", "match_effects"),
                    "condition",
                ],
                "description": "Everything that is filled in must fit. What is left empty does not matter.",
            },
        ),
        (
            "Times, budgets, sequences",
            {
                "classes": ["collapse"],
                "fields": [
                    ("match_from", "match_to"),
                    ("match_zone", "match_outside"),
                    "match_days",
                    ("match_spent_per", "match_spent_hours"),
                    ("match_spent_tools", "match_spent_calls"),
                    ("match_spent_tokens", "match_spent_minutes"),
                    ("match_after", "match_first_use"),
                    ("match_carries", "match_exposed"),
                    ("match_unplanned", "match_tainted"),
                    ("match_tenants", "match_labels"),
                ],
            },
        ),
        (
            "How the call must run",
            {
                "classes": ["collapse"],
                "fields": [
                    ("how_profile", "how_network"),
                    ("how_dry_run", "how_gives"),
                    ("how_timeout_s", "how_memory_mb"),
                    ("how_processes", "how_file_size_mb"),
                    "how_output_kb",
                ],
            },
        ),
        (
            "More about asking",
            {"classes": ["collapse"], "fields": [("escalate_to", "grant_max_s"), "second_factor"]},
        ),
    ]

    def has_module_permission(self, request: HttpRequest) -> bool:
        return False  # no list of its own: rules belong to versions

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may_see(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may_edit(request) and "version" in request.GET  # from its version's page, which knows whose it is

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may_edit(request) and (not isinstance(obj, PolicyRule) or obj.version.status == DRAFT)

    has_delete_permission = has_change_permission

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:approvals_policyversion_changelist"))

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """`?version=` names the draft that it goes to."""
        if self._draft(request) is None:
            return HttpResponseRedirect(reverse("admin:approvals_policyversion_changelist"))
        return super().add_view(request, form_url, extra_context)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """What a rule uses of the rarer fields stands open."""
        if not isinstance(obj, PolicyRule):
            return self.fieldsets
        used = matchfields.match_initial(obj.match) | matchfields.constraint_initial(obj.constraints)
        used |= {name: getattr(obj, name) for name in ("escalate_to", "grant_max_s", "second_factor")}
        return [(title, _opened(given, used)) for title, given in self.fieldsets]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        context["show_save_and_add_another"] = False
        return super().render_change_form(request, context, *args, **kwargs)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        draft = self._draft(request)
        form.draft_id = draft.pk if draft is not None else None
        return form

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            version = self._draft(request)
            assert version is not None
            obj.version = version
            obj.order = (version.rules.aggregate(last=Max("order"))["last"] or 0) + yamlform.STEP
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        versions.changed(form.instance.version, by=acting(request))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        version = obj.version
        super().delete_model(request, obj)
        versions.changed(version, by=acting(request))

    def response_post_save_add(self, request: HttpRequest, obj: Any) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:approvals_policyversion_change", args=[obj.version_id]))

    response_post_save_change = response_post_save_add

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        rule = named(PolicyRule.objects.all(), object_id)
        answer = super().delete_view(request, object_id, extra_context)
        if rule is not None and answer.status_code == 302:
            return HttpResponseRedirect(reverse("admin:approvals_policyversion_change", args=[rule.version_id]))
        return answer

    def _draft(self, request: HttpRequest) -> PolicyVersion | None:
        return named(PolicyVersion.objects.filter(status=DRAFT), request.GET.get("version", ""))


def _opened(given: Any, used: dict[str, Any]) -> Any:
    names = [name for line in given["fields"] for name in ([line] if isinstance(line, str) else line)]
    if "collapse" in given.get("classes", ()) and any(used.get(name) for name in names):
        return {name: value for name, value in given.items() if name != "classes"}
    return given


@transaction.atomic
def move(rule: PolicyRule, *, up: bool, by: User) -> bool:
    """Changes places with the rule before or after; False where there is none."""
    others = rule.version.rules.filter(**{"order__lt" if up else "order__gt": rule.order})
    other = others.order_by("-order" if up else "order").first()
    if other is None:
        return False
    place = rule.order
    PolicyRule.objects.filter(pk=rule.pk).update(order=other.order)
    PolicyRule.objects.filter(pk=other.pk).update(order=place)
    versions.changed(rule.version, by=by)
    return True


def may_edit(request: HttpRequest) -> bool:
    """May this user change drafts?"""
    return bool(request.user.has_perm("approvals.change_policyversion"))


def may_see(request: HttpRequest) -> bool:
    return bool(request.user.has_perm("approvals.view_policyversion")) or may_edit(request)
