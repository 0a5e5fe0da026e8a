"""Requests, votes and messages: looked at here; approving and denying call the one decision function."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextareaWidget

from approvals.admin.base import ReadOnly, ReadOnlyInline, acting, done, named
from approvals.decisions import REASON_MAX, decide, may_decide
from approvals.errors import DecisionError
from approvals.models import ApprovalRequest, BreakGlass, Comment, Delegation, Grant, Notification, Vote
from approvals.quorum import standing
from approvals.templatetags.approvals import diff, marked
from approvals.visible import visible_line

State = ApprovalRequest.State


class VoteInline(ReadOnlyInline):
    model = Vote
    fields = ["user", "on_behalf_of", "verdict", "reason", "channel", "at", "second_factor_at", "withdrawn_at"]
    fk_name = "request"


class NotificationInline(ReadOnlyInline):
    model = Notification
    fields = ["channel", "kind", "recipient", "state", "attempts", "sent_at", "error"]


class CommentInline(ReadOnlyInline):
    model = Comment
    fields = ["user", "text", "at", "state", "answer", "answered_by", "answered_at"]


class DenyForm(BaseDialogForm):
    reason = forms.CharField(
        max_length=REASON_MAX,
        widget=UnfoldAdminTextareaWidget,
        help_text="The agent reads it and looks for another way.",
    )


@admin.register(ApprovalRequest)
class ApprovalRequestAdmin(ReadOnly):
    """What others wrote is shown as on the page of the request: escaped, hidden characters as marks."""

    list_display = ["shown_title", "shown_state", "kind", "risk", "requester", "approvers", "created_at", "expires_at"]
    list_filter = ["state", "kind", "risk", "approvers"]
    search_fields = ["id", "title", "command", "parent_id", "subject_id", "requester__username"]
    list_select_related = ["requester", "approvers"]
    ordering = ["-created_at"]
    date_hierarchy = "created_at"
    inlines = [VoteInline, CommentInline, NotificationInline]
    actions_detail = ["approve", "deny"]
    fields = [
        "page",
        "kind",
        "state",
        "shown_title",
        "shown_command",
        "shown_preview",
        "digest",
        "risk",
        "risk_reasons",
        "policy_version",
        "rule",
        "rule_reason",
        "approvers",
        "quorum",
        "roles",
        "standing",
        "second_factor",
        "environment",
        "tenant",
        "escalate_to",
        "escalated_at",
        "requester",
        "excluded_as",
        "replaces",
        "changed",
        "created_at",
        "expires_at",
        "decided_at",
        "execution_expires_at",
        "break_glass",
        "shown_answer",
    ]
    readonly_fields = fields

    def has_decide_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """Shows the buttons to whoever may decide; `decide` asks again."""
        found = named(ApprovalRequest.objects.select_related("approvers"), object_id)
        return (
            found is not None and found.kind == ApprovalRequest.Kind.APPROVAL and may_decide(found, acting(request))[0]
        )

    @admin.display(description="page")
    def page(self, found: ApprovalRequest) -> SafeString:
        return format_html('<a href="{}">The page of this request</a>', found.get_absolute_url())

    @admin.display(description="agreed so far")
    def standing(self, found: ApprovalRequest) -> str:
        return standing(found).words if found.kind == ApprovalRequest.Kind.APPROVAL else ""

    @admin.display(description="title", ordering="title")
    def shown_title(self, found: ApprovalRequest) -> str:
        return visible_line(found.title, 300)

    @display(
        description="state",
        ordering="state",
        label={State.PENDING: "warning", State.APPROVED: "success", State.DENIED: "danger"},
    )
    def shown_state(self, found: ApprovalRequest) -> str:
        return found.state

    @admin.display(description="command")
    def shown_command(self, found: ApprovalRequest) -> SafeString:
        return format_html('<pre class="whitespace-pre-wrap break-all">{}</pre>', marked(found.command))

    @admin.display(description="preview")
    def shown_preview(self, found: ApprovalRequest) -> SafeString:
        return format_html('<pre class="whitespace-pre-wrap break-all">{}</pre>', diff(found.preview))

    @admin.display(description="answer")
    def shown_answer(self, found: ApprovalRequest) -> SafeString:
        return marked(found.answer)

    @action(
        description="Approve",
        permissions=["decide"],
        dialog={
            "title": "Approve exactly this call",
            "description": "It runs when enough people have approved.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Approve",
        },
    )
    def approve(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        return self._decide(request, object_id, Vote.Verdict.APPROVE, "")

    @action(
        description="Deny",
        permissions=["decide"],
        dialog={
            "title": "Deny this call",
            "description": "One denial is enough.",
            "form_class": DenyForm,
            "form_submit_text": "Deny",
        },
    )
    def deny(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        return self._decide(request, object_id, Vote.Verdict.DENY, form.cleaned_data["reason"])

    def _decide(self, request: HttpRequest, object_id: str, verdict: Vote.Verdict, reason: str) -> HttpResponse:
        try:
            found = decide(
                request_id=object_id,
                by=acting(request),
                verdict=verdict,
                reason=reason,
                channel="admin",
                now=timezone.now(),
            )
        except DecisionError as error:
            self.message_user(request, error.message, messages.ERROR)
        else:
            self.message_user(request, f"The request is {found.get_state_display().lower()}.", messages.SUCCESS)
        return done(request, reverse("admin:approvals_approvalrequest_change", args=[object_id]))


@admin.register(Vote)
class VoteAdmin(ReadOnly):
    list_display = ["request", "user", "verdict", "channel", "at"]
    list_filter = ["verdict", "channel"]
    list_select_related = ["request", "user"]
    search_fields = ["request__id", "user__username"]
    ordering = ["-at"]


@admin.register(Notification)
class NotificationAdmin(ReadOnly):
    list_display = ["request", "channel", "kind", "recipient", "state", "attempts", "not_before", "sent_at", "error"]
    list_filter = ["state", "channel", "kind"]
    list_select_related = ["request", "recipient"]
    search_fields = ["request__id", "recipient__username"]
    ordering = ["-not_before"]


@admin.register(Grant)
class GrantAdmin(ReadOnly):
    """Given with an approval and revoked on its page."""

    list_display = ["words", "parent_id", "rule", "uses", "uses_max", "created_at", "expires_at", "revoked_at"]
    list_filter = ["tool", "rule"]
    search_fields = ["id", "parent_id", "words"]
    ordering = ["-created_at"]


@admin.register(Delegation)
class DelegationAdmin(ReadOnly):
    """Given by the person who is away, on the page of deputies."""

    list_display = ["person", "deputy", "starts_at", "ends_at", "revoked_at", "reason"]
    list_select_related = ["person", "deputy"]
    search_fields = ["person__username", "deputy__username"]
    ordering = ["-starts_at"]


@admin.register(BreakGlass)
class BreakGlassAdmin(ReadOnly):
    """Approvals in an emergency; reviewed on their own page."""

    list_display = ["request", "user", "at", "review_by", "verdict", "reviewer", "reviewed_at"]
    list_filter = ["verdict"]
    list_select_related = ["request", "user", "reviewer"]
    search_fields = ["request__id", "user__username"]
    ordering = ["-at"]
