"""What is in force: compiled once a version, cached by process, told apart by the ids of what it consists of.

Whoever decides names the set that its transaction has read, and whoever claims compares it with the set of then: no
decision outlives a publication unseen.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Q
from django.utils import timezone

from approvals.models import FreezeWindow, PolicyRule, PolicyVersion
from approvals.policy import conditions, matching
from approvals.policy.match import Patterns
from tools import labels, registry
from tools.errors import UnknownTool

# The ids of everything that decisions depend on; windows that are over no longer matter.
SET = """SELECT v.id FROM approvals_policyversion v WHERE v.status = 'published'
         UNION ALL SELECT f.revision FROM approvals_freezewindow f WHERE f.enabled AND f.ends_at > now()"""
_TOOLS_MAX = 2000
# Facts that may be otherwise when the call runs: such a decision is made anew then.
_PASSING = ("first_use", "seen", "provenance", "time", "spent:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A compiled rule. asking: what a request copies from it."""

    name: str
    tools: Patterns
    matcher: matching.Matcher
    condition: str
    effect: str
    reason: str
    approvers_id: int | None
    quorum: int
    expires_s: int
    constraints: dict[str, Any]
    gives: frozenset[str]
    reads: frozenset[str]
    asking: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A version's rules, in their order; found by tool at once."""

    label: str
    version_id: str
    rules: tuple[Rule, ...]
    _by_tool: dict[str, tuple[Rule, ...]] = field(default_factory=dict)

    def about(self, tool: str) -> tuple[Rule, ...]:
        """The rules for this tool, in their order."""
        found = self._by_tool.get(tool)
        if found is None:
            found = tuple(rule for rule in self.rules if rule.tools.fit(tool))
            if len(self._by_tool) < _TOOLS_MAX:  # names come from plans, and need not be tools
                self._by_tool[tool] = found
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """A compiled freeze window."""

    name: str
    starts_at: datetime
    ends_at: datetime
    environments: Patterns | None
    repositories: Patterns | None
    tools: Patterns
    effects: frozenset[str]
    effect: str
    reason: str
    approvers_id: int | None
    quorum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What the rules ask for that can fit calls of one tool and effect. facts: to look up; passing: decisions hold for their moment only; per_call:
    calls of the same risk may have different answers."""

    facts: frozenset[str]
    passing: bool
    per_call: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What is in force by one set of ids. Shared by threads, and never changed but for its indexes."""

    versions: frozenset[UUID] = frozenset()
    digest: str = ""
    policies: tuple[Policy, ...] = ()
    freezes: tuple[Freeze, ...] = ()
    _needs: dict[tuple[str, str], Needs] = field(default_factory=dict)

    def needs(self, tool: str, effect: str) -> Needs:
        """What the rules ask for that can fit a call of this tool and effect."""
        found = self._needs.get((tool, effect))
        if found is None:
            found = self._needed(tool, effect)
            if len(self._needs) < _TOOLS_MAX:
                self._needs[tool, effect] = found
        return found

    def frozen(self, tool: str, now: datetime) -> bool:
        """May a freeze window that holds now be about this tool? Then whatever was decided before is decided anew."""
        return any(freeze.starts_at <= now < freeze.ends_at and freeze.tools.fit(tool) for freeze in self.freezes)

    def _needed(self, tool: str, effect: str) -> Needs:
        carries = _may_carry(tool)
        rules = [
            rule
            for policy in self.policies
            for rule in policy.about(tool)
            if rule.matcher.concerns(effect, carries) and conditions.concerns(rule.condition, tool)
        ]
        facts = frozenset().union(*(rule.reads for rule in rules))
        reading = any(conditions.reads_arguments(rule.condition) for rule in rules)
        return Needs(
            facts=facts,
            passing=any(fact.startswith(_PASSING) for fact in facts),
            per_call=reading or bool(facts & {"programs", "branch", "network", "secrets", "carries", "risk_score"}),
        )


# Replaced as a whole, never changed: threads may share it.
_cached = Published()


def ids() -> frozenset[UUID]:
    """What is in force as this transaction sees it now. One small query."""
    with connection.cursor() as cursor:
        cursor.execute(SET)
        return frozenset(row[0] for row in cursor.fetchall())


def of(seen: frozenset[UUID]) -> Published:
    """The compiled rules of this set. Published versions never change (a trigger holds it), and a window that is
    changed gets another id, so that the ids say all."""
    global _cached
    cached = _cached
    if seen == cached.versions and cached.digest:
        return cached
    loaded, whole = _load(seen)
    if whole:
        _cached = loaded
    return loaded


def digest_of(seen: Iterable[UUID]) -> str:
    """Tells sets apart, in 32 characters; of the set that is cached for nothing."""
    given = seen if isinstance(seen, frozenset) else frozenset(seen)
    cached = _cached
    return cached.digest if cached.digest and cached.versions == given else _digest(given)


def compiled(label: str, version_id: str, rules: Iterable[PolicyRule]) -> Policy:
    """A policy of these rules, which need not be rows of the database."""
    return Policy(label=label, version_id=version_id, rules=tuple(_rule(rule) for rule in rules))


def _may_carry(tool: str) -> frozenset[str]:
    try:
        return labels.may_be(registry.get(tool))
    except UnknownTool:
        return labels.LABELS


def _digest(seen: frozenset[UUID]) -> str:
    return hashlib.sha256("".join(sorted(one.hex for one in seen)).encode()).hexdigest()[:32]


def _load(seen: frozenset[UUID]) -> tuple[Published, bool]:
    """(what is in force by this set, whether it is exactly that)."""
    versions = (
        PolicyVersion.objects.filter(pk__in=seen)
        .select_related("policy")
        .prefetch_related("rules__roles__group")
        .order_by("policy__name")
    )
    policies = [
        compiled(str(one), str(one.pk), sorted(one.rules.all(), key=lambda rule: rule.order)) for one in versions
    ]
    windows: Sequence[FreezeWindow] = list(FreezeWindow.objects.filter(revision__in=seen))
    whole = len(policies) + len(windows) == len(seen)
    if not whole:  # a window was changed just now: by what is there now, and for this decision only
        windows = list(FreezeWindow.objects.filter(Q(enabled=True), ends_at__gt=timezone.now()))
    freezes = tuple(_freeze(window) for window in windows)
    made = Published(versions=seen, digest=_digest(seen), policies=tuple(policies), freezes=freezes)
    return made, whole


def _rule(rule: PolicyRule) -> Rule:
    constraints = dict(rule.constraints or {})
    gives = frozenset(constraints.pop("gives", ()))
    matcher = _matcher(rule)
    return Rule(
        name=rule.name,
        tools=Patterns(rule.tools),
        matcher=matcher,
        condition=rule.condition,
        effect=str(rule.effect),
        reason=rule.reason,
        approvers_id=rule.approvers_id,
        quorum=rule.quorum,
        expires_s=rule.expires_s,
        constraints=constraints,
        gives=gives,
        reads=matcher.reads | conditions.reads(rule.condition),
        asking=_asking(rule),
    )


def _matcher(rule: PolicyRule) -> matching.Matcher:
    """Of a match that cannot be compiled (rows written past the checks): an allow rule fits nothing, others everything."""
    if matching.problems(rule.match):
        return matching.NOTHING if rule.effect == PolicyRule.Effect.ALLOW else matching.ANYTHING
    return matching.compiled(rule.match)


def _asking(rule: PolicyRule) -> dict[str, Any]:
    if rule.effect != PolicyRule.Effect.ASK:
        return {}
    roles = (
        [{"group": one.group_id, "name": one.group.name, "count": one.count} for one in rule.roles.all()]
        if not rule._state.adding
        else []
    )
    return {
        "roles": roles,
        "second_factor": rule.second_factor,
        "execution_expires_s": rule.execution_expires_s,
        "escalate_to_id": rule.escalate_to_id,
        "grant_max_s": rule.grant_max_s,
    }


def _freeze(window: FreezeWindow) -> Freeze:
    return Freeze(
        name=window.name,
        starts_at=window.starts_at,
        ends_at=window.ends_at,
        environments=Patterns(window.environments) if window.environments else None,
        repositories=Patterns(window.repositories) if window.repositories else None,
        tools=Patterns(window.tools),
        effects=frozenset(window.effects),
        effect=str(window.effect),
        reason=window.reason,
        approvers_id=window.approvers_id,
        quorum=window.quorum,
    )
