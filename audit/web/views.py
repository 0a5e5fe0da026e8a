"""The explorer: what happened, as sentences and as signed bytes, with proofs. Nothing here writes, but exports leave
their own record.
"""

import json
from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import PermissionDenied
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from audit import bundle as bundles
from audit.actor import Actor
from audit.api.permissions import may_read
from audit.checking.trust import Trust
from audit.errors import AuditError
from audit.kinds import Event
from audit.models import Record
from audit.prove import Proof, prove
from audit.selectors import records
from audit.web import proofs
from audit.web.filters import PRESETS, SHOWN, Asked, found
from audit.web.state import picture
from audit.words import names_of, sentence, who

View = Callable[..., HttpResponse]


def auditor(view: View) -> View:
    """Signed in, and allowed to read the log (as the API has it). The pages are stored nowhere."""

    @wraps(view)
    @login_required
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not may_read(request.user):
            raise PermissionDenied("The audit log is for auditors.")
        response = view(request, *args, **kwargs)
        response["Cache-Control"] = "no-store"
        response["Referrer-Policy"] = "same-origin"
        return response

    return wrapped


@require_safe
@auditor
def explorer(request: HttpRequest) -> HttpResponse:
    """The list, newest first, by what is asked for."""
    asked, slow = Asked.of(request.GET), False
    try:
        lines = found(asked, older_than=_cursor(request))
    except OperationalError:
        lines, slow = [], True
    more = len(lines) > SHOWN
    shown = [(one, json.loads(one.body)) for one in lines[:SHOWN]]
    names = names_of(facts for _, facts in shown)
    context = {
        "asked": asked,
        "filters": asked.query(),
        "slow": slow,
        "lines": [(one, sentence(facts, names), who(facts["actor"], names)) for one, facts in shown],
        "older": shown[-1][0].pk if more else None,
        "paged": "older" in request.GET,
        "presets": [("", "Everything"), *((name, label) for name, (label, _) in PRESETS.items())],
        "events": sorted(Event),
        "picture": picture(timezone.now()),
    }
    return render(request, "audit/explorer.html", context, status=400 if asked.errors else 200)


@require_safe
@auditor
def record(request: HttpRequest, record_id: UUID) -> HttpResponse:
    """One record: readable, raw, and its proof, checked."""
    found = _record(record_id)
    facts = json.loads(found.body)
    names = names_of([facts])
    shown, missing = None, ""
    try:
        shown = proofs.shown(prove(record_id), _verifiers())
    except AuditError as error:
        missing = str(error)
    context = {
        "record": found,
        "facts": facts,
        "sentence": sentence(facts, names),
        "who": who(facts["actor"], names),
        "context": [(name, _plain(value)) for name, value in (facts.get("context") or {}).items()],
        "payloads": [
            (part.slot, None if part.value is None else _plain(json.loads(part.value))) for part in found.payloads.all()
        ],
        "signature": bytes(found.signature).hex(),
        "proof": shown,
        "missing": missing,
        "job": _job(facts),
    }
    return render(request, "audit/record.html", context)


@require_safe
@auditor
def proof(request: HttpRequest, record_id: UUID) -> HttpResponse:
    """The tlog-proof as a file."""
    _record(record_id)
    try:
        made: Proof = prove(record_id)
    except AuditError as error:
        return HttpResponse(f"{error}\n", content_type="text/plain; charset=utf-8", status=409)
    response = HttpResponse(made.text, content_type="text/plain; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{record_id}.tlog-proof"'
    return response


@require_safe
@auditor
def bundle(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """All of a job's records with their proofs, as a ZIP that an auditor opens offline. The export is on record."""
    try:
        content = bundles.of_job(str(job_id), actor=Actor.user(_pk(request.user)))
    except AuditError as error:
        return HttpResponse(f"{error}\n", content_type="text/plain; charset=utf-8", status=409)
    response = HttpResponse(content, content_type="application/zip")
    response["Content-Disposition"] = f'attachment; filename="countersign-{job_id}.zip"'
    return response


def _record(record_id: UUID) -> Record:
    found = records().filter(pk=record_id).prefetch_related("payloads").first()
    if found is None:
        raise Http404("There is no such record.")
    return found


def _verifiers() -> list[Any]:
    verifier = Trust.from_settings().verifier
    return [verifier] if verifier else []


def _cursor(request: HttpRequest) -> UUID | None:
    try:
        return UUID(request.GET["older"])
    except (KeyError, ValueError):
        return None


def _job(facts: dict[str, Any]) -> str:
    """The job that the record belongs to, where its facts say."""
    context = facts.get("context") or {}
    of_job = facts["target"]["type"] == "job"
    named = facts["target"]["id"] if of_job else context.get("job") or context.get("parent") or ""
    try:
        return str(UUID(str(named)))
    except ValueError:
        return ""


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _pk(user: Any) -> int:
    assert isinstance(user, AbstractBaseUser)
    return int(user.pk)
