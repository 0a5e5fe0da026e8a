"""Thumbs on a job's page."""

from typing import Any

from django import template

from agents.models import Feedback, Job

register = template.Library()


@register.inclusion_tag("evaluations/_thumbs.html", takes_context=True)
def thumbs(context: Any, job: Job) -> dict[str, Any]:
    """What people thought of a job that has ended, and the form in which one says so oneself."""
    given = list(Feedback.objects.filter(job=job, step=None).select_related("by"))
    mine = next((one for one in given if one.by_id == context["request"].user.pk), None)
    return {
        "job": job,
        "mine": mine,
        "given": [one for one in given if one is not mine],
        "request": context["request"],
        "csrf_token": context.get("csrf_token"),
    }
