"""CEL (see `tools.celcode`) over what came from outside, and submissions with `${{ CEL }}` in them.

What an expression gives goes into words and arguments only: never into who, with what, or where (see `check_payload`).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.contrib.auth.models import User

from agents.engine import celtext
from agents.errors import InvalidInput
from agents.submit import new_job
from agents.triggers.errors import ExpressionFailed
from tools import celcode
from tools.celcode import CelFault, Scope

EXPRESSIONS_MAX = 50
TEXT_MAX = 20_000
_OPEN = re.compile(r"(?:title|goal|labels\.[^.\[]+|inputs(?:[.\[].*)?|steps\[\d+\]\.(?:arguments(?:[.\[].*)?|reason))")


def after(text: str, prefix: str) -> str:
    """`after(body.ref, 'refs/heads/')`: the text without this beginning."""
    return text.removeprefix(prefix)


FUNCTIONS: dict[str, Callable[..., Any]] = {"after": after}
_KNOWN = celtext.FUNCTIONS | set(FUNCTIONS)


def check(source: str, names: set[str], *, field: str) -> None:
    """Refuses what could never be evaluated over `names`. Empty is fine.

    Raises:
        InvalidInput: of `field`.
    """
    if not source.strip():
        return
    try:
        celtext.check(source, names, _KNOWN)
    except celtext.InvalidExpression as error:
        raise InvalidInput(error.message, field=field) from None


def scope(variables: Mapping[str, Any]) -> Scope:
    """The variables, converted once for all expressions of one evaluation."""
    try:
        return celcode.scope(variables, FUNCTIONS)
    except CelFault as error:
        raise ExpressionFailed(error.message) from None


def value(source: str, variables: Scope) -> Any:
    """What the expression gives, as JSON. Raises ExpressionFailed."""
    if not source.strip():
        raise ExpressionFailed("An expression is empty.")
    try:
        return celcode.as_json(celcode.value(source, variables))
    except CelFault as error:
        raise ExpressionFailed(error.message) from None


def holds(source: str, variables: Scope) -> bool:
    """Is the condition true? An empty one always is. Raises ExpressionFailed."""
    if not source.strip():
        return True
    try:
        return celcode.truth(value(source, variables))
    except CelFault as error:
        raise ExpressionFailed(error.message) from None


def text(source: str, variables: Scope, *, limit: int) -> str:
    """What the expression gives, as one text of at most `limit` characters. Raises ExpressionFailed."""
    found = _text(value(source, variables))
    if len(found) > limit:
        raise ExpressionFailed(f"It gives more than {limit} characters.")
    return found


def render(template: Any, variables: Scope) -> Any:
    """`template` with each `${{ CEL }}` replaced: a text that is nothing else becomes the value itself.

    Raises:
        ExpressionFailed
    """
    if isinstance(template, str):
        try:
            return celtext.filled(template, lambda code: value(code, variables), _text)
        except celtext.InvalidExpression as error:
            raise ExpressionFailed(error.message) from None
    if isinstance(template, Mapping):
        return {name: render(one, variables) for name, one in template.items()}
    if isinstance(template, list):
        return [render(one, variables) for one in template]
    return template


def submission(payload: Mapping[str, Any], variables: Scope) -> dict[str, Any]:
    """`payload`, filled in. What was filled into a step's arguments is no expression of the plan: `${{` stays text.

    Raises:
        ExpressionFailed
    """
    filled: dict[str, Any] = render(payload, variables)
    for step in filled.get("steps") or []:
        if isinstance(step, dict) and "arguments" in step:
            step["arguments"] = _quoted(step["arguments"])
    return filled


def check_values(payload: Mapping[str, Any], variables: Scope) -> None:
    """Evaluates each expression, where all that they see is known beforehand.

    Raises:
        InvalidInput: fields start with `payload`.
    """
    for path, source in _parts(payload):
        try:
            value(source, variables)
        except ExpressionFailed as error:
            raise InvalidInput(error.message, field=f"payload.{path}") from None


def check_payload(payload: Any, names: set[str], *, owner: User) -> None:
    """Would `payload` be taken as a submission of `owner`? What expressions fill in is judged when they have.

    Raises:
        InvalidInput: fields start with `payload`.
    """
    if not isinstance(payload, Mapping):
        raise InvalidInput("Must be an object, as POST /api/v1/jobs takes it.", field="payload")
    filled = list(_parts(payload))
    if len(filled) > EXPRESSIONS_MAX:
        raise InvalidInput(f"At most {EXPRESSIONS_MAX} expressions.", field="payload")
    for path, source in filled:
        if not _OPEN.fullmatch(path):
            raise InvalidInput("This cannot come from an expression.", field=f"payload.{path}")
        check(source, names, field=f"payload.{path}")
    paths = {path for path, _ in filled}
    try:
        new_job(payload, user=owner)
    except InvalidInput as error:
        problems = [(field, why) for field, why in error.problems if not _is_filled(field, paths)]
        if problems:
            named = [(f"payload.{field}".rstrip("."), why) for field, why in problems]
            raise InvalidInput(f"{named[0][0]}: {named[0][1]}", problems=named) from None


def _quoted(filled: Any) -> Any:
    """Such that the plan's own templates give the same text."""
    if isinstance(filled, str):
        return filled.replace(celtext.OPEN, "${{ '${' + '{' }}")
    if isinstance(filled, Mapping):
        return {name: _quoted(one) for name, one in filled.items()}
    if isinstance(filled, list):
        return [_quoted(one) for one in filled]
    return filled


def _parts(template: Any) -> Iterator[tuple[str, str]]:
    """(path, source) of each expression. Raises InvalidInput: one is never closed."""
    for path, found in celtext.texts(template, ""):
        try:
            parts = celtext.parts(found)
        except celtext.InvalidExpression as error:
            raise InvalidInput(error.message, field=f"payload.{path}") from None
        yield from ((path, part.text) for part in parts if isinstance(part, celtext.Code))


def _is_filled(field: str, paths: set[str]) -> bool:
    """Is what is wrong at `field` filled by an expression, or does it hold one?"""
    return bool(field) and any(
        path == field or path.startswith((f"{field}.", f"{field}[")) or field.startswith((f"{path}.", f"{path}["))
        for path in paths
    )


def _text(found: Any) -> str:
    if isinstance(found, str):
        return found
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, (int, float)):
        return str(found)
    raise ExpressionFailed("A text can take a text, a number, true or false only.")
