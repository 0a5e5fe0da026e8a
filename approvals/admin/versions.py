"""Versions of policies: a draft's rules in their order, what is still missing, and the ways to put it in force."""

from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextInputWidget

from approvals.admin.base import OneByOne, acting, done, named
from approvals.admin.rules import may_edit
from approvals.admin.versionpages import Pages, address, head
from approvals.errors import ApprovalsError, BacktestNeeded, NotAcknowledged, PolicyError
from approvals.models import PolicyRule, PolicyVersion
from approvals.policy import backtest, rollback, rules, versions

DRAFT, PUBLISHED, RETIRED = PolicyVersion.Status.DRAFT, PolicyVersion.Status.PUBLISHED, PolicyVersion.Status.RETIRED


class ReasonForm(BaseDialogForm):
    reason = forms.CharField(max_length=300, label="Why", widget=UnfoldAdminTextInputWidget())


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A thing that must be so before a draft is in force. tone: "ok", "todo" or "warn"."""

    tone: str
    text: str
    href: str = ""


@admin.register(PolicyVersion)
class PolicyVersionAdmin(OneByOne):
    """Drafts are edited here; published and retired versions never change (triggers hold it)."""

    list_display = ["__str__", "shown_status", "notes", "created_by", "created_at", "published_by", "published_at"]
    list_filter = ["status", "policy"]
    list_select_related = ["policy", "created_by", "published_by"]
    ordering = ["policy__name", "-number"]
    fields = ["notes", ("created_by", "created_at"), ("published_by", "published_at")]
    change_form_outer_before_template = "admin/approvals/policyversion/overview.html"
    actions_detail = ["publish", "propose", "withdraw", "new_draft", "roll_back", "retire"]

    class Media:
        css = {"all": ["countersign/policy.css"]}

    def get_urls(self) -> list[Any]:
        return [*Pages(self.admin_site).urls(), *super().get_urls()]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        return ["created_by", "created_at", "published_by", "published_at"]

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

    def has_propose_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        draft = named(PolicyVersion.objects.filter(status=DRAFT, proposed_sha256=""), object_id) is not None
        return draft and versions.second_person() and request.user.has_perm("approvals.add_policyversion")

    def has_withdraw_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        draft = named(PolicyVersion.objects.filter(status=DRAFT).exclude(proposed_sha256=""), object_id) is not None
        return draft and request.user.has_perm("approvals.add_policyversion")

    def has_publish_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return _has_status(object_id, DRAFT) and request.user.has_perm("approvals.publish_policyversion")

    def has_retire_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return _has_status(object_id, PUBLISHED) and request.user.has_perm("approvals.publish_policyversion")

    def has_back_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return _has_status(object_id, RETIRED) and request.user.has_perm("approvals.publish_policyversion")

    @display(description="status", ordering="status", label={DRAFT: "warning", PUBLISHED: "success"})
    def shown_status(self, version: PolicyVersion) -> str:
        return version.status

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        version = named(PolicyVersion.objects.select_related("policy", "proposed_by"), object_id)
        more = {} if version is None else overview(request, version)
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **more})

    @action(
        description="New draft from this",
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
        description="Propose",
        permissions=["propose"],
        dialog={
            "title": "Propose this draft",
            "description": "Somebody else publishes exactly these rules; an edit takes the proposal back.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Propose",
        },
    )
    def propose(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        version = PolicyVersion.objects.get(pk=object_id)
        try:
            version = versions.propose(version.pk, by=acting(request), now=timezone.now())
        except ApprovalsError as error:
            self._tell(request, error)
        else:
            self.message_user(request, f"{version} is proposed: somebody else publishes it.", messages.SUCCESS)
        return done(request, _page(version))

    @action(
        description="Take the proposal back",
        permissions=["withdraw"],
        dialog={
            "title": "Take the proposal back",
            "description": "Nobody can publish this draft until it is proposed again.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Take it back",
        },
    )
    def withdraw(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        version = PolicyVersion.objects.get(pk=object_id)
        try:
            versions.withdraw(version.pk, by=acting(request))
        except ApprovalsError as error:
            self._tell(request, error)
        return done(request, _page(version))

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
        except ApprovalsError as error:
            self._tell(request, error)
        else:
            self.message_user(request, f"{version} is in force.", messages.SUCCESS)
        return done(request, _page(version))

    @action(
        description="Roll back to this",
        permissions=["back"],
        dialog={
            "title": "Roll back to this version",
            "description": (
                "A new version with these rules. Where they plainly give no more leave than those in force it is "
                "published at once; else it takes a backtest and a second person like every other."
            ),
            "form_class": ReasonForm,
            "form_submit_text": "Roll back",
        },
    )
    def roll_back(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        version = PolicyVersion.objects.get(pk=object_id)
        try:
            found = rollback.roll_back(
                version.pk, by=acting(request), reason=form.cleaned_data["reason"], now=timezone.now()
            )
        except ApprovalsError as error:
            self._tell(request, error)
            return done(request, _page(version))
        if found.missing:
            self.message_user(request, f"{found.version} is a draft still. {found.missing}", messages.WARNING)
        else:
            self.message_user(request, f"{found.version} is in force.", messages.SUCCESS)
        return done(request, _page(found.version))

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
        except ApprovalsError as error:
            self._tell(request, error)
        else:
            self.message_user(request, f"{version} is retired.", messages.SUCCESS)
        return done(request, _page(version))

    def _tell(self, request: HttpRequest, error: ApprovalsError) -> None:
        for rule, message in getattr(error, "problems", None) or [("", error.message)]:
            self.message_user(request, f"{rule}: {message}" if rule else message, messages.ERROR)


def overview(request: HttpRequest, version: PolicyVersion) -> dict[str, Any]:
    """What a version's own page shows above its form."""
    editable = version.status == DRAFT and may_edit(request)
    found = [_row(version, rule) for rule in rules.of(version)]
    return {
        **head(version, "change"),
        "title": str(version),
        "rows": found,
        "editable": editable,
        "add_href": f"{reverse('admin:approvals_policyrule_add')}?version={version.pk}",
        "checklist": _checklist(request, version) if version.status == DRAFT else [],
    }


def _checklist(request: HttpRequest, version: PolicyVersion) -> list[Line]:
    now, found = timezone.now(), []
    for name, message in versions.problems(version):
        found.append(Line(tone="todo", text=f"{name}: {message}" if name else message))
    if not found:
        found.append(Line(tone="ok", text="Every rule can work, and every quorum can be reached."))
    found += [Line(tone="warn", text=f"{name}: {message}") for name, message in rules.warnings(version)]
    try:
        backtest.require(version, now=now)
    except (BacktestNeeded, NotAcknowledged) as error:
        found.append(Line(tone="todo", text=error.message, href=address(version, "backtest")))
    else:
        tried = backtest.is_current(version)
        text = "These rules were tried on past decisions." if tried else "There are no past decisions to try it on."
        found.append(Line(tone="ok", text=text, href=address(version, "backtest")))
    try:
        versions.refuse_alone(version, rules.sha256(version), by=acting(request))
    except PolicyError as error:
        found.append(Line(tone="todo", text=error.message))
    else:
        if versions.second_person():
            found.append(Line(tone="ok", text=f"Proposed by {version.proposed_by}; you may publish it."))
        else:
            found.append(Line(tone="ok", text="One person may publish here (POLICY_SECOND_PERSON is off)."))
    return found


def _row(version: PolicyVersion, rule: PolicyRule) -> dict[str, Any]:
    roles = [f"{rule.quorum} of {rule.approvers}"] if rule.approvers else []
    roles += [f"{role.count} of {role.group}" for role in rule.roles.all()]
    return {
        "rule": rule,
        "href": reverse("admin:approvals_policyrule_change", args=[rule.pk]),
        "move_href": reverse("admin:approvals_policyversion_move", args=[version.pk, rule.pk]),
        "tools": ", ".join(rule.tools),
        "about": [
            (name.replace("_", " "), _hours(value) if name == "time" else _words(value))
            for name, value in sorted(rule.match.items())
        ],
        "how": [(name.replace("_", " "), _words(value)) for name, value in sorted(rule.constraints.items())],
        "asked": " and ".join(roles),
        "problems": rules.rule_problems(rule),
    }


def _hours(time: dict[str, Any]) -> str:
    days = ", ".join(time.get("days", ["every day"]))
    hours = f" {time['from']} to {time['to']}" if "from" in time else ""
    return f"{'not ' if time.get('outside') else ''}{days}{hours} ({time.get('zone', '')})"


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return "; ".join(f"{name} {_words(one)}" for name, one in value.items())
    return str(value)


def _has_status(object_id: Any, status: str) -> bool:
    return named(PolicyVersion.objects.filter(status=status), object_id) is not None


def _page(version: PolicyVersion) -> str:
    return reverse("admin:approvals_policyversion_change", args=[version.pk])
