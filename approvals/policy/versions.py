"""Versions of policies: drafted as a copy, checked, published in one transaction, retired."""

import hashlib
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Max

from approvals.errors import InvalidCondition, InvalidPolicy, NotADraft
from approvals.models import Policy, PolicyRule, PolicyVersion
from approvals.policy import conditions
from approvals.policy.match import valid
from audit.actor import Actor, Target
from audit.append import record
from audit.canonical import canonical_json
from audit.kinds import Event

Status = PolicyVersion.Status
SETUP = Actor.system("setup")
_COPIED = ("order", "name", "tools", "condition", "effect", "reason", "approvers_id", "quorum", "expires_s")


@transaction.atomic
def new_draft(policy: Policy, *, source: PolicyVersion | None = None, by: User | None) -> PolicyVersion:
    """A new draft of `policy`: a copy of `source`'s rules, or empty. `by` None: the server itself."""
    Policy.objects.select_for_update().get(pk=policy.pk)
    latest = policy.versions.aggregate(latest=Max("number"))["latest"] or 0
    draft = PolicyVersion.objects.create(
        policy=policy, number=latest + 1, created_by=by, notes=f"From version {source.number}." if source else ""
    )
    if source is not None:
        PolicyRule.objects.bulk_create(
            PolicyRule(version=draft, **{name: getattr(rule, name) for name in _COPIED}) for rule in source.rules.all()
        )
    record(
        Event.POLICY_DRAFTED,
        actor=_actor(by),
        target=_target(draft),
        context={"policy": policy.name, "version": draft.number, "source": source.number if source else None},
    )
    return draft


@transaction.atomic
def publish(version_id: UUID, *, by: User | None, now: datetime) -> PolicyVersion:
    """Puts a draft in force and retires what was. From the commit on, every evaluation goes by it.

    Raises:
        NotADraft: it was published before.
        InvalidPolicy: a rule could never work; `problems` names each.
        PolicyVersion.DoesNotExist
    """
    version = PolicyVersion.objects.select_related("policy").get(pk=version_id)
    Policy.objects.select_for_update().get(pk=version.policy_id)
    version = PolicyVersion.objects.select_for_update(of=("self",)).select_related("policy").get(pk=version_id)
    if version.status != Status.DRAFT:
        raise NotADraft(f"{version} is {version.status}; make a new draft from it.")
    found = problems(version)
    if found:
        raise InvalidPolicy("This draft cannot be published.", problems=found)
    for old in PolicyVersion.objects.select_related("policy").filter(policy=version.policy, status=Status.PUBLISHED):
        _retire(old, by=by)
    PolicyVersion.objects.filter(pk=version.pk, status=Status.DRAFT).update(
        status=Status.PUBLISHED, published_by=by, published_at=now
    )
    rules = rules_json(version)
    record(
        Event.POLICY_PUBLISHED,
        actor=_actor(by),
        target=_target(version),
        context={
            "policy": version.policy.name,
            "version": version.number,
            "rules": len(rules),
            "rules_sha256": hashlib.sha256(canonical_json(rules)).hexdigest(),
        },
        payload={"rules": rules},
    )
    version.refresh_from_db()
    return version


@transaction.atomic
def retire(version_id: UUID, *, by: User | None) -> PolicyVersion:
    """Takes a published version out of force with nothing in its place: then this policy has no say.

    Raises:
        NotADraft: it is not published.
        PolicyVersion.DoesNotExist
    """
    version = PolicyVersion.objects.select_for_update(of=("self",)).select_related("policy").get(pk=version_id)
    if version.status != Status.PUBLISHED:
        raise NotADraft(f"{version} is {version.status}, not published.")
    _retire(version, by=by)
    version.refresh_from_db()
    return version


def problems(version: PolicyVersion) -> list[tuple[str, str]]:
    """What keeps the version from being published, as (rule name, message)."""
    rules = list(version.rules.select_related("approvers").order_by("order"))
    found = [("", "A policy needs a rule.")] if not rules else []
    for rule in rules:
        found += [(rule.name, message) for message in rule_problems(rule)]
    return found


def rule_problems(rule: PolicyRule) -> list[str]:
    """What is wrong with one rule; its group's members are counted as they are now."""
    found: list[str] = []
    if not rule.tools:
        found.append("It names no tool.")
    found += [f"{pattern!r} is no pattern of tool names." for pattern in rule.tools if not valid(pattern)]
    try:
        conditions.check(rule.condition)
    except InvalidCondition as error:
        found.append(f"Condition, {error.message}")
    if rule.effect == PolicyRule.Effect.ASK:
        found += _group_problems(rule)
    return found


def rules_json(version: PolicyVersion) -> list[dict[str, Any]]:
    """The rules as facts, in their order; groups by primary key."""
    return [{name: getattr(rule, name) for name in _COPIED} for rule in version.rules.order_by("order")]


def _group_problems(rule: PolicyRule) -> list[str]:
    if rule.approvers is None:
        return ["It asks, and names no group of approvers."]
    members = rule.approvers.user_set.filter(is_active=True).count()
    if members >= rule.quorum:
        return []
    have = "nobody active" if not members else f"{members} active member{'s' if members != 1 else ''}"
    return [f"It needs {rule.quorum} to agree, and the group {rule.approvers.name!r} has {have}."]


def _retire(version: PolicyVersion, *, by: User | None) -> None:
    PolicyVersion.objects.filter(pk=version.pk, status=Status.PUBLISHED).update(status=Status.RETIRED)
    record(
        Event.POLICY_RETIRED,
        actor=_actor(by),
        target=_target(version),
        context={"policy": version.policy.name, "version": version.number},
    )


def _actor(by: User | None) -> Actor:
    return SETUP if by is None else Actor.user(by.pk)


def _target(version: PolicyVersion) -> Target:
    return Target(type="policy_version", id=str(version.pk))
