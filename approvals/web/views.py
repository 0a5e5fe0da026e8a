"""Pages about requests. GET and HEAD never change anything; a decision is a POST with a CSRF token."""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from approvals import links, selectors
from approvals.decisions import decide
from approvals.errors import DecisionError, LinkError, NotFound
from approvals.models import ApprovalRequest
from approvals.web import guessing, page
from approvals.web.responses import private
from approvals.web.times import until

MINE, RECENT = 100, 50
STATUS = {"not_eligible": 403, "not_found": 404, "reason_missing": 400, "invalid_reason": 400, "invalid_verdict": 400}
DONE = {
    "approve": "Your approval counts.",
    "deny": "Denied. Your reason goes to the agent.",
    "answer": "Answered. The job goes on.",
}


@require_safe
@private("same-origin")
@login_required
def inbox(request: HttpRequest) -> HttpResponse:
    """What waits for this user, what waits for others, what was decided lately."""
    user, now = _user(request), timezone.now()
    inbox = selectors.inbox(user)
    mine, number = list(selectors.lines(inbox)[:MINE]), inbox.count()
    seen = selectors.lines(selectors.visible(user)).exclude(pk__in=inbox.order_by().values("pk"))
    pending = ApprovalRequest.State.PENDING
    others = seen.filter(state=pending).order_by("expires_at")[:RECENT]
    recent = seen.exclude(state=pending).order_by("-decided_at")[:RECENT]
    context = {
        "mine_number": number,
        "mine_more": max(0, number - len(mine)),
        "mine": [(one, until(one.expires_at, now)) for one in mine],
        "others": [(one, until(one.expires_at, now)) for one in others],
        "recent": [(one, until(one.decided_at, now) if one.decided_at else "") for one in recent],
    }
    return render(request, "approvals/inbox.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@private("same-origin")
@login_required
def approval(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """The page of one request; POST decides it."""
    user = _user(request)
    try:
        found = selectors.visible_request(user, request_id)
    except NotFound:
        return render(request, "approvals/missing.html", status=404)
    if request.method != "POST":
        return _page(request, found)
    verdict = request.POST.get("verdict", "")
    try:
        decide(
            request_id=found.pk,
            by=user,
            verdict=verdict,
            reason=request.POST.get("reason", ""),
            channel="page",
            now=timezone.now(),
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
    user = _user(request)
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
        **page.describe(found, _user(request), now=timezone.now()),
        "forwarded": "forwarded" in request.GET,
        "error": error.message if error else "",
        "error_verdict": verdict,
        "written": request.POST.get("reason", ""),
    }
    code = STATUS.get(error.code, 409) if error else 200
    return render(request, "approvals/approval.html", context, status=code)


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user
