"""What a user sees. Everything that lists or opens jobs and repositories for a person asks here.

A user sees what is theirs, what was shared with them or their groups (guardian's `view_job`, `view_repository`), and
everything where they hold that permission on the whole server. Superusers see everything. For anybody else a thing
does not exist.
"""

from uuid import UUID

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Q, QuerySet
from guardian.shortcuts import get_objects_for_user

from agents.errors import NotAllowed, NotVisible
from agents.models import Agent, Job, Repository, Step


def visible_jobs(user: User | AnonymousUser) -> QuerySet[Job]:
    """Jobs that the user may see, newest first."""
    jobs = Job.objects.select_related("agent", "repository", "owner", "tenant")
    if not user.is_authenticated or not user.is_active:
        return jobs.none()
    if user.is_superuser:
        return jobs
    shared: QuerySet[Job] = get_objects_for_user(user, "agents.view_job").order_by()
    return jobs.filter(Q(owner=user) | Q(pk__in=shared.values("pk")))


def visible_repositories(user: User | AnonymousUser) -> QuerySet[Repository]:
    """Repositories that the user may see and use in jobs, by name."""
    repositories = Repository.objects.select_related("owner")
    if not user.is_authenticated or not user.is_active:
        return repositories.none()
    if user.is_superuser:
        return repositories
    shared: QuerySet[Repository] = get_objects_for_user(user, "agents.view_repository").order_by()
    return repositories.filter(Q(owner=user) | Q(pk__in=shared.values("pk")))


def visible_job(user: User | AnonymousUser, job_id: UUID | str) -> Job:
    """Raises NotVisible, also where there is no such job: a stranger cannot tell."""
    job = visible_jobs(user).filter(pk=job_id).first()
    if job is None:
        raise NotVisible("There is no such job.")
    return job


def visible_step(user: User | AnonymousUser, job_id: UUID | str, key: str) -> Step:
    """Raises NotVisible."""
    job = visible_job(user, job_id)
    step = None if "\x00" in key else Step.objects.filter(job=job, key=key).prefetch_related("attempts").first()
    if step is None:
        raise NotVisible("This job has no such step.")
    return step


def may_change(user: User | AnonymousUser, job: Job) -> bool:
    """Its owner, a superuser, or who was given `agents.change_job` for it (or for all jobs)."""
    return (
        user.is_superuser
        or job.owner_id == user.pk
        or user.has_perm("agents.change_job")
        or user.has_perm("agents.change_job", job)
    )


def changeable_job(user: User | AnonymousUser, job_id: UUID | str) -> Job:
    """Raises NotVisible, NotAllowed."""
    job = visible_job(user, job_id)
    if not may_change(user, job):
        raise NotAllowed("This job was shared with you for reading only.")
    return job


def usable_agents() -> QuerySet[Agent]:
    """Agents that jobs may name."""
    return Agent.objects.filter(enabled=True)
