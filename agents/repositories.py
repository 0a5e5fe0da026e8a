"""Adding repositories."""

from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from agents.errors import InvalidInput, NotAllowed
from agents.models import Repository
from agents.payload import RepositoryInput, parse
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event
from tools import registry
from tools.errors import ToolError

PREPARE = "workspace.prepare"


def create_repository(payload: Any, *, user: User, now: datetime) -> Repository:
    """Adds a repository that the user owns (see `agents.payload.RepositoryInput`).

    Raises:
        NotAllowed: the user lacks `agents.add_repository`.
        InvalidInput
    """
    if not user.has_perm("agents.add_repository"):
        raise NotAllowed("You may not add repositories.")
    given = parse(RepositoryInput, payload)
    check_address(given.url, given.default_branch)
    try:
        with transaction.atomic():
            repository = Repository.objects.create(
                name=given.name, url=given.url, default_branch=given.default_branch, owner=user, created_at=now
            )
            record(
                Event.ADMIN_CHANGED,
                actor=Actor.user(user.pk),
                target=Target(type="repository", id=str(repository.pk)),
                context={"action": "added", "name": repository.name},
                payload={"url": repository.url, "default_branch": repository.default_branch},
            )
    except IntegrityError:
        raise InvalidInput(f"The name {given.name!r} is taken.", field="name") from None
    return repository


def check_address(url: str, branch: str) -> None:
    """Would `workspace.prepare` take this address and branch? The tool's own rules decide, here as when it runs.

    Raises:
        InvalidInput: field `url` or `default_branch`.
    """
    if not url.isprintable():
        raise InvalidInput("Must not hold control or invisible characters.", field="url")
    try:
        well_formed = urlsplit(url).port != 0
    except ValueError:
        well_formed = False
    if not well_formed:
        raise InvalidInput("Is not a URL.", field="url")
    try:
        registry.validate(registry.get(PREPARE), {"url": url, "branch": branch})
    except ToolError as error:
        where = str(error.details.get("field", ""))
        raise InvalidInput(error.message, field="default_branch" if where.endswith("branch") else "url") from None
