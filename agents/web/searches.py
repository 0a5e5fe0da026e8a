"""The page of a search: its candidates as a picture and a table, and one of them in full."""

from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from agents.evolution import picture, population
from agents.models import Candidate
from agents.selectors import visible_job
from agents.web.views import page, who
from agents.workflows.diff import kind_of_line

PATCH_MAX_LINES = 400


@page
@require_safe
def search(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """Where it is part=1, what changes while it runs alone; candidate: `1.2`, the best where none is named."""
    job = visible_job(who(request), job_id)
    found = list(Candidate.objects.filter(job=job).order_by("generation", "number").defer("files"))
    direction = job.inputs.get("direction") or population.MINIMISE
    best = picture.best_of(found, direction)
    wanted = request.GET.get("candidate", "")
    shown = next((one for one in found if picture.name_of(one) == wanted), None) if wanted else best
    if wanted and shown is None:
        raise Http404("There is no such candidate.")
    by_id = {one.pk: one for one in found}
    context = {
        "job": job,
        "direction": "lower" if direction == population.MINIMISE else "higher",
        "picture": picture.draw(found, direction),
        "rows": [
            {
                "one": one,
                "name": picture.name_of(one),
                "came": picture.came_of(one),
                "parents": [picture.name_of(by_id[pk]) for pk in one.parents if pk in by_id],
                "best": one is best,
            }
            for one in found
        ],
        "began": picture.came_of(found[0]) if found else "",
        "became": picture.came_of(best) if best is not None else "",
        "best": best,
        "best_name": picture.name_of(best) if best is not None else "",
        "wanted": wanted,
        "shown": shown,
        "shown_name": picture.name_of(shown) if shown is not None else "",
        "lines": _changes(found[0], shown) if shown is not None else [],
    }
    return render(request, "evolution/_live.html" if "part" in request.GET else "evolution/search.html", context)


def _changes(origin: Candidate, shown: Candidate) -> list[dict[str, str]]:
    """Its patch to where the search began, line by line."""
    lines = population.patch(origin.files, shown.files).splitlines()
    told = [{"text": text, "kind": kind_of_line(text)} for text in lines[:PATCH_MAX_LINES]]
    if len(lines) > PATCH_MAX_LINES:
        told.append({"text": f"… {len(lines) - PATCH_MAX_LINES} more lines", "kind": "head"})
    return told
