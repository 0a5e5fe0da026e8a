"""The page of a map's items."""

from uuid import UUID

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from agents.models import MapItem, Step
from agents.selectors import visible_job, visible_step
from agents.web.labels import step_badge, step_label
from agents.web.maps import item_lines, progress_of
from agents.web.views import page, who
from agents.web.words import first_line, readable

PAGE_SIZE = 50


@page
@require_safe
def items(request: HttpRequest, job_id: UUID, key: str) -> HttpResponse:
    """The items that have ended, by their place in the list; `?failed=1`: those that failed."""
    job = visible_job(who(request), job_id)
    step = visible_step(who(request), job_id, key)
    if step.kind != Step.Kind.MAP:
        raise Http404("This step has no items.")
    failed = request.GET.get("failed") == "1"
    rows = MapItem.objects.filter(step=step, **({"ok": False} if failed else {})).order_by("index")
    current = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    context = {
        "job": job,
        "title": first_line(readable(job.goal), 120),
        "step": step,
        "label": step_label(step),
        "badge": step_badge(step),
        "progress": progress_of([step])[step.pk],
        "failed": failed,
        "lines": item_lines(current.object_list),
        "current": current,
    }
    return render(request, "jobs/items.html", context)
