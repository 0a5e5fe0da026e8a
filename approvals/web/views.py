"""Pages about requests. GET and HEAD never change anything; a decision is a POST with a CSRF token."""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from approvals import links, selectors
from approvals.decisions import decide
from approvals.errors import DecisionError, LinkError, NotFound
from approvals.models import ApprovalRequest
from approvals.web import base, guessing, page, second_factor
from approvals.web.responses import private

DONE = {
    "approve": "Your approval counts.",
    "deny": "Denied. Your reason goes to the agent.",
    "answer": "Answered. The job goes on.",
}


@base.of_request(*base.BOTH)
def approval(request: HttpRequest, found: ApprovalRequest) -> HttpResponse:
    """The page of one request; POST decides it."""
    if request.method != "POST":
        return _page(request, found)
    verdict = request.POST.get("verdict", "")
    try:
        decide(
            request_id=found.pk,
            by=base.user_of(request),
            verdict=verdict,
            reason=request.POST.get("reason", ""),
            channel="page",
            now=timezone.now(),
            second_factor_at=second_factor.at(request),
        )
    except DecisionError as error:
        found.refresh_from_db()
        return _page(request, found, error=error, verdict=verdict)
    messages.success(request, DONE[verdict])
    return HttpResponseRedirect(found.get_absolute_url(), status=303)


@require_safe
@private("same-origin")
@login_required
def status(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """The part of the page that renews itself."""
    user = base.user_of(request)
    try:
        found = selectors.visible_request(user, request_id)
    except NotFound:
        return HttpResponse(status=404)
    return render(request, "approvals/_status.html", page.status(found, user, now=timezone.now()))


@require_safe
@private("no-referrer")
def link(request: HttpRequest, token: str) -> HttpResponse:
    """A link of a message: finds the request, whoever follows it, and says nothing about it before they signed in."""
    wait_s = guessing.too_many(request)
    if wait_s:
        return render(request, "approvals/link_over.html", {"wait_s": wait_s}, status=429)
    try:
        found = links.find(token, now=timezone.now())
    except LinkError as error:
        if error.code == "link_unknown":
            guessing.wrong(request)
        return render(request, "approvals/link_over.html", {"code": error.code}, status=404)
    if not request.user.is_authenticated:
        return redirect_to_login(request.path)
    address = reverse("approval", kwargs={"request_id": found.request_id})
    forwarded = found.recipient_id is not None and found.recipient_id != request.user.pk
    return HttpResponseRedirect(f"{address}?forwarded=1" if forwarded else address)


def _page(
    request: HttpRequest, found: ApprovalRequest, *, error: DecisionError | None = None, verdict: str = ""
) -> HttpResponse:
    context = {
        **page.describe(request, found, base.user_of(request), now=timezone.now()),
        "forwarded": "forwarded" in request.GET,
        "error": error.message if error else "",
        "error_verdict": verdict,
        "written": request.POST.get("reason", ""),
    }
    return render(request, "approvals/approval.html", context, status=base.status_of(error))
