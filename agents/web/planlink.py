"""The way from a job's page to its plan's."""

from agents.models import Job, Plan


def plan_link(job: Job) -> str:
    """ "" where the job has no plan."""
    return f"{job.get_absolute_url()}plan/" if job.led and Plan.objects.filter(job=job).exists() else ""
