"""What people do with one request besides voting: edit it, ask back, answer, take back, decide it with its like."""

import difflib
import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils import timezone

from approvals import batch, comments, editing, taking_back
from approvals.decisions import REASON_MAX
from approvals.errors import DecisionError, InvalidEdit
from approvals.models import ApprovalRequest, Comment
from approvals.web import base
from approvals.web.preview import argument_text
from audit.canonical import canonical_json
from audit.errors import NotCanonical

ARGUMENT = "argument:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One argument in the form. words: text as it is, else JSON; rows: lines to show."""

    name: str
    text: str
    words: bool
    rows: int


@base.of_request(*base.BOTH)
def edit(http: HttpRequest, request: ApprovalRequest) -> HttpResponse:
    """The arguments as a form; then what would change; then it is changed, and decided on anew."""
    user, now = base.user_of(http), timezone.now()
    may, why = editing.may_edit(request, user, now=now)
    given: dict[str, Any] = dict(request.call["arguments"])
    error: DecisionError | None = None
    diff = ""
    if http.method == "POST" and may:
        try:
            given = _given(http, request)
            if http.POST.get("step") == "save":
                editing.edit(
                    request_id=request.pk,
                    by=user,
                    arguments=given,
                    reason=http.POST.get("reason", ""),
                    channel="page",
                    now=now,
                )
                messages.success(http, "Edited. The policies decide on the new call; you do not vote on it.")
                return _back(request)
            if given == request.call["arguments"]:
                raise InvalidEdit("These are the arguments that it has.", field="arguments")
            diff = _diff(request.call["arguments"], given)
        except DecisionError as refused:
            error = refused
    context = {
        "request": request,
        "may": may,
        "why": why,
        "error": error.message if error else "",
        "fields": [_field(name, value, _typed(http, name) if error else None) for name, value in given.items()],
        "as_json": "json" in http.GET or "json" in http.POST,
        "given": (http.POST.get("arguments") if error else None) or json.dumps(given, ensure_ascii=False, indent=2),
        "diff": diff,
        "reason": http.POST.get("reason", ""),
        "reason_max": REASON_MAX,
    }
    return render(http, "approvals/edit.html", context, status=base.status_of(error) if may else 403)


@base.of_request(*base.POSTED)
def ask(http: HttpRequest, request: ApprovalRequest) -> HttpResponse:
    return _done(
        http,
        request,
        "Asked. The answer comes on this page; the time for deciding goes on.",
        lambda: comments.ask_back(
            request_id=request.pk,
            by=base.user_of(http),
            text=http.POST.get("text", ""),
            channel="page",
            now=timezone.now(),
        ),
    )


@base.of_request(*base.POSTED)
def answer(http: HttpRequest, request: ApprovalRequest, comment_id: UUID) -> HttpResponse:
    if not Comment.objects.filter(pk=comment_id, request=request).exists():
        return render(http, "approvals/missing.html", status=404)
    return _done(
        http,
        request,
        "Answered.",
        lambda: comments.answer(
            comment_id=comment_id,
            text=http.POST.get("text", ""),
            answered_by=base.user_of(http),
            now=timezone.now(),
        ),
    )


@base.of_request(*base.POSTED)
def take_back(http: HttpRequest, request: ApprovalRequest) -> HttpResponse:
    return _done(
        http,
        request,
        "Taken back. Your approval does not count any more.",
        lambda: taking_back.take_back(request_id=request.pk, by=base.user_of(http), channel="page", now=timezone.now()),
    )


@base.of_request(*base.BOTH)
def together(http: HttpRequest, request: ApprovalRequest) -> HttpResponse:
    """Like requests of low risk, each with its exact command, decided at once: those that are ticked, and no other."""
    user, now = base.user_of(http), timezone.now()
    results: list[tuple[ApprovalRequest, DecisionError | None]] = []
    error = ""
    if http.method == "POST":
        try:
            results = batch.decide_all(
                request_ids=http.POST.getlist("request"),
                by=user,
                verdict=http.POST.get("verdict", ""),
                reason=http.POST.get("reason", ""),
                channel=batch.CHANNEL,
                now=now,
            )
        except DecisionError as refused:
            error, status = refused.message, base.status_of(refused)
            return render(http, "approvals/together.html", _members(request, user, now, error), status=status)
        failed = [one for one in results if one[1] is not None]
        if not failed:
            messages.success(http, f"Decided: {len(results)} request{'s' if len(results) != 1 else ''}.")
            return HttpResponseRedirect("/approvals/", status=303)
    context = {**_members(request, user, now, error), "results": results}
    return render(http, "approvals/together.html", context, status=409 if results else 200)


def _members(request: ApprovalRequest, user: Any, now: Any, error: str) -> dict[str, Any]:
    return {
        "request": request,
        "members": batch.alike(request, user, now),
        "error": error,
        "reason_max": REASON_MAX,
    }


def _done(http: HttpRequest, request: ApprovalRequest, words: str, act: Any) -> HttpResponse:
    try:
        act()
    except DecisionError as refused:
        messages.error(http, refused.message)
    else:
        messages.success(http, words)
    return _back(request)


def _back(request: ApprovalRequest) -> HttpResponse:
    return HttpResponseRedirect(request.get_absolute_url(), status=303)


def _typed(http: HttpRequest, name: str) -> str | None:
    """What somebody wrote stays in its box when it cannot be taken."""
    sent = http.POST.get(ARGUMENT + name)
    return sent.replace("\r\n", "\n") if sent is not None else None


def _field(name: str, value: Any, typed: str | None) -> Field:
    text, words = argument_text(value)
    text = text if typed is None else typed
    return Field(name=name, text=text, words=words, rows=min(20, max(1, text.count("\n") + 1 + len(text) // 90)))


def _given(http: HttpRequest, request: ApprovalRequest) -> dict[str, Any]:
    """The arguments as they were sent. Raises InvalidEdit where they are not JSON."""
    if "arguments" in http.POST:
        found = _json(http.POST["arguments"], "arguments")
        if not isinstance(found, dict):
            raise InvalidEdit("The arguments are a JSON object.", field="arguments")
        return found
    old = request.call["arguments"]
    return {name: _value(name, value, http.POST.get(ARGUMENT + name)) for name, value in old.items()}


def _value(name: str, old: Any, sent: str | None) -> Any:
    if sent is None:
        return old
    if not isinstance(old, str):
        return _json(sent, name)
    # browsers send every line break as CR LF
    return sent if "\r\n" in old else sent.replace("\r\n", "\n")


def _json(text: str, field: str) -> Any:
    try:
        found = json.loads(text)
        canonical_json(found)
    except RecursionError:
        raise InvalidEdit(f"{field}: nested too deeply.", field=field) from None
    except (ValueError, NotCanonical) as error:
        raise InvalidEdit(f"{field}: not JSON ({error}).", field=field) from None
    return found


def _diff(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Each argument that differs as a unified diff of its lines."""
    lines: list[str] = []
    for name in dict.fromkeys([*before, *after]):
        old = argument_text(before[name])[0].split("\n") if name in before else []
        new = argument_text(after[name])[0].split("\n") if name in after else []
        lines += difflib.unified_diff(old, new, f"{name} now", f"{name} then", n=2, lineterm="")
    return "\n".join(lines)
