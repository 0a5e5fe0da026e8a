"""Which memories a person sees, and which are theirs to decide on."""

from uuid import UUID

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Q, QuerySet

from agents.errors import NotVisible
from agents.memory import recall
from agents.models import Memory
from agents.selectors import visible_repositories

ADMIT, VIEW = "agents.admit_memory", "agents.view_memory"


def visible_memories(user: User | AnonymousUser) -> QuerySet[Memory]:
    """Those of the repositories that the user may see, their own, and everybody's; newest first. Who may view or admit
    memories sees all."""
    memories = Memory.objects.select_related("repository", "agent", "owner", "by", "decided_by", "job").defer("search")
    if not user.is_authenticated or not user.is_active:
        return memories.none()
    if _sees_all(user):
        return memories
    repositories = visible_repositories(user).values("pk")
    return memories.filter(Q(repository__in=repositories) | Q(owner=user) | Q(scope=recall.ALL))


def visible_memory(user: User | AnonymousUser, memory_id: UUID) -> Memory:
    """Raises NotVisible."""
    found = visible_memories(user).filter(pk=memory_id).first()
    if found is None:
        raise NotVisible("There is no such memory.")
    return found


def scope_for(user: User) -> recall.Scope:
    """What a person may search: as `visible_memories`."""
    if _sees_all(user):
        scopes = list(Memory.objects.order_by().values_list("scope", flat=True).distinct())
    else:
        keys = visible_repositories(user).values_list("pk", flat=True)
        scopes = [recall.ALL, recall.person(user.pk), *(recall.repository(pk) for pk in keys)]
    return recall.Scope(scopes=tuple(scopes), any_agent=True)


def _sees_all(user: User) -> bool:
    return user.is_superuser or user.has_perm(VIEW) or user.has_perm(ADMIT)


def may_admit_all(user: User) -> bool:
    return user.is_superuser or user.has_perm(ADMIT)


def may_decide(user: User, memory: Memory) -> bool:
    """May this user admit, reject and forget it: the repository's owner, whose own it is, and who may admit memories."""
    if may_admit_all(user):
        return True
    if memory.repository is not None:
        return memory.repository.owner_id == user.pk
    return memory.owner_id == user.pk
