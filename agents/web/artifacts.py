"""A file that a job keeps, for whoever sees the job."""

from uuid import UUID

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from agents.artifacts import download, visible_artifact
from agents.errors import Gone
from agents.selectors import visible_job
from agents.web.views import page, who
from agents.web.words import readable


@page
@require_safe
def artifact(request: HttpRequest, job_id: UUID, artifact_id: UUID) -> HttpResponseBase:
    """The content as a file to save; a page that says so where it is no longer kept."""
    user = who(request)
    found = visible_artifact(user, job_id, artifact_id)
    try:
        return download(found)
    except Gone as error:
        job = visible_job(user, job_id)
        context = {"job": job, "name": readable(found.name), "why": error.message}
        return render(request, "jobs/artifact_gone.html", context, status=410)
