"""Whose work a job is, and how many places its tenant, its user and everybody have."""

import time
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import IntegrityError, connection, transaction
from django.db.models import QuerySet
from psycopg import Cursor

from agents.connections import raw_connection
from agents.errors import InvalidInput, NotAllowed, QueueFull, UnknownTenant
from agents.models import Tenant
from agents.models.tenant import DEFAULT
from agents.payload import TenantChange, TenantInput
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

# Submissions that may be under way at once without seeing each other: nearer to a bound than this they go one by one.
MARGIN = 100
# A bound that is farther away than this many places cannot be reached within `FAR_FOR_S`, so that nobody counts anew.
FAR, FAR_FOR_S = 5000, 1.0

# An index-only scan of `job_unfinished`; its predicate is the index's.
_UNFINISHED = """
SELECT count(*), count(*) FILTER (WHERE tenant_id = %s), count(*) FILTER (WHERE owner_id = %s)
  FROM agents_job WHERE NOT (state IN ('cancelled', 'compensated', 'failed', 'succeeded'))
"""


# Of a user: the tenants that they belong to, and the default one. Asked at every submission, past the ORM.
_POSSIBLE = f"""
SELECT {", ".join(f"t.{field.column}" for field in Tenant._meta.concrete_fields)} FROM agents_tenant t
 WHERE t.name = %s OR EXISTS (
   SELECT FROM agents_tenant_groups g JOIN auth_user_groups m ON m.group_id = g.group_id
    WHERE g.tenant_id = t.id AND m.user_id = %s)
 LIMIT 2
"""  # noqa: S608  its parts are columns


def default_tenant() -> Tenant:
    """The tenant of those who belong to none; made when it is first needed."""
    return Tenant.objects.filter(name=DEFAULT).first() or Tenant.objects.get_or_create(name=DEFAULT)[0]


def tenants_of(user: User) -> QuerySet[Tenant]:
    """Those that the user belongs to, by name."""
    return Tenant.objects.filter(groups__user=user).distinct()


def visible_tenants(user: User) -> QuerySet[Tenant]:
    """Staff who may view tenants see all; others their own."""
    return Tenant.objects.all() if user.has_perm("agents.view_tenant") else tenants_of(user)


def tenant_for(user: User, name: str | None = None) -> Tenant:
    """The tenant of a new job: the one named, else the user's only one, else the default.

    Raises:
        UnknownTenant: the user does not belong to it. The default is for those who belong to none.
    """
    if name is None:
        with connection.wrap_database_errors:
            possible = Cursor(raw_connection()).execute(_POSSIBLE, [DEFAULT, user.pk], prepare=True).fetchall()
        if len(possible) == 1:
            names = [field.attname for field in Tenant._meta.concrete_fields]
            return Tenant.from_db(connection.alias, names, possible[0])
    own = list(tenants_of(user))
    if name is None:
        return own[0] if len(own) == 1 else default_tenant()
    for tenant in own:
        if tenant.name == name:
            return tenant
    if name == DEFAULT and (not own or user.is_superuser):
        return default_tenant()
    found = Tenant.objects.filter(name=name).first() if user.is_superuser else None
    if found is None:
        raise UnknownTenant(f"You do not belong to a tenant {name!r}.", field="tenant")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bound:
    unfinished: int
    most: int
    whose: str
    retry_after_s: int

    @property
    def reached(self) -> bool:
        return self.unfinished >= self.most

    @property
    def near(self) -> bool:
        return self.unfinished + MARGIN >= self.most

    @property
    def far(self) -> bool:
        return self.unfinished + FAR < self.most


# Until when (`time.monotonic()`) every bound of a tenant and user was known to be far away.
_far_until: dict[tuple[int, int, int, int | None, int], float] = {}


def make_room(tenant: Tenant, owner: User) -> None:
    """Counts unfinished jobs in the submitting transaction. Near a bound under a lock, so that two submissions cannot
    both take the last place; far from all of them once a second.

    Raises:
        QueueFull: with what is full.
    """
    most, of_user = settings.JOBS_QUEUED_MAX, settings.JOBS_QUEUED_MAX_PER_USER
    whose = (tenant.pk, owner.pk, most, tenant.jobs_queued_max, of_user)
    if time.monotonic() < _far_until.get(whose, 0.0):
        return
    bounds = _bounds(tenant, owner)
    if all(bound.far for bound in bounds):
        if len(_far_until) > 10_000:
            _far_until.clear()
        _far_until[whose] = time.monotonic() + FAR_FOR_S
        return
    if any(bound.near for bound in bounds):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('agents.intake'))")
        bounds = _bounds(tenant, owner)
    for bound in bounds:
        if bound.reached:
            raise QueueFull(
                f"{bound.whose} {bound.unfinished} unfinished jobs; {bound.most} are allowed.",
                retry_after_s=bound.retry_after_s,
            )


def _bounds(tenant: Tenant, owner: User) -> list[_Bound]:
    with connection.cursor() as cursor:
        cursor.execute(_UNFINISHED, [tenant.pk, owner.pk])
        everybody, tenants, users = cursor.fetchone()
    bounds = [_Bound(unfinished=everybody, most=settings.JOBS_QUEUED_MAX, whose="The server has", retry_after_s=30)]
    if tenant.jobs_queued_max is not None:
        whose = f"The tenant {tenant.name} has"
        bounds.append(_Bound(unfinished=tenants, most=tenant.jobs_queued_max, whose=whose, retry_after_s=15))
    if settings.JOBS_QUEUED_MAX_PER_USER:
        most = settings.JOBS_QUEUED_MAX_PER_USER
        bounds.append(_Bound(unfinished=users, most=most, whose="You have", retry_after_s=15))
    return bounds


def create_tenant(given: TenantInput, *, by: User) -> Tenant:
    """Adds a tenant, with its record.

    Raises:
        NotAllowed: `by` lacks `agents.add_tenant`.
        InvalidInput: the name is taken, or there is no such group.
    """
    if not by.has_perm("agents.add_tenant"):
        raise NotAllowed("You may not add tenants.")
    groups = _groups(given.groups)
    fields = given.model_dump(exclude={"groups"})
    try:
        with transaction.atomic():
            tenant = Tenant.objects.create(**fields)
            tenant.groups.set(groups)
            _recorded(tenant, "added", given.model_dump(mode="json"), by)
    except IntegrityError:
        raise InvalidInput(f"The name {given.name!r} is taken.", field="name") from None
    return tenant


@transaction.atomic
def change_tenant(tenant: Tenant, given: TenantChange, *, by: User) -> None:
    """Changes what is given, with its record.

    Raises:
        NotAllowed: `by` lacks `agents.change_tenant`.
        InvalidInput: there is no such group.
    """
    if not by.has_perm("agents.change_tenant"):
        raise NotAllowed("You may not change tenants.")
    changes = given.model_dump(exclude_unset=True)
    wrong = [name for name in ("weight", "groups") if name in changes and changes[name] is None]
    if wrong:
        raise InvalidInput("Must not be null.", field=wrong[0])
    groups = changes.pop("groups", None)
    if changes:
        Tenant.objects.filter(pk=tenant.pk).update(**changes)
    if groups is not None:
        tenant.groups.set(_groups(groups))
    _recorded(tenant, "changed", given.model_dump(mode="json", exclude_unset=True), by)


def _groups(names: list[str]) -> list[Group]:
    found = {group.name: group for group in Group.objects.filter(name__in=names)}
    for index, name in enumerate(names):
        if name not in found:
            raise InvalidInput(f"There is no group {name!r}.", field=f"groups[{index}]")
    return list(found.values())


def _recorded(tenant: Tenant, action: str, values: dict[str, Any], by: User) -> None:
    record(
        Event.ADMIN_CHANGED,
        actor=Actor.user(by.pk),
        target=Target(type="tenant", id=str(tenant.pk)),
        context={"action": action, "name": tenant.name},
        payload=values,
    )
