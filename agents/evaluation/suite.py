"""A suite of cases, and the names of who tries them: what they look like, and what is wrong with them."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator

from agents.engine import expressions
from agents.engine.expressions import InvalidExpression
from agents.errors import InvalidInput, InvalidPrompt
from agents.models import PromptVersion
from agents.prompts.definition import CASE_NAME
from agents.prompts.render import filled_in
from agents.selectors import usable_agents
from agents.workflows.schema import NAME, bounded, told
from tools.yamltext.places import Path, Problem
from tools.yamltext.read import parse

CASES_MAX, ARMS_MAX, REPEATS_MAX, TRIALS_MAX = 200, 8, 20, 1000
EXPECT_NAMES = frozenset({"inputs", "answer", "text", "steps"})
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": NAME, "maxLength": 80},
        "title": {"type": "string", "maxLength": 200},
        "description": {"type": "string", "maxLength": 20_000},
        "repository": {"type": "string", "maxLength": 80},
        "max_tokens": {"type": "integer", "minimum": 1},
        "cases": {
            "type": "array",
            "minItems": 1,
            "maxItems": CASES_MAX,
            "items": {
                "type": "object",
                "properties": {
                    "name": CASE_NAME,
                    "inputs": {"type": "object"},
                    "goal": {"type": "string", "minLength": 1, "maxLength": 20_000},
                    "repository": {"type": "string", "maxLength": 80},
                    "check": {"type": "array", "items": {"type": "string", "maxLength": 4096}, "minItems": 1},
                    "expect": {
                        "type": "array",
                        "items": {"type": "string", "minLength": 1, "maxLength": 2000},
                        "maxItems": 32,
                    },
                },
                "required": ["name"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["name", "cases"],
    "additionalProperties": False,
}
_validator = Draft202012Validator(SCHEMA)
_PROMPT = re.compile(r"prompt:([a-z0-9][a-z0-9_-]*)(?:@([1-9][0-9]{0,8}))?")
_AGENT = re.compile(r"agent:([A-Za-z0-9][A-Za-z0-9_-]*)")
_KINDS = {"prompt": "inputs", "agent": "goal"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Who tries the cases: an agent by name, or a version of a prompt."""

    kind: str
    name: str
    number: int = 0

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" + (f"@{self.number}" if self.number else "")

    def takes(self, case: Mapping[str, Any]) -> bool:
        """Is it a case for this kind?"""
        return _KINDS[self.kind] in case


def read(source: str) -> dict[str, Any]:
    """The suite that a text describes. Raises InvalidPrompt, with every problem and its line."""
    document = parse(source)
    problems = list(document.problems)
    if not problems:
        shape = [
            document.places.problem(path, bounded(said), key=key) for path, said, key in told(_validator, document.data)
        ]
        problems = shape or [document.places.problem(path, bounded(said)) for path, said in _faults(document.data)]
    if problems:
        raise _invalid(sorted(problems))
    return dict(document.data)


def of_prompt(version: PromptVersion) -> str:
    """The text of the suite that a version's own cases are."""
    cases = [
        {"name": one["name"], "inputs": one["inputs"], "expect": one.get("expect", [])}
        for one in version.definition.get("cases", ())
        if one.get("usable", True)
    ]
    if not cases:
        raise InvalidInput(f"{version} has no cases of its own.", field="suite")
    return json.dumps({"name": version.prompt.name, "title": f"The cases of {version}", "cases": cases}, indent=1)


def arm(text: str) -> Arm:
    """`agent:developer`, `prompt:review@3`, `prompt:review` (its newest published version). Raises InvalidInput."""
    if found := _AGENT.fullmatch(text):
        if not usable_agents().filter(name=found[1]).exists():
            raise InvalidInput(f"There is no enabled agent {found[1]!r}.", field="arms")
        return Arm(kind="agent", name=found[1])
    if found := _PROMPT.fullmatch(text):
        versions = PromptVersion.objects.filter(prompt__name=found[1]).exclude(status=PromptVersion.Status.RETIRED)
        if found[2]:
            version = versions.filter(number=int(found[2])).first()
        else:
            version = versions.filter(status=PromptVersion.Status.PUBLISHED).order_by("-number").first()
        if version is None:
            raise InvalidInput(f"There is no prompt {text.removeprefix('prompt:')!r} that can be used.", field="arms")
        return Arm(kind="prompt", name=found[1], number=version.number)
    raise InvalidInput(f"{text[:80]!r} is neither agent:NAME nor prompt:NAME@VERSION.", field="arms")


def fits(suite: Mapping[str, Any], arms: Sequence[Arm], repeats: int) -> None:
    """Raises InvalidInput: they cannot be tried together."""
    if not 1 <= len(arms) <= ARMS_MAX:
        raise InvalidInput(f"Give 1 to {ARMS_MAX} agents or versions of prompts.", field="arms")
    if len({str(one) for one in arms}) < len(arms):
        raise InvalidInput("One of them is named twice.", field="arms")
    if not 1 <= repeats <= REPEATS_MAX:
        raise InvalidInput(f"Cases are repeated 1 to {REPEATS_MAX} times.", field="repeats")
    for one in arms:
        taken = [case for case in suite["cases"] if one.takes(case)]
        if not taken:
            raise InvalidInput(f"No case is for {one}: it needs {_KINDS[one.kind]}.", field="arms")
        if one.kind == "prompt":
            _inputs_fit(one, taken)
    count = sum(one.takes(case) for one in arms for case in suite["cases"]) * repeats
    if count > TRIALS_MAX:
        raise InvalidInput(f"These are {count} trials; {TRIALS_MAX} are the most.", field="repeats")


def _inputs_fit(one: Arm, cases: Sequence[Mapping[str, Any]]) -> None:
    """Raises InvalidInput: a case is none for this prompt, and would only fail."""
    version = PromptVersion.objects.get(prompt__name=one.name, number=one.number)
    for case in cases:
        try:
            filled_in(version.definition, case["inputs"])
        except InvalidInput as error:
            raise InvalidInput(f"The case {case['name']!r} does not fit {one}: {error.message}", field="arms") from None


def _faults(data: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    seen: set[str] = set()
    for place, case in enumerate(data["cases"]):
        path: Path = ("cases", place)
        if case["name"] in seen:
            yield (*path, "name"), f"The name {case['name']!r} is used twice."
        seen.add(case["name"])
        if ("inputs" in case) == ("goal" in case):
            yield path, "A case has inputs, for prompts, or a goal, for agents."
        for name in ("check", "repository"):
            if name in case and "goal" not in case:
                yield (*path, name), f"Only a goal has a {name}."
        if not case.get("expect") and "check" not in case:
            yield path, "Say what is expected: expect, or check."
        if "${{" in json.dumps(case.get("inputs", {})) or "${{" in json.dumps([case.get("goal"), case.get("check")]):
            yield path, "Expressions (${{ … }}) are not filled in here."
        for number, text in enumerate(case.get("expect", ())):
            try:
                expressions.check(text, EXPECT_NAMES)
            except InvalidExpression as error:
                yield (*path, "expect", number), error.message


def _invalid(problems: Sequence[Problem]) -> InvalidPrompt:
    pairs = [(one.path or "source", f"line {one.line}, column {one.column}: {one.message}") for one in problems]
    more = f" And {len(problems) - 1} more." if len(problems) > 1 else ""
    return InvalidPrompt(f"{problems[0]}{more}", problems=pairs)
