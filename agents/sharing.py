"""Letting others see a job."""

from typing import Any

from django.contrib.auth.models import Group, User
from django.db import transaction
from guardian.shortcuts import assign_perm

from agents.errors import InvalidInput, NotAllowed
from agents.models import Job
from agents.payload import ShareInput, parse
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event


@transaction.atomic
def share_job(job: Job, payload: Any, *, by: User) -> User | Group:
    """Gives `agents.view_job` on this job to one user or one group (see `agents.payload.ShareInput`); gives who got it.

    Raises:
        NotAllowed: only the owner and superusers share.
        InvalidInput: both or neither named, or nobody of that name.
    """
    if not (by.is_superuser or job.owner_id == by.pk):
        raise NotAllowed("Only the job's owner shares it.")
    given = parse(ShareInput, payload)
    if (given.user is None) == (given.group is None):
        raise InvalidInput("Name a user or a group.", field="user")
    receiver: User | Group | None
    if given.user is not None:
        receiver = User.objects.filter(username=given.user, is_active=True).first()
        if receiver is None:
            raise InvalidInput(f"There is no user {given.user!r}.", field="user")
    else:
        receiver = Group.objects.filter(name=given.group).first()
        if receiver is None:
            raise InvalidInput(f"There is no group {given.group!r}.", field="group")
    assign_perm("agents.view_job", receiver, job)
    record(
        Event.ADMIN_CHANGED,
        actor=Actor.user(by.pk),
        target=Target(type="job", id=str(job.pk)),
        context={
            "action": "shared",
            "permission": "agents.view_job",
            "with": "user" if isinstance(receiver, User) else "group",
            "id": str(receiver.pk),
        },
    )
    return receiver
