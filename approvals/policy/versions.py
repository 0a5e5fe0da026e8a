"""Versions of policies: drafted as a copy, proposed, published by a second person in one transaction, retired.

What a person must do before a draft is published stands in `hindrances`; the same words are shown on pages and raised here.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Max

from approvals.errors import InvalidPolicy, NotADraft, NotProposed, PolicyError, SamePerson
from approvals.models import Policy, PolicyVersion
from approvals.policy import backtest, rules
from approvals.policy.rules import problems, rule_problems, rules_json
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

__all__ = ["new_draft", "problems", "propose", "publish", "replace_rules", "retire", "rule_problems", "rules_json"]

Status = PolicyVersion.Status
SETUP = Actor.system("setup")


@transaction.atomic
def new_draft(
    policy: Policy, *, source: PolicyVersion | None = None, by: User | None, notes: str | None = None
) -> PolicyVersion:
    """A new draft of `policy`: a copy of `source`'s rules, or empty. `by` None: the server itself."""
    Policy.objects.select_for_update().get(pk=policy.pk)
    latest = policy.versions.aggregate(latest=Max("number"))["latest"] or 0
    if notes is None:
        notes = f"From version {source.number}." if source else ""
    draft = PolicyVersion.objects.create(policy=policy, number=latest + 1, created_by=by, notes=notes)
    if source is not None:
        rules.write(draft, rules_json(source))
    record(
        Event.POLICY_DRAFTED,
        actor=_actor(by),
        target=target(draft),
        context={"policy": policy.name, "version": draft.number, "source": source.number if source else None},
    )
    return draft


@transaction.atomic
def replace_rules(version_id: UUID, given: Iterable[dict[str, Any]], *, by: User | None) -> PolicyVersion:
    """Gives a draft other rules, as `rules.facts` describes them, and takes back its proposal.

    Raises:
        NotADraft: it was published before.
        PolicyVersion.DoesNotExist
    """
    version = _locked_draft(version_id)
    version.rules.all().delete()
    rules.write(version, given)
    changed(version, by=by)
    record(
        Event.POLICY_DRAFTED,
        actor=_actor(by),
        target=target(version),
        outcome="edited",
        context={"policy": version.policy.name, "version": version.number, "rules_sha256": rules.sha256(version)},
        payload={"rules": rules_json(version)},
    )
    return version


def changed(version: PolicyVersion, *, by: User | None) -> bool:
    """To be called in the transaction that edited a draft: a proposal of other rules is taken back. True: it was."""
    version.refresh_from_db()
    if not version.proposed_sha256 or version.proposed_sha256 == rules.sha256(version):
        return False
    _unpropose(version, by=by, outcome="edited")
    return True


@transaction.atomic
def propose(version_id: UUID, *, by: User, now: datetime) -> PolicyVersion:
    """Asks a second person to publish exactly these rules.

    Raises:
        NotADraft, InvalidPolicy, BacktestNeeded, NotAcknowledged: as for publishing.
        PolicyVersion.DoesNotExist
    """
    version = _locked_draft(version_id)
    _refuse_problems(version)
    backtest.require(version, now=now)
    digest = rules.sha256(version)
    PolicyVersion.objects.filter(pk=version.pk, status=Status.DRAFT).update(
        proposed_by=by, proposed_at=now, proposed_sha256=digest
    )
    version.refresh_from_db()
    record(
        Event.POLICY_PROPOSED,
        actor=_actor(by),
        target=target(version),
        context={"policy": version.policy.name, "version": version.number, "rules_sha256": digest},
    )
    return version


@transaction.atomic
def withdraw(version_id: UUID, *, by: User) -> PolicyVersion:
    """Takes a proposal back. Raises NotADraft, NotProposed, PolicyVersion.DoesNotExist."""
    version = _locked_draft(version_id)
    if not version.proposed_sha256:
        raise NotProposed(f"{version} is not proposed.")
    _unpropose(version, by=by, outcome="withdrawn")
    version.refresh_from_db()
    return version


@transaction.atomic
def publish(
    version_id: UUID, *, by: User | None, now: datetime, alone: bool = False, digest: str | None = None
) -> PolicyVersion:
    """Puts a draft in force and retires what was. From the commit on, every evaluation goes by it.

    `by` None: the server itself, which needs nobody. alone: the caller has made sure that it gives no leave that the
    version in force does not give (see `approvals.policy.rollback`). digest: of the rules that the caller has looked at.

    Raises:
        NotADraft: it was published before.
        InvalidPolicy: a rule could never work; `problems` names each.
        NotProposed, SamePerson: a second person must publish what somebody proposed, unchanged.
        BacktestNeeded, NotAcknowledged: see `approvals.policy.backtest.require`.
        PolicyVersion.DoesNotExist
    """
    version = _locked_draft(version_id)
    _refuse_problems(version)
    found = rules.sha256(version)
    if digest is not None and digest != found:
        raise NotProposed(f"The rules of {version} have changed since you looked at them.")
    if by is not None and not alone:
        refuse_alone(version, found, by=by)
        backtest.require(version, now=now)
    for old in PolicyVersion.objects.select_related("policy").filter(policy=version.policy, status=Status.PUBLISHED):
        _retire(old, by=by)
    PolicyVersion.objects.filter(pk=version.pk, status=Status.DRAFT).update(
        status=Status.PUBLISHED, published_by=by, published_at=now, shadow_since=None
    )
    given = rules_json(version)
    record(
        Event.POLICY_PUBLISHED,
        actor=_actor(by),
        target=target(version),
        context={
            "policy": version.policy.name,
            "version": version.number,
            "rules": len(given),
            "rules_sha256": found,
            "proposed_by": version.proposed_by_id,
            "alone": by is None or alone or not second_person(),
        },
        payload={"rules": given},
    )
    version.refresh_from_db()
    return version


def second_person() -> bool:
    """Must somebody else than who proposed a draft publish it?"""
    return bool(settings.POLICY_SECOND_PERSON)


def refuse_alone(version: PolicyVersion, digest: str, *, by: User) -> None:
    """Raises NotProposed, SamePerson where a second person is needed and `by` is none."""
    if not second_person():
        return
    if not version.proposed_sha256:
        raise NotProposed("Publishing takes two people: propose this draft, then somebody else publishes it.")
    if version.proposed_sha256 != digest:
        raise NotProposed("The rules have changed since they were proposed: propose them again.")
    if version.proposed_by_id == by.pk:
        raise SamePerson("You proposed this draft, so somebody else publishes it.")


def hindrances(version: PolicyVersion, *, by: User, now: datetime) -> list[str]:
    """Why `by` cannot publish this draft now, in sentences; nothing is changed."""
    found = [f"Rule {name}: {message}" if name else message for name, message in problems(version)]
    for check in (
        lambda: refuse_alone(version, rules.sha256(version), by=by),
        lambda: backtest.require(version, now=now),
    ):
        try:
            check()
        except PolicyError as error:
            found.append(error.message)
    return found


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


def target(version: PolicyVersion) -> Target:
    """How audit records name a version."""
    return Target(type="policy_version", id=str(version.pk))


def _refuse_problems(version: PolicyVersion) -> None:
    found = problems(version)
    if found:
        raise InvalidPolicy("This draft cannot be published.", problems=found)


def _locked_draft(version_id: UUID) -> PolicyVersion:
    version = PolicyVersion.objects.select_related("policy").get(pk=version_id)
    Policy.objects.select_for_update().get(pk=version.policy_id)
    version = PolicyVersion.objects.select_for_update(of=("self",)).select_related("policy").get(pk=version_id)
    if version.status != Status.DRAFT:
        raise NotADraft(f"{version} is {version.status}; make a new draft from it.")
    return version


def _unpropose(version: PolicyVersion, *, by: User | None, outcome: str) -> None:
    PolicyVersion.objects.filter(pk=version.pk, status=Status.DRAFT).update(
        proposed_by=None, proposed_at=None, proposed_sha256=""
    )
    record(
        Event.POLICY_PROPOSED,
        actor=_actor(by),
        target=target(version),
        outcome=outcome,
        context={"policy": version.policy.name, "version": version.number},
    )
    version.refresh_from_db()


def _retire(version: PolicyVersion, *, by: User | None) -> None:
    PolicyVersion.objects.filter(pk=version.pk, status=Status.PUBLISHED).update(status=Status.RETIRED)
    record(
        Event.POLICY_RETIRED,
        actor=_actor(by),
        target=target(version),
        context={"policy": version.policy.name, "version": version.number},
    )


def _actor(by: User | None) -> Actor:
    return SETUP if by is None else Actor.user(by.pk)
