"""What the pages about requests share."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from approvals import glass, selectors
from approvals.errors import DecisionError, NotFound
from approvals.models import ApprovalRequest
from approvals.web.responses import private

View = Callable[..., HttpResponse]

SAFE, POSTED, BOTH = ("GET", "HEAD"), ("POST",), ("GET", "HEAD", "POST")
_STATUS = {
    "not_eligible": 403,
    "second_factor_needed": 403,
    "not_found": 404,
    "reason_missing": 400,
    "invalid_reason": 400,
    "invalid_verdict": 400,
    "invalid_edit": 400,
    "invalid_grant": 400,
    "invalid_delegation": 400,
    "not_alike": 400,
}


def page(*methods: str) -> Callable[[Callable[..., Any]], Any]:
    """For signed-in people; nothing of it is stored. GET and HEAD change nothing, whatever the view."""

    def wrap(view: Callable[..., Any]) -> Any:
        return require_http_methods([*methods])(private("same-origin")(login_required(view)))

    return wrap


def of_request(*methods: str) -> Callable[[Callable[..., Any]], Any]:
    """As `page`, for views `(http, request)` of a request that this user sees; 404 without a difference elsewhere."""

    def wrap(view: Callable[..., Any]) -> Any:
        def wrapped(http: HttpRequest, request_id: UUID, **more: Any) -> HttpResponse:
            try:
                found = selectors.visible_request(user_of(http), request_id)
            except NotFound:
                return render(http, "approvals/missing.html", status=404)
            answer: HttpResponse = view(http, found, **more)
            return answer

        return page(*methods)(wrapped)

    return wrap


def user_of(http: HttpRequest) -> User:
    assert isinstance(http.user, User)
    return http.user


def status_of(error: DecisionError | None) -> int:
    return 200 if error is None else _STATUS.get(error.code, 409)


def sections(http: HttpRequest, here: str) -> dict[str, Any]:
    """The links on top of the lists; `here` is the one that is open."""
    return {"here": here, "reviews": _reviews(user_of(http))}


def _reviews(user: User) -> int:
    return glass.to_review(user).count()


def newer(request: ApprovalRequest) -> ApprovalRequest | None:
    """What stands in this one's place now."""
    return request.replaced_by.order_by("-created_at").first()
