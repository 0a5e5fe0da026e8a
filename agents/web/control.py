"""What people do to jobs on their pages: pause, resume, retry, fork, other arguments, answers about steps in doubt."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from agents.engine import answers, doubt
from agents.engine.cancel import stop_undoing
from agents.engine.control.edit import edit_step, why_not
from agents.engine.control.fork import fork_job
from agents.engine.control.pause import pause_job, resume_job
from agents.engine.control.retry import AGAIN, may_have_happened, retry_job
from agents.errors import AgentsError, InvalidInput, MayHaveHappened
from agents.models import FeedEntry, Job, Step
from agents.payload import EditInput, ForkInput, parse
from agents.selectors import changeable_job, known_steps, may_settle, settleable_step, visible_job, visible_step
from agents.states import StepState
from agents.web.labels import command
from agents.web.steps import pretty
from agents.web.views import REASON_MAX, page, who
from agents.web.words import ago, readable
from audit.actor import Actor
from tools.errors import ToolError

OUTPUT_CHARS = 4000
SHOWN = 50


@page
@require_POST
def pause(request: HttpRequest, job_id: UUID) -> HttpResponse:
    return _simple(request, job_id, pause_job, "The job is paused: what runs goes on to its end, nothing else begins.")


@page
@require_POST
def resume(request: HttpRequest, job_id: UUID) -> HttpResponse:
    return _simple(request, job_id, resume_job, "The job goes on.")


@page
@require_POST
def stop(request: HttpRequest, job_id: UUID) -> HttpResponse:
    return _simple(request, job_id, stop_undoing, "No more is undone; the job says what is left.")


def _simple(request: HttpRequest, job_id: UUID, action: Callable[..., Job], done: str) -> HttpResponse:
    seen = changeable_job(who(request), job_id)
    try:
        action(seen.pk, by=Actor.user(who(request).pk), now=timezone.now())
        messages.success(request, done)
    except AgentsError as error:
        messages.info(request, error.message)
    return redirect(seen)


@page
def retry(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """Asks from where, and about what may have happened; then retries."""
    user = who(request)
    seen = changeable_job(user, job_id)
    steps = list(Step.objects.filter(job=seen, parent__isnull=True).order_by("seq"))
    shown = {
        "job": seen,
        "again": [step for step in steps if step.state in AGAIN],
        "doubtful": may_have_happened(steps),
        "chosen": request.POST.get("from_step", request.GET.get("step", "")),
    }
    if request.method != "POST":
        return render(request, "jobs/retry.html", shown)
    try:
        retry_job(
            seen.pk,
            by=Actor.user(user.pk),
            now=timezone.now(),
            from_step=request.POST.get("from_step", ""),
            did_not_happen=request.POST.getlist("did_not_happen"),
        )
    except MayHaveHappened as error:
        return render(request, "jobs/retry.html", {**shown, "problem": error.message}, status=409)
    except AgentsError as error:
        messages.info(request, error.message)
        return redirect(seen)
    messages.success(request, "The job goes on with what did not succeed.")
    return redirect(seen)


@page
def fork(request: HttpRequest, job_id: UUID, key: str) -> HttpResponse:
    """A new job that begins at this step, perhaps with other arguments."""
    user = who(request)
    seen = visible_job(user, job_id)
    step = visible_step(user, job_id, key)
    plain = step.kind == Step.Kind.CALL and step.tool != "llm.think"
    given = request.POST.get("arguments", _json(step.arguments))
    shown = {"job": seen, "step": step, "plain": plain, "arguments": given}
    if request.method != "POST":
        return render(request, "jobs/fork.html", shown)
    try:
        wish: dict[str, Any] = {"step": step.key}
        if plain and (arguments := _read(given)) != step.arguments:
            wish["arguments"] = arguments
        checked = parse(ForkInput, wish)
        made = fork_job(seen.pk, at=checked.step, by=user, now=timezone.now(), arguments=checked.arguments)
    except (AgentsError, ToolError) as error:
        status = 422 if isinstance(error, InvalidInput) else 409
        return render(request, "jobs/fork.html", {**shown, "problem": error.message}, status=status)
    messages.success(request, f"This is the fork: it begins at {step.key}.")
    return redirect(made)


@page
def edit(request: HttpRequest, job_id: UUID, key: str) -> HttpResponse:
    """Other arguments for a step that has not begun."""
    user = who(request)
    seen = changeable_job(user, job_id)
    step = visible_step(user, job_id, key)
    given = request.POST.get("arguments", _json(step.arguments))
    shown = {"job": seen, "step": step, "arguments": given, "problem": why_not(seen, step)}
    if request.method != "POST":
        return render(request, "jobs/edit.html", shown)
    try:
        checked = parse(EditInput, {"arguments": _read(given)})
        edit_step(step.pk, checked.arguments, by=user, now=timezone.now())
    except AgentsError as error:
        status = 422 if isinstance(error, InvalidInput) else 409
        return render(request, "jobs/edit.html", {**shown, "problem": error.message}, status=status)
    messages.success(request, f"{step.tool} has new arguments, and is decided on anew.")
    return redirect(f"{seen.get_absolute_url()}?step={step.key}")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"This is no JSON: {error}", field="arguments") from None


# ---- steps in doubt ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A step in doubt, and what is known of it. Texts are hostile; hidden characters are written out."""

    step: Step
    command: str
    arguments: str
    began: str
    known: str
    output: str
    may_answer: bool


@page
@require_safe
def doubts(request: HttpRequest) -> HttpResponse:
    """The queue: steps of which nobody can tell whether they happened, the oldest first."""
    user = who(request)
    now = timezone.now()
    steps = known_steps(user).filter(state=StepState.IN_DOUBT, error_code=doubt.NEEDS_PERSON).order_by("started_at")
    shown = [
        Doubt(
            step=step,
            command=command(step),
            arguments=pretty(step.arguments),
            began=ago(step.started_at, now),
            known=readable(step.error),
            output=_output(step),
            may_answer=may_settle(user, step),
        )
        for step in steps[:SHOWN]
    ]
    return render(request, "jobs/doubt.html", {"doubts": shown, "count": steps.count()})


@page
@require_POST
def answer(request: HttpRequest, step_id: UUID) -> HttpResponse:
    """A person says whether a step in doubt happened, and how they know."""
    user = who(request)
    happened, reason = request.POST.get("happened"), request.POST.get("reason", "").strip().replace("\x00", "")
    if happened not in {"yes", "no"}:
        return HttpResponse("`happened` must be yes or no.", status=400, content_type="text/plain")
    if not reason:
        messages.warning(request, "Say how you know: it stands in the audit log.")
        return redirect("web:doubts")
    try:
        step = settleable_step(user, pk=step_id)
        answers.by_person(
            step.pk, happened=happened == "yes", by=Actor.user(user.pk), now=timezone.now(), reason=reason[:REASON_MAX]
        )
        messages.success(request, f"Recorded: {step.tool} {'happened' if happened == 'yes' else 'did not happen'}.")
    except AgentsError as error:
        messages.warning(request, readable(error.message))
    return redirect("web:doubts")


def _output(step: Step) -> str:
    """The end of what the lost attempt wrote."""
    entries = FeedEntry.objects.filter(job_id=step.job_id, step_id=step.pk, kind="log").order_by("-seq")[:100]
    parts = [str(one.data.get("text", "")) for one in entries if one.data.get("attempt") == step.attempt]
    return readable("".join(reversed(parts)))[-OUTPUT_CHARS:]
