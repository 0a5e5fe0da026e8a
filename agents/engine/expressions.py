"""CEL in plans and workflows: conditions of steps, templates of their arguments, outputs of a job.

An expression sees
    inputs              of the job
    steps.<key>         (or steps["a-key"]) of a step: state, ok, data, text, summary, exit_code, error_code,
                        error_class, error; of one that has not ended: ok is false, data is {}, texts are empty
    job                 id, kind, goal, agent, owner, repository, branch, labels, priority, trigger
and `item`, `index` in the arguments of a map. A template is JSON whose texts may hold `${{ expression }}`: a text that
is one whole expression becomes its value, of any type; others become text.

Nothing here has an effect. What an expression may cost is bounded before it runs: its length, the size of what it
reads, how deep its macros lie in each other, and what it gives.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from agents.engine.celtext import (
    NAMES,
    OPEN,
    InvalidExpression,
    check,
    check_template,
    compiled,
    filled,
    macros,
    steps_of,
    templated,
)
from agents.errors import AgentsError
from agents.models import Job, Step
from agents.states import StepState
from audit.canonical import canonical_json
from audit.errors import AuditError
from tools import celcode
from tools.celcode import CelFault

READ_BYTES = 16 * 1024**2  # of what one expression reads
VALUE_BYTES = 256 * 1024  # of what a template, a condition or an output gives
LIST_BYTES = 16 * 1024**2  # of what `value` gives: the list of a map may be long
STEPS_MAX = 1000  # where an expression does not name the steps that it reads
WORK_MAX = 25_000_000  # values that macros may visit, make or copy: about a second


__all__ = [
    "NAMES",
    "ExpressionFailed",
    "InvalidExpression",
    "Scope",
    "check",
    "check_template",
    "holds",
    "item_template",
    "outputs",
    "resolve",
    "scope",
    "templated",
    "value",
]


class ExpressionFailed(AgentsError):
    """It met a value that is missing or does not fit, or would cost too much."""

    code = "expression_failed"


@dataclass(slots=True)
class Scope:
    """What the expressions of one job see. Steps are read from the database once, as they are named."""

    job: Job
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def variables(self, source: str, names: Collection[str]) -> dict[str, Any]:
        """The values of those names, of the steps only those that `source` reads. Raises ExpressionFailed."""
        found = {name: self.extra[name] for name in names if name in self.extra}
        if "inputs" in names:
            found["inputs"] = self.job.inputs
        if "job" in names:
            found["job"] = _job(self.job)
        if "steps" in names:
            found["steps"] = self._read(steps_of(source))
        return found

    def _read(self, keys: frozenset[str] | None) -> dict[str, dict[str, Any]]:
        if keys is None:
            rows = Step.objects.filter(job_id=self.job.pk, parent=None)
            if rows.count() > STEPS_MAX:
                raise ExpressionFailed(f"In a job of more than {STEPS_MAX} steps an expression names those it reads.")
            return {row.key: _step(row) for row in rows}
        missing = [key for key in keys if key not in self.steps]
        if missing:
            rows = Step.objects.filter(job_id=self.job.pk, key__in=missing)
            self.steps.update({row.key: _step(row) for row in rows})
        for key in sorted(keys):
            if key not in self.steps:
                raise ExpressionFailed(f"There is no step {key!r}.")
        return {key: self.steps[key] for key in keys}


def scope(job: Job) -> Scope:
    """What the job's expressions see now; later changes of steps are not seen by it."""
    return Scope(job)


def value(text: str, seen: Scope, *, most_bytes: int = LIST_BYTES) -> Any:
    """The expression's value, as JSON. Raises ExpressionFailed."""
    try:
        program = compiled(text)
    except InvalidExpression as error:
        raise ExpressionFailed(error.message) from None
    names = {name for name in program.variables() if name in NAMES or name in seen.extra}
    variables = seen.variables(text, names)
    _affordable(text, variables)
    try:
        found = celcode.as_json(celcode.value(text, celcode.scope(variables)))
        size = len(canonical_json(found))
    except CelFault as error:
        raise ExpressionFailed(error.message) from None
    except AuditError as error:
        raise ExpressionFailed(str(error)[:300]) from None
    if size > most_bytes:
        raise ExpressionFailed(f"It gives more than {most_bytes // 1024} KiB.")
    return found


def holds(condition: str, seen: Scope) -> bool:
    """Is the condition true? An empty one always is. Raises ExpressionFailed, also for what is neither true nor false."""
    if not condition.strip():
        return True
    try:
        return celcode.truth(value(condition, seen, most_bytes=VALUE_BYTES))
    except CelFault as error:
        raise ExpressionFailed(error.message) from None


def resolve(template: Any, seen: Scope) -> Any:
    """The template with every expression replaced by its value. Raises ExpressionFailed, naming the field."""
    found = _resolve(template, seen, "")
    if len(canonical_json(found)) > VALUE_BYTES:
        raise ExpressionFailed(f"The arguments come to more than {VALUE_BYTES // 1024} KiB.")
    return found


def item_template(template: Mapping[str, Any], seen: Scope) -> Callable[[Any, int], dict[str, Any]]:
    """Resolves a map's arguments for one item and its place in the list, as often as it is called."""

    def each(item: Any, index: int) -> dict[str, Any]:
        return resolve(template, Scope(seen.job, seen.steps, {**seen.extra, "item": item, "index": index}))

    return each if templated(template) else lambda item, index: dict(template)


def outputs(job: Job, spec: Mapping[str, str]) -> dict[str, Any]:
    """Name -> value of each output's expression, as the job's steps are now. Raises ExpressionFailed, naming the output."""
    seen, found = scope(job), {}
    for name, text in spec.items():
        try:
            found[name] = value(text, seen, most_bytes=VALUE_BYTES)
        except ExpressionFailed as error:
            raise ExpressionFailed(f"Output {name!r}: {error.message}") from None
    if len(canonical_json(found)) > VALUE_BYTES:
        raise ExpressionFailed(f"The outputs come to more than {VALUE_BYTES // 1024} KiB.")
    return found


def _resolve(template: Any, seen: Scope, path: str) -> Any:
    if isinstance(template, Mapping):
        return {name: _resolve(one, seen, f"{path}.{name}".removeprefix(".")) for name, one in template.items()}
    if isinstance(template, list):
        return [_resolve(one, seen, f"{path}[{index}]") for index, one in enumerate(template)]
    if not isinstance(template, str) or OPEN not in template:
        return template
    try:
        return filled(template, lambda code: value(code, seen, most_bytes=VALUE_BYTES), _as_text)
    except (ExpressionFailed, InvalidExpression) as error:
        raise ExpressionFailed(f"{path}: {error.message}" if path else error.message) from None


def _as_text(found: Any) -> str:
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, separators=(",", ":"))


def _job(job: Job) -> dict[str, Any]:
    return {
        "id": str(job.pk),
        "kind": str(job.kind),
        "goal": job.goal,
        "agent": job.agent.name if job.agent else "",
        "owner": job.owner.get_username(),
        "repository": job.repository.name if job.repository else "",
        "branch": job.repository.default_branch if job.repository else "",
        "labels": job.labels,
        "priority": job.priority,
        "trigger": job.trigger,
    }


def _step(step: Step) -> dict[str, Any]:
    result = step.result or {}
    return {
        "state": str(step.state),
        "ok": step.state == StepState.SUCCEEDED,
        "data": result.get("data") or {},
        "text": str(result.get("text") or ""),
        "summary": str(result.get("summary") or ""),
        "exit_code": result.get("exit_code"),
        "error_code": step.error_code,
        "error_class": step.error_class,
        "error": step.error,
    }


def _affordable(source: str, variables: Mapping[str, Any]) -> None:
    """Raises ExpressionFailed: it reads too much, or its macros would visit too much of it."""
    values, size = _count(list(variables.values()))
    if size > READ_BYTES:
        raise ExpressionFailed(f"It reads more than {READ_BYTES // 1024**2} MiB.")
    depth, outer, growth = macros(source)
    if depth and (values + len(source)) ** (1 + depth + outer) * growth > WORK_MAX:
        raise ExpressionFailed(f"Its macros would work through too much: {values:,} values, {depth} deep.")
    if depth and size * growth > 4 * READ_BYTES:
        raise ExpressionFailed("Its macros would make too much of what they read.")


def _count(values: list[Any]) -> tuple[int, int]:
    """How many values lie within, and about how many bytes."""
    count = size = 0
    while values:
        one = values.pop()
        count += 1
        if isinstance(one, Mapping):
            size += sum(len(str(name)) for name in one)
            values.extend(one.values())
        elif isinstance(one, list | tuple):
            values.extend(one)
        else:
            size += len(one) if isinstance(one, str) else 8
    return count, size
