"""A policy as YAML: written, and read with every problem's line.

What is written and read again gives the same rules and the same text. Groups stand by name. What a rule leaves out is
what a new rule has.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from django.contrib.auth.models import Group

from approvals.errors import InvalidPolicyFile
from approvals.models import PolicyRule, PolicyVersion
from approvals.policy import rules
from tools.yamltext.places import Path, Places, Problem
from tools.yamltext.read import parse

RULES_MAX = 500
STEP = 10  # between the places of rules that name none
_TOP = ("policy", "description", "notes", "rules", "expectations")
# name in the file -> column; what equals a new rule's is left out
_PLAIN = {
    "when": "condition",
    "match": "match",
    "constraints": "constraints",
    "reason": "reason",
    "quorum": "quorum",
    "expires_s": "expires_s",
    "execution_expires_s": "execution_expires_s",
    "grant_max_s": "grant_max_s",
    "second_factor": "second_factor",
}
_KINDS: dict[str, type] = {
    **{"when": str, "match": dict, "constraints": dict, "reason": str, "quorum": int, "expires_s": int},
    **{"execution_expires_s": int, "grant_max_s": int, "second_factor": bool},
}
_RULE = ("name", "tools", "effect", "order", "approvers", "and", "escalate_to", *_PLAIN)
_WHOLE_MAX = {"quorum": 100, "order": 1_000_000}
_SECONDS_MAX = 30 * 86_400
_NUMBER = re.compile(r"[-+.0-9][-+.0-9eE]*")
_WORDS = {str: "text", int: "a whole number", bool: "true or false", dict: "an object", list: "a list"}


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """What a file says. rules: as `rules.facts`, but groups by name; expectations: as they stand; places: of both."""

    policy: str
    description: str | None = None
    notes: str = ""
    rules: list[dict[str, Any]] | None = None
    expectations: list[Any] = field(default_factory=list)
    places: Places

    def groups(self) -> set[str]:
        """The names of all groups that its rules ask."""
        found: set[str] = set()
        for rule in self.rules or ():
            found |= {name for name in (rule["approvers"], rule["escalate_to"]) if name}
            found |= {role["group"] for role in rule["roles"]}
        return found


def dump(version: PolicyVersion, *, expectations: Sequence[Any] = ()) -> str:
    """The version as YAML."""
    head: dict[str, Any] = {"policy": version.policy.name}
    if version.policy.description:
        head["description"] = version.policy.description
    if version.notes:
        head["notes"] = version.notes
    given = [_written(place, rule) for place, rule in enumerate(rules.of(version))]
    parts = [_yaml(head), "rules:\n" if given else "rules: []\n"]
    parts += ["\n".join(_item(one) for one in given)]
    if expectations:
        parts.append("\n" + _yaml({"expectations": list(expectations)}))
    return "".join(parts)


def load(source: str) -> File:
    """Reads a policy file; no row is read.

    Raises:
        InvalidPolicyFile: `problems` are (path, "line 3, column 5: …") pairs, in the order of the text.
    """
    document = parse(source)
    found = list(document.problems)
    data = document.data
    if data is not None and not isinstance(data, dict):
        found.append(document.places.problem((), "A policy file is an object with policy and rules."))
    if found or data is None:
        raise invalid(found)
    return _Reader(document.places).file(data)


def resolved(file: File, *, known: Mapping[str, Group]) -> list[dict[str, Any]]:
    """The rules as `rules.facts` has them. known: groups by name.

    Raises:
        InvalidPolicyFile: groups that are not known, each with its line.
    """
    found: list[Problem] = []
    given = []
    for place, rule in enumerate(file.rules or ()):
        one = {name: value for name, value in rule.items() if name not in ("approvers", "escalate_to", "roles")}
        for name, column in (("approvers", "approvers_id"), ("escalate_to", "escalate_to_id")):
            if rule[name] and rule[name] not in known:
                found.append(file.places.problem(("rules", place, name), _no_group(rule[name])))
            one[column] = known[rule[name]].pk if rule[name] in known else None
        one["roles"] = []
        for index, role in enumerate(rule["roles"]):
            if role["group"] not in known:
                found.append(file.places.problem(("rules", place, "and", index, "group"), _no_group(role["group"])))
            else:
                one["roles"].append({"group": known[role["group"]].pk, "count": role["count"]})
        given.append(one)
    if found:
        raise invalid(found)
    return given


def invalid(problems: Sequence[Problem]) -> InvalidPolicyFile:
    """The error that tells all of them, first line first."""
    told = sorted(problems)
    more = f" And {len(told) - 1} more." if len(told) > 1 else ""
    return InvalidPolicyFile(
        f"{told[0]}{more}",
        problems=[(one.path or "source", f"line {one.line}, column {one.column}: {one.message}") for one in told],
    )


class _Reader:
    def __init__(self, places: Places) -> None:
        self._places = places
        self._problems: list[Problem] = []

    def file(self, data: dict[str, Any]) -> File:
        self._unknown((), data, _TOP)
        name = self._get((), data, "policy", str, "")
        if not name:
            self._add(("policy",), "A policy has a name.")
        elif not _slug(name):
            self._add(("policy",), "A name has letters, digits, - and _ only, at most 80.")
        given = self._get((), data, "rules", list, None)
        expectations = self._get((), data, "expectations", list, [])
        found = None if given is None else self._rules(given)
        file = File(
            policy=name,
            description=self._get((), data, "description", str, None),
            notes=self._get((), data, "notes", str, ""),
            rules=found,
            expectations=expectations,
            places=self._places,
        )
        if self._problems:
            raise invalid(self._problems)
        return file

    def _rules(self, given: list[Any]) -> list[dict[str, Any]]:
        if len(given) > RULES_MAX:
            self._add(("rules",), f"A policy has at most {RULES_MAX} rules.")
            return []
        found: list[dict[str, Any]] = []
        names: dict[str, int] = {}
        orders: dict[int, int] = {}
        for place, one in enumerate(given):
            path: Path = ("rules", place)
            if not isinstance(one, dict):
                self._add(path, "A rule is an object.")
                continue
            rule = self._rule(path, one, place)
            for key, seen in (("name", names), ("order", orders)):
                if rule[key] in seen:
                    self._add((*path, key), f"Rule {seen[rule[key]] + 1} has this {key} already.")
                seen.setdefault(rule[key], place)
            if found and rule["order"] < found[-1]["order"]:
                self._add((*path, "order"), "Rules stand in their order.")
            found.append(rule)
        return found

    def _rule(self, path: Path, given: dict[str, Any], place: int) -> dict[str, Any]:
        self._unknown(path, given, _RULE)
        new = PolicyRule()
        rule: dict[str, Any] = {"order": self._get(path, given, "order", int, (place + 1) * STEP)}
        rule["name"] = self._get(path, given, "name", str, "")
        if not _slug(rule["name"]):
            self._add((*path, "name"), "A rule has a name of letters, digits, - and _, at most 80.")
        tools = given.get("tools", [])
        rule["tools"] = [tools] if isinstance(tools, str) else self._texts((*path, "tools"), tools)
        rule["effect"] = self._get(path, given, "effect", str, "")
        if rule["effect"] not in PolicyRule.Effect.values:
            self._add((*path, "effect"), "The effect is allow, ask or deny.")
        for name, column in _PLAIN.items():
            rule[column] = self._get(path, given, name, _KINDS[name], getattr(new, column))
        if len(rule["reason"]) > 500:
            self._add((*path, "reason"), "A reason has at most 500 characters.")
        rule["approvers"] = self._get(path, given, "approvers", str, "")
        rule["escalate_to"] = self._get(path, given, "escalate_to", str, "")
        rule["roles"] = self._roles((*path, "and"), given.get("and", []))
        if rule["effect"] == PolicyRule.Effect.ASK and not rule["approvers"]:
            self._add((*path, "approvers"), "A rule that asks names its approvers.", key=True)
        self._text_problems(path, rule)
        return rule

    def _text_problems(self, path: Path, rule: dict[str, Any]) -> None:
        plain = {name: value for name, value in rule.items() if name not in ("approvers", "escalate_to", "roles")}
        where = {"condition": "when"}
        try:
            found = rules.text_problems(PolicyRule(**plain))
        except (TypeError, ValueError, AttributeError):
            found = []  # of a value that is no such value, which was said
        for column, message in found:
            first = message.split(" ", 1)[0]
            inner = tuple(first.split(".")) if first.startswith(f"{column}.") else (where.get(column, column),)
            self._add((*path, *inner), message)

    def _roles(self, path: Path, given: Any) -> list[dict[str, Any]]:
        if not isinstance(given, list):
            self._add(path, "Must be a list of {group, count}.")
            return []
        found: list[dict[str, Any]] = []
        for index, one in enumerate(given):
            here = (*path, index)
            role = {"group": one} if isinstance(one, str) else one
            if not isinstance(role, dict):
                self._add(here, "Must be a group's name, or {group, count}.")
                continue
            self._unknown(here, role, ("group", "count"))
            name = self._get(here, role, "group", str, "")
            if name in {known["group"] for known in found}:
                self._add(here, f"The group {name!r} stands twice.")
            found.append({"group": name, "count": self._get(here, role, "count", int, 1)})
        return found

    def _texts(self, path: Path, given: Any) -> list[str]:
        if isinstance(given, list) and all(isinstance(one, str) for one in given):
            return list(given)
        self._add(path, "Must be a list of texts.")
        return []

    def _get(self, path: Path, given: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
        if name not in given:
            return default
        value: Any = given[name]
        wrong = _wrong(name, value, kind)
        if wrong:
            self._add((*path, name), wrong)
            return default
        return value

    def _unknown(self, path: Path, given: Mapping[str, Any], known: Sequence[str]) -> None:
        for name in given:
            if name not in known:
                here = (*path, name)
                self._add(here, f"There is no {str(name)[:60]!r} here; known are {', '.join(known)}.", key=True)

    def _add(self, path: Path, message: str, *, key: bool = False) -> None:
        self._problems.append(self._places.problem(path, message, key=key))


def _wrong(name: str, value: Any, kind: type) -> str:
    """What is wrong with a value, in a sentence; "" where nothing is."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        return f"Must be {_WORDS[kind]}."
    if isinstance(value, int) and kind is int:
        least, most = (0 if name in ("grant_max_s", "order") else 1), _WHOLE_MAX.get(name, _SECONDS_MAX)
        return "" if least <= value <= most else f"Must be from {least} to {most}."
    return "Must be text without NUL." if isinstance(value, str) and "\x00" in value else ""


def _written(place: int, rule: PolicyRule) -> dict[str, Any]:
    new = PolicyRule()
    found: dict[str, Any] = {"name": rule.name}
    if rule.order != (place + 1) * STEP:
        found["order"] = rule.order
    found |= {"tools": list(rule.tools), "effect": str(rule.effect)}
    for name, column in _PLAIN.items():
        value = getattr(rule, column)
        if value != getattr(new, column):
            found[name] = value
    if rule.approvers is not None:
        found["approvers"] = rule.approvers.name
    roles = [{"group": role.group.name, "count": role.count} for role in rule.roles.all()]
    if roles:
        found["and"] = sorted(roles, key=lambda role: str(role["group"]))
    if rule.escalate_to is not None:
        found["escalate_to"] = rule.escalate_to.name
    return found


def _item(rule: dict[str, Any]) -> str:
    lines = _yaml(rule).splitlines(keepends=True)
    return "".join(
        ("  - " if not index else "    ") + line if line.strip() else line for index, line in enumerate(lines)
    )


class _Dumper(yaml.SafeDumper):
    """Long texts as blocks, short lists on a line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> yaml.Node:
    """By YAML 1.2 more looks like a number than by PyYAML's 1.1."""
    style = None
    if _NUMBER.fullmatch(text):
        style = "'"
    elif "\n" in text and not any(line != line.rstrip() for line in text.split("\n")):
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _list(dumper: _Dumper, given: list[Any]) -> yaml.Node:
    short = all(isinstance(one, (str, int, float)) for one in given) and len(json.dumps(given)) <= 90
    return dumper.represent_sequence("tag:yaml.org,2002:seq", given, flow_style=short)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)


def _yaml(given: Any) -> str:
    text: str = yaml.dump(given, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


def _slug(name: str) -> bool:
    return 0 < len(name) <= 80 and all(one.isascii() and (one.isalnum() or one in "-_") for one in name)


def _no_group(name: str) -> str:
    return f"There is no group {name!r} on this server."
