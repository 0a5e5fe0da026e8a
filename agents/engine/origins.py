"""Where repositories are, and with what the server goes there."""

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import User

from agents.models import Repository, RepositoryLogin


def clone_arguments(repository: Repository, owner: User) -> dict[str, Any]:
    """Of `workspace.prepare`, for a job of `owner`. What a repository does not say is left out."""
    login = RepositoryLogin.objects.filter(repository=repository, user=owner).first()
    credential = login.credential if login is not None else repository.credential
    arguments = {"url": repository.url, "branch": repository.default_branch}
    arguments |= {"credential": credential} if credential else {}
    return arguments | ({"hosting": repository.hosting} if repository.hosting else {})


def addresses() -> Iterable[str]:
    """Of all repositories."""
    return Repository.objects.order_by().values_list("url", flat=True)
