"""What a user sees. Everything that lists or opens jobs and repositories for a person asks here.

A user sees what is theirs, what was shared with them or their groups (guardian's `view_job`, `view_repository`), and
everything where they hold that permission on the whole server. Superusers see everything. For anybody else a thing
does not exist.
"""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Q, QuerySet
from guardian.models import GroupObjectPermission, UserObjectPermission
from guardian.shortcuts import get_objects_for_user

from agents.errors import NotAllowed, NotVisible, UnknownAgent, UnknownRepository
from agents.models import Agent, Job, Memory, PromptVersion, Repository, Step
from approvals.selectors import visible as visible_requests
from tools.models import ToolDefinition


def visible_jobs(user: User | AnonymousUser) -> QuerySet[Job]:
    """Jobs that the user may see, newest first."""
    jobs = Job.objects.select_related("agent", "repository", "owner", "tenant")
    if not user.is_authenticated or not user.is_active:
        return jobs.none()
    if user.is_superuser:
        return jobs
    if user.has_perm("agents.view_job"):  # all of them
        return jobs
    return jobs.filter(Q(owner=user) | Q(pk__in=_shared_jobs(user)))


def of_kinds(jobs: QuerySet[Job], kinds: Collection[str]) -> QuerySet[Job]:
    """Those of the kinds that were asked for; where none was, all but turns of conversations, which are read there."""
    return jobs.filter(kind__in=kinds) if kinds else jobs.exclude(kind=Job.Kind.CHAT)


def _shared_jobs(user: User) -> list[UUID]:
    """Those that were shared with the user or their groups. By guardian's rows alone, which are few: guardian's own
    query reads all jobs where there are a million."""
    which = {"permission__codename": "view_job", "permission__content_type__app_label": "agents"}
    by_user = UserObjectPermission.objects.filter(user=user, **which).values_list("object_pk")
    by_group = GroupObjectPermission.objects.filter(group__user=user, **which).values_list("object_pk")
    return [UUID(pk) for (pk,) in by_user.union(by_group)]


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


def known_steps(user: User | AnonymousUser) -> QuerySet[Step]:
    """Steps of jobs that the user may see, and those that people approved and whose request they may see."""
    approved = visible_requests(user).filter(kind="approval", state="approved").values("pk")
    in_jobs = visible_jobs(user).order_by().values("pk")
    return Step.objects.filter(Q(job__in=in_jobs) | Q(approval_id__in=approved)).select_related("job__owner")


def settleable_step(user: User | AnonymousUser, **which: Any) -> Step:
    """A step, by its columns, about which the user may say whether it happened: of a job that they may change, or one
    that people approved, where who of them may say so is checked when they do.

    Raises:
        NotVisible, NotAllowed
    """
    step = None if "\x00" in str(which.get("key")) else known_steps(user).filter(**which).first()
    if step is None:
        raise NotVisible("There is no such step.")
    if not may_settle(user, step):
        raise NotAllowed("This job was shared with you for reading only.")
    return step


def may_settle(user: User | AnonymousUser, step: Step) -> bool:
    """Of a step that they know: see `settleable_step`."""
    return step.approval_id is not None or may_change(user, step.job)


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


def agent_named(name: str) -> Agent:
    """Raises UnknownAgent, also where it is switched off."""
    agent = usable_agents().filter(name=name).first()
    if agent is None:
        raise UnknownAgent(f"There is no enabled agent {name!r}.", field="agent")
    return agent


def repository_named(name: str, user: User) -> Repository:
    """Raises UnknownRepository, also where the user may not use it."""
    repository = visible_repositories(user).filter(name=name).first()
    if repository is None:
        raise UnknownRepository(f"There is no repository {name!r} that you may use.", field="repository")
    return repository


def recorded_about(job_id: str) -> list[UUID | str]:
    """Ids of what the audit log holds of a job besides the job itself: its steps, what was learned from it, the versions
    of prompts that it asked by, and the tools by others that it called, by name."""
    steps = Step.objects.filter(job_id=job_id)
    by_others = ToolDefinition.objects.filter(name__in=steps.order_by().values("tool"))
    return [
        *steps.order_by("seq").values_list("pk", flat=True),
        *Memory.objects.filter(job_id=job_id).order_by("created_at").values_list("pk", flat=True),
        *PromptVersion.objects.filter(uses__job_id=job_id).distinct().values_list("pk", flat=True),
        *by_others.order_by("name").values_list("name", flat=True),
    ]
