"""The pages of evaluations: the last ones, one with its table and picture; and the thumbs on a job's page."""

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from agents.errors import InvalidInput, NotVisible
from agents.evaluation import picture, running, table
from agents.models import Step
from agents.prompts import feedback
from agents.selectors import visible_jobs
from agents.web.views import page, who

LIST_MAX = 50


@page
@require_safe
def evaluation_list(request: HttpRequest) -> HttpResponse:
    rows = []
    for one in running.visible(who(request)).prefetch_related("trials")[:LIST_MAX]:
        rows.append({"evaluation": one, "lines": table.lines(list(one.trials.all()), one.arms)})
    return render(request, "evaluations/list.html", {"tab": "evaluations", "rows": rows})


@page
@require_safe
def evaluation(request: HttpRequest, evaluation_id: UUID) -> HttpResponse:
    found = running.evaluation_of(who(request), evaluation_id)
    running.go_on(found, now=timezone.now())
    trials = list(found.trials.select_related("job").order_by("case", "repeat", "arm"))
    lines = table.lines(trials, found.arms)
    context = {
        "tab": "evaluations",
        "evaluation": found,
        "lines": lines,
        "differences": table.differences(trials, found.arms),
        "picture": picture.draw(lines),
        "trials": trials,
        "waiting": sum(one.ok is None for one in trials),
        "scripted": any(one.scripted for one in trials),
    }
    return render(request, "evaluations/evaluation.html", context)


@page
@require_POST
def thumb(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """A person's opinion of a job, or of one of its steps."""
    job = visible_jobs(who(request)).filter(pk=job_id).first()
    if job is None:
        raise NotVisible("There is no such job.")
    key = request.POST.get("step", "")
    step = Step.objects.filter(job=job, key=key).first() if key else None
    if key and step is None:
        raise NotVisible("There is no such step.")
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
