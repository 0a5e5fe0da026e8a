"""The pages of evaluations: the last ones, one with its table and picture, a new one; the thumbs on a job's page."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from agents.errors import AlreadyDone, InvalidInput
from agents.evaluation import picture, running, table
from agents.models import Job, PromptVersion, Trial
from agents.prompts import feedback
from agents.selectors import usable_agents, visible_job, visible_step
from agents.web.views import page, who
from agents.web.words import digits
from approvals.models import ApprovalRequest

LIST_MAX, TRIALS_SHOWN = 50, 100
EXAMPLE = """\
name: chores
cases:
  - name: reports                # with a goal, for agents
    goal: Say which files there are.
    expect: ["text.size() > 0"]
  - name: secret                 # with inputs, for prompts
    inputs:
      diff: |
        +++ b/config.py
        @@ -1 +1,2 @@
        +password = "hunter2hunter2"
    expect: ["answer.verdict == 'request_changes'"]
"""


@page
@require_safe
def evaluation_list(request: HttpRequest) -> HttpResponse:
    found = list(running.visible(who(request))[:LIST_MAX])
    passed = {
        (one["evaluation"], one["arm"]): one
        for one in Trial.objects.filter(evaluation__in=found)
        .order_by()
        .values("evaluation", "arm")
        .annotate(passed=Count("pk", filter=Q(ok=True)), judged=Count("ok"), trials=Count("pk"))
    }
    rows = [{"evaluation": one, "arms": [passed.get((one.pk, arm)) for arm in one.arms]} for one in found]
    return render(request, "evaluations/list.html", {"tab": "evaluations", "rows": rows})


@page
@require_safe
def evaluation(request: HttpRequest, evaluation_id: UUID) -> HttpResponse:
    """Where it is part=1, what changes while it runs alone."""
    found = running.evaluation_of(who(request), evaluation_id)
    trials = list(found.trials.select_related("job").order_by("case", "repeat", "arm"))
    trials.sort(key=lambda one: one.ok is True)  # what asks for a look comes first
    lines = table.lines(trials, found.arms)
    shown = trials if "all" in request.GET else trials[:TRIALS_SHOWN]
    asked = set() if found.finished_at else _asking([one.job for one in trials if one.job and one.ok is None])
    context = {
        "tab": "evaluations",
        "evaluation": found,
        "lines": lines,
        "differences": table.differences(trials, found.arms),
        "picture": picture.draw(lines),
        "count": len(trials),
        "trials": shown,
        "more": len(trials) - len(shown),
        "waiting": sum(one.waiting for one in lines),
        "dropped": sum(one.dropped for one in lines),
        "asked": asked,
        "scripted": any(one.scripted for one in trials),
        "may_cancel": running.may_cancel(who(request), found),
    }
    part = "part" in request.GET
    return render(request, "evaluations/_live.html" if part else "evaluations/evaluation.html", context)


@page
def new(request: HttpRequest) -> HttpResponse:
    """A suite and who tries it."""
    given = {
        "source": request.POST.get("source", EXAMPLE).replace("\r\n", "\n"),
        "arms": request.POST.get("arms", ""),
        "repeats": request.POST.get("repeats", "1"),
    }
    context: dict[str, Any] = {"tab": "evaluations", **given, "suggested": _suggested()}
    if request.method != "POST":
        return render(request, "evaluations/new.html", context)
    try:
        now, repeats = timezone.now(), digits(given["repeats"]) or 0
        made = running.start(given["source"], given["arms"].split(), repeats=repeats, by=who(request), now=now)
    except InvalidInput as error:
        return render(request, "evaluations/new.html", {**context, "problems": error.problems}, status=422)
    running.go_on(made, now=now)
    return redirect(made)


@page
@require_POST
def cancel(request: HttpRequest, evaluation_id: UUID) -> HttpResponse:
    found = running.evaluation_of(who(request), evaluation_id)
    try:
        running.cancel(found, by=who(request), now=timezone.now())
        messages.success(request, "It is being cancelled: nothing new starts, and what runs is asked to stop.")
    except AlreadyDone as error:
        messages.error(request, error.message)
    return redirect(found)


@page
@require_POST
def thumb(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """A person's opinion of a job, or of one of its steps."""
    job, key = visible_job(who(request), job_id), request.POST.get("step", "")
    step = visible_step(who(request), job_id, key) if key else None
    try:
        feedback.give(
            job,
            by=who(request),
            thumb=request.POST.get("thumb", ""),
            comment=request.POST.get("comment", "").strip(),
            step=step,
            now=timezone.now(),
        )
        messages.success(request, "Thank you: it stands in the record.")
    except InvalidInput as error:
        messages.error(request, error.message)
    return redirect(job)


def _asking(jobs: list[Job]) -> set[UUID]:
    """Those that wait for people, themselves or by a job that they started."""
    parents = {str(one.pk): one.pk for one in jobs}
    for child in Job.objects.filter(parent__in=jobs).only("pk", "parent_id"):
        if child.parent_id is not None:
            parents[str(child.pk)] = child.parent_id
    waiting = ApprovalRequest.objects.filter(parent_id__in=parents, state=ApprovalRequest.State.PENDING)
    return {parents[one] for one in waiting.values_list("parent_id", flat=True)}


def _suggested() -> list[str]:
    """Names that can be given as arms."""
    agents = [f"agent:{one.name}" for one in usable_agents().order_by("name")[:20]]
    prompts = PromptVersion.objects.filter(status=PromptVersion.Status.PUBLISHED).select_related("prompt")
    return agents + [f"prompt:{one}" for one in prompts.order_by("prompt__name", "number")[:40]]
