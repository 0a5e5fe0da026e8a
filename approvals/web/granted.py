"""Leave for like calls: given with an approval, shown while it is in force, revoked."""

import json
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from approvals import granting, selectors
from approvals.decisions import may_decide, needs_second_factor
from approvals.errors import DecisionError, InvalidGrant
from approvals.models import ApprovalRequest, Grant
from approvals.web import base, second_factor
from approvals.web.times import until

OVER = 30
PATTERN = "pattern:"


@base.of_request(*base.BOTH)
def give(http: HttpRequest, request: ApprovalRequest) -> HttpResponse:
    """What a grant would cover, tried on the last 30 days; POST gives it, and with it the approval."""
    user, now = base.user_of(http), timezone.now()
    may, why = may_decide(request, user, now=now)
    proposal = granting.propose(request, now=now) if may else None
    if proposal is None:
        context = {"request": request, "why": why or granting.why_not(request)}
        return render(http, "approvals/grant.html", context, status=403)
    matcher = {name: http.POST.get(PATTERN + name, pattern) for name, pattern in proposal.matcher.items()}
    error: DecisionError | None = None
    if http.method == "POST":
        try:
            if http.POST.get("step") == "give":
                granting.give(
                    request_id=request.pk,
                    by=user,
                    minutes=_number(http, "minutes"),
                    uses=_number(http, "uses"),
                    matcher=matcher,
                    now=now,
                    second_factor_at=second_factor.at(http),
                )
                messages.success(http, "Approved, with leave for its like.")
                return HttpResponseRedirect(reverse("grants"), status=303)
        except DecisionError as refused:
            error = refused
    context = {
        "request": request,
        "proposal": proposal,
        "matcher": matcher,
        "words": granting.words(request, matcher),
        "tried": granting.tried(request, matcher, now=now),
        "minutes": http.POST.get("minutes", str(min(30, proposal.minutes))),
        "uses": http.POST.get("uses", "10"),
        "error": error.message if error else "",
        "factor": second_factor.needed(http, needs_second_factor(request), http.path),
    }
    return render(http, "approvals/grant.html", context, status=base.status_of(error))


@base.page(*base.SAFE)
def grants(http: HttpRequest) -> HttpResponse:
    """Grants that this user may see: in force, and lately over."""
    user, now = base.user_of(http), timezone.now()
    seen = _seen(user)
    running = list(granting.in_force(now).filter(pk__in=seen.values("pk")))
    over = seen.exclude(pk__in=[one.pk for one in running]).order_by("-created_at")[:OVER]
    names = dict(
        User.objects.filter(pk__in={pk for one in [*running, *over] for pk in one.given_by}).values_list(
            "pk", "username"
        )
    )
    context = {
        "running": [_line(one, user, names, now) for one in running],
        "over": [_line(one, user, names, now) for one in over],
        **base.sections(http, "grants"),
    }
    return render(http, "approvals/grants.html", context)


@base.page(*base.POSTED)
def revoke(http: HttpRequest, grant_id: UUID) -> HttpResponse:
    try:
        granting.revoke(grant_id=grant_id, by=base.user_of(http), now=timezone.now())
        messages.success(http, "Revoked. The next call is asked about again.")
    except DecisionError as refused:
        messages.error(http, refused.message)
    return HttpResponseRedirect(reverse("grants"), status=303)


def _seen(user: User) -> QuerySet[Grant]:
    found = Grant.objects.select_related("from_request", "policy_version__policy", "revoked_by")
    if user.is_superuser:
        return found
    return found.filter(
        Q(from_request__in=selectors.visible(user).order_by().values("pk")) | Q(given_by__contains=[user.pk])
    )


def _line(grant: Grant, user: User, names: dict[int, str], now: Any) -> dict[str, Any]:
    return {
        "grant": grant,
        "ends": until(grant.expires_at, now),
        "left": max(0, grant.uses_max - grant.uses),
        "share": round(100 * grant.uses / grant.uses_max) if grant.uses_max else 0,
        "by": ", ".join(names.get(pk, str(pk)) for pk in grant.given_by),
        "matcher": json.dumps(grant.matcher, ensure_ascii=False, indent=2),
        "may_revoke": granting.may_revoke(grant, user),
    }


def _number(http: HttpRequest, name: str) -> int:
    """Raises InvalidGrant."""
    try:
        return int(http.POST.get(name, ""))
    except ValueError:
        raise InvalidGrant(f"{name.capitalize()} must be a whole number.", field=name) from None
