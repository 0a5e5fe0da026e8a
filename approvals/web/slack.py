"""Slack's door: presses come in here, signed; and the pages on which people link their account."""

import logging
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from approvals.errors import IdentityRefused, LinkError, PressMalformed, SignatureError
from approvals.slack import api, identities, press, signed
from approvals.web.responses import private

log = logging.getLogger(__name__)

BODY_MAX = 256 * 1024
STATUS = {"signature_wrong": 401, "signature_replayed": 409}


@csrf_exempt  # what Slack sends is told by its signature; no cookie counts here
@require_POST
@private("no-referrer")
def interactivity(request: HttpRequest) -> HttpResponse:
    """200 for whatever was taken; 401 for a signature that does not hold, 409 for one that came before, 400 for what is
    no press, 404 where Slack is not set up."""
    if not api.interactive():
        return HttpResponse(status=404)
    try:
        body = request.body
        if len(body) > BODY_MAX:
            return HttpResponse(status=413)
        signed.check(body, request.headers, now=timezone.now())
        payload = QueryDict(body, encoding="utf-8").get("payload")
        if payload is None:
            raise PressMalformed("There is no payload.")
        answer = press.act(payload, now=timezone.now())
    except RequestDataTooBig:
        return HttpResponse(status=413)
    except SignatureError as error:
        log.warning("slack.refused", extra={"code": error.code})
        return HttpResponse(error.message, status=STATUS[error.code], content_type="text/plain")
    except PressMalformed as error:
        return HttpResponse(error.message, status=400, content_type="text/plain")
    return JsonResponse(answer) if answer else HttpResponse(status=200)


@require_http_methods(["GET", "HEAD", "POST"])
@private("same-origin")
@login_required
def link(request: HttpRequest, token: str) -> HttpResponse:
    """Shows whose account would be linked to whom; POST does it."""
    try:
        if request.method == "POST":
            identities.link(token, by=_user(request), now=timezone.now())
            messages.success(request, "Linked. Your presses in Slack count as yours now.")
            return HttpResponseRedirect("/slack/", status=303)
        return _page(request, account=identities.read(token))
    except LinkError as error:
        return _page(request, error=error.message, status=404)
    except IdentityRefused as error:
        return _page(request, error=error.message, status=409)


@require_safe
@private("same-origin")
@login_required
def accounts(request: HttpRequest) -> HttpResponse:
    """The Slack accounts of this user."""
    return _page(request)


@require_POST
@private("same-origin")
@login_required
def unlink(request: HttpRequest, identity_id: UUID) -> HttpResponse:
    if identities.unlink(identity_id, by=_user(request)):
        messages.success(request, "Unlinked. Presses of that account count for nobody now.")
    return HttpResponseRedirect("/slack/", status=303)


def _page(
    request: HttpRequest, *, account: identities.Account | None = None, error: str = "", status: int = 200
) -> HttpResponse:
    context = {"account": account, "error": error, "mine": identities.of(_user(request)), "on": api.interactive()}
    return render(request, "approvals/slack.html", context, status=status)


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user
