"""A draft beside what is in force: it is asked about every decision after it was taken, and differences are kept.

Nothing waits for it: decisions are read from the audit log's order by the sweeper, some hundred a pass, so that the way
of a call is as long as without it.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from approvals.errors import InvalidPolicy, NotADraft
from approvals.models import PolicyVersion, ShadowDecision
from approvals.policy import recorded, rules, trial
from approvals.policy.evaluate import ASK, FREEZE, Decision
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

DRAFT = PolicyVersion.Status.DRAFT
KEPT_MAX = 10_000  # differences of one draft; further ones are counted only


@transaction.atomic
def start(version_id: UUID, *, by: User, now: datetime) -> PolicyVersion:
    """From now on the draft is asked too; what it said before is forgotten.

    Raises:
        NotADraft, InvalidPolicy, PolicyVersion.DoesNotExist
    """
    version = _locked(version_id)
    found = rules.problems(version)
    if found:
        raise InvalidPolicy("This draft cannot run in shadow.", problems=found)
    version.differences.all().delete()
    version.shadow_since = now
    version.shadow = _fresh(version)
    version.save(update_fields=["shadow_since", "shadow"])
    _record(version, "started", by=by)
    return version


@transaction.atomic
def stop(version_id: UUID, *, by: User | None) -> PolicyVersion:
    """The draft is asked no more; its differences stay. `by` None: its time is over.

    Raises:
        NotADraft, PolicyVersion.DoesNotExist
    """
    version = _locked(version_id)
    if version.shadow_since is not None:
        version.shadow_since = None
        version.save(update_fields=["shadow_since"])
        _record(version, "ended" if by is None else "stopped", by=by)
    return version


def ends_at(version: PolicyVersion) -> datetime | None:
    """When the shadow ends by itself; None where there is none."""
    if version.shadow_since is None:
        return None
    return version.shadow_since + timedelta(days=settings.POLICY_SHADOW_DAYS)


def run_due(now: datetime) -> int:
    """Goes on with every shadow, and ends those whose time is over; how many decisions were looked at."""
    looked = 0
    running = PolicyVersion.objects.filter(status=DRAFT, shadow_since__isnull=False).values_list("pk", flat=True)
    for version_id in running:
        try:
            looked += _go_on(version_id, now=now)
        except (NotADraft, PolicyVersion.DoesNotExist):
            continue
    return looked


@transaction.atomic
def _go_on(version_id: UUID, *, now: datetime) -> int:
    version = _locked(version_id)
    end = ends_at(version)
    if end is None:
        return 0
    if now >= end:
        stop(version_id, by=None)
        return 0
    state: dict[str, Any] = dict(version.shadow or _fresh(version))
    if state["rules_sha256"] != rules.sha256(version):  # edited: what the old rules said is no longer about it
        version.differences.all().delete()
        state = {**_fresh(version), "position": state["position"]}
    found, position = recorded.source().after(state["position"])
    if position == state["position"]:
        return 0
    policies = trial.beside(version)
    rows = [row for one in found if (row := _difference(version, one, policies)) is not None]
    room = max(0, KEPT_MAX - state["differ"])
    ShadowDecision.objects.bulk_create(rows[:room])
    version.shadow = {
        **state,
        "position": position,
        "compared": state["compared"] + len(found),
        "differ": state["differ"] + len(rows),
    }
    version.save(update_fields=["shadow"])
    return len(found)


def _difference(version: PolicyVersion, one: recorded.Recorded, policies: trial.Policies) -> ShadowDecision | None:
    live = one.decision
    if live.policy == FREEZE:
        return None
    answer = trial.strictest(policies, one.inputs)
    if answer.effect == live.effect and (answer.effect != ASK or _asked(answer) == _asked(live)):
        return None
    return ShadowDecision(
        version=version,
        subject_id=one.subject_id,
        parent_id=one.parent_id,
        tool=one.inputs[0].tool,
        command=one.command,
        live={"effect": live.effect, "policy": live.policy, "rule": live.rule, "path": one.path},
        draft={"effect": answer.effect, "policy": answer.policy, "rule": answer.rule, "reason": answer.reason},
        at=one.at,
    )


def _asked(decision: Decision) -> tuple[Any, ...]:
    roles = sorted((role["group"], role["count"]) for role in decision.roles)
    return decision.approvers_id, decision.quorum, roles


def _fresh(version: PolicyVersion) -> dict[str, Any]:
    return {"position": recorded.source().position(), "compared": 0, "differ": 0, "rules_sha256": rules.sha256(version)}


def _locked(version_id: UUID) -> PolicyVersion:
    version = PolicyVersion.objects.select_for_update(of=("self",)).select_related("policy").get(pk=version_id)
    if version.status != DRAFT:
        raise NotADraft(f"{version} is {version.status}: only drafts run in shadow.")
    return version


def _record(version: PolicyVersion, outcome: str, *, by: User | None) -> None:
    state = version.shadow or {}
    record(
        Event.POLICY_SHADOWED,
        actor=Actor.system("shadow") if by is None else Actor.user(by.pk),
        target=Target(type="policy_version", id=str(version.pk)),
        outcome=outcome,
        context={
            "policy": version.policy.name,
            "version": version.number,
            "rules_sha256": state.get("rules_sha256", ""),
            "compared": state.get("compared", 0),
            "differ": state.get("differ", 0),
        },
    )
