"""Approvals in an emergency, and their reviews."""

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from approvals import glass
from approvals.decisions import REASON_MAX
from approvals.errors import DecisionError
from approvals.models import ApprovalRequest, BreakGlass
from approvals.web import base, second_factor
from approvals.web.times import until

OVER = 30


@base.of_request(*base.BOTH)
def break_glass(http: HttpRequest, request: ApprovalRequest) -> HttpResponse:
    """A page of its own, so that nobody does it by a slip."""
    user, now = base.user_of(http), timezone.now()
    may, why = glass.may_break(request, user)
    if may and request.state != ApprovalRequest.State.PENDING:
        may, why = False, f"This request is {request.get_state_display().lower()}."
    error: DecisionError | None = None
    if http.method == "POST" and may:
        try:
            glass.break_glass(
                request_id=request.pk,
                by=user,
                reason=http.POST.get("reason", ""),
                channel="page",
                now=now,
                second_factor_at=second_factor.at(http),
            )
            messages.warning(http, "Approved in an emergency. Somebody else reviews it now.")
            return HttpResponseRedirect(request.get_absolute_url(), status=303)
        except DecisionError as refused:
            error = refused
    context = {
        "request": request,
        "may": may,
        "why": why,
        "error": error.message if error else "",
        "reason": http.POST.get("reason", ""),
        "reason_least": glass.REASON_LEAST,
        "reason_max": REASON_MAX,
        "factor": second_factor.needed(http, True, reverse("break-glass", kwargs={"request_id": request.pk})),
    }
    return render(http, "approvals/glass.html", context, status=base.status_of(error) if may else 403)


@base.page(*base.SAFE)
def reviews(http: HttpRequest) -> HttpResponse:
    """What this user may review, the first due first; then what was."""
    user, now = base.user_of(http), timezone.now()
    waiting = glass.to_review(user)
    seen = BreakGlass.objects.exclude(verdict=BreakGlass.Verdict.OPEN).select_related("request", "user", "reviewer")
    if not (user.is_superuser or user.has_perm(glass.BREAK_GLASS)):
        seen = seen.filter(user=user)
    own = BreakGlass.objects.filter(verdict=BreakGlass.Verdict.OPEN, user=user).select_related("request", "user")
    context = {
        "waiting": [(one, until(one.review_by, now), one.review_by <= now) for one in waiting],
        "own": [(one, until(one.review_by, now)) for one in own],
        "done": seen.order_by("-reviewed_at")[:OVER],
        "reason_max": REASON_MAX,
        **base.sections(http, "reviews"),
    }
    return render(http, "approvals/reviews.html", context)


@base.page(*base.POSTED)
def review(http: HttpRequest, glass_id: UUID) -> HttpResponse:
    try:
        glass.review(
            glass_id=glass_id,
            by=base.user_of(http),
            verdict=http.POST.get("verdict", ""),
            words=http.POST.get("words", ""),
            now=timezone.now(),
        )
        messages.success(http, "Reviewed.")
    except DecisionError as refused:
        messages.error(http, refused.message)
    return HttpResponseRedirect(reverse("reviews"), status=303)
