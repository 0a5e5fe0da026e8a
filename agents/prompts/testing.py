"""Tests of a prompt on recorded answers: no model is asked, so that they run wherever a version is saved."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator

from agents.engine import expressions
from agents.engine.expressions import ExpressionFailed, Scope
from agents.errors import InvalidInput
from agents.models import Job
from agents.prompts.render import filled_in, messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one case: why it failed, in words, or "". recorded: was there an answer to test?"""

    case: str
    why: str = ""
    recorded: bool = False

    @property
    def ok(self) -> bool:
        return not self.why


def run(definition: Mapping[str, Any]) -> list[Outcome]:
    """Every case: its inputs fit, the prompt says what it must, and the recorded answer would be taken, and is as
    expected; or would be refused, where the case says so."""
    return [_case(definition, case) for case in definition.get("cases", ())]


def _case(definition: Mapping[str, Any], case: Mapping[str, Any]) -> Outcome:
    name, recorded = case["name"], "recorded" in case
    try:
        values = filled_in(definition, case["inputs"])
    except InvalidInput as error:
        return Outcome(case=name, why=error.message, recorded=recorded)
    said = "\n".join(one["content"] for one in messages(definition, values))
    for text in case.get("renders", ()):
        if text not in said:
            return Outcome(case=name, why=f"The prompt does not say {text[:120]!r}.", recorded=recorded)
    if not recorded:
        return Outcome(case=name)
    why = unusable(definition, case["recorded"])
    if case.get("usable", True) is False:
        return Outcome(case=name, why="" if why else "The answer would be taken.", recorded=True)
    return Outcome(case=name, why=why or unexpected(case.get("expect", ()), case["recorded"], values), recorded=True)


def unusable(definition: Mapping[str, Any], answer: Any) -> str:
    """Why an answer would not be taken, or ""."""
    schema = definition.get("answer")
    if schema is None:
        return "" if isinstance(answer, str) and answer.strip() else "The answer is no text."
    faults = sorted(Draft202012Validator(schema).iter_errors(answer), key=lambda one: one.json_path)
    return f"{faults[0].json_path}: {faults[0].message[:300]}" if faults else ""


def unexpected(expect: Any, answer: Any, inputs: Mapping[str, Any], **more: Any) -> str:
    """The first expectation that does not hold of an answer (data, or text), in words, or "".

    more: further names that the expectations may use.
    """
    seen = Scope(
        Job(inputs=dict(inputs)),
        extra={
            "answer": answer if isinstance(answer, dict) else {},
            "text": answer if isinstance(answer, str) else "",
            **more,
        },
    )
    for text in expect:
        try:
            if not expressions.holds(text, seen):
                return f"This does not hold: {text}"
        except ExpressionFailed as error:
            return f"{text}: {error.message}"
    return ""
