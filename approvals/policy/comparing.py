"""What differs between two versions, rule by rule."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from approvals.models import PolicyRule, PolicyVersion
from approvals.policy import rules, yamlform

_FIELDS = (
    *("tools", "condition", "match", "effect", "constraints", "reason", "approvers", "and", "quorum", "expires_s"),
    *("execution_expires_s", "escalate_to", "grant_max_s", "second_factor"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """kind: "added", "removed", "changed" or "moved"; was, now: the field's values as text."""

    kind: str
    rule: str
    field: str = ""
    was: str = ""
    now: str = ""

    def __str__(self) -> str:
        if self.kind == "changed":
            return f"~ {self.rule}: {self.field} was {self.was or '(empty)'}, now {self.now or '(empty)'}"
        if self.kind == "moved":
            return f"^ {self.rule}: from place {self.was} to {self.now}"
        return f"{'+' if self.kind == 'added' else '-'} {self.rule} ({self.now or self.was})"

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def changes(was: PolicyVersion, now: PolicyVersion) -> list[Change]:
    """From `was` to `now`; rules are the same where their names are."""
    old, new = ({rule.name: rule for rule in rules.of(version)} for version in (was, now))
    found = [Change(kind="removed", rule=name, was=str(old[name].effect)) for name in old if name not in new]
    kept_before, kept_after = [name for name in old if name in new], [name for name in new if name in old]
    in_place = _in_place(kept_before, kept_after)
    for name, rule in new.items():
        if name not in old:
            found.append(Change(kind="added", rule=name, now=str(rule.effect)))
            continue
        if name not in in_place:
            places = str(list(old).index(name) + 1), str(list(new).index(name) + 1)
            found.append(Change(kind="moved", rule=name, was=places[0], now=places[1]))
        before, after = _values(old[name]), _values(rule)
        found += [
            Change(kind="changed", rule=name, field=field, was=_text(before[field]), now=_text(after[field]))
            for field in _FIELDS
            if before[field] != after[field]
        ]
    return found


def text(was: PolicyVersion, now: PolicyVersion) -> str:
    """As `diff -u` shows the two as YAML."""
    lines = difflib.unified_diff(
        yamlform.dump(was).splitlines(), yamlform.dump(now).splitlines(), str(was), str(now), lineterm=""
    )
    return "\n".join(lines)


def _in_place(before: list[str], after: list[str]) -> set[str]:
    matcher = difflib.SequenceMatcher(a=before, b=after, autojunk=False)
    return {before[one.a + offset] for one in matcher.get_matching_blocks() for offset in range(one.size)}


def _values(rule: PolicyRule) -> Mapping[str, Any]:
    known = {name: getattr(rule, name) for name in _FIELDS if name not in ("and", "approvers", "escalate_to")}
    known["approvers"] = rule.approvers.name if rule.approvers else ""
    known["escalate_to"] = rule.escalate_to.name if rule.escalate_to else ""
    known["and"] = sorted([role.group.name, role.count] for role in rule.roles.all())
    return known


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False) if value not in ({}, [], None) else ""
