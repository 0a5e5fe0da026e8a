"""CEL in plans: what is refused on save, what a value becomes, and what nothing may cost."""

from typing import Any

import pytest
from django.contrib.auth.models import User

from agents.engine import expressions, failures
from agents.engine.expressions import ExpressionFailed, InvalidExpression, Scope
from agents.models import Job, Step
from tools.errors import InvalidArguments, PermitSpent, SandboxUnavailable, ToolError, ToolFailed, ToolRefused
from tools.spec import Result


def seen(**inputs: Any) -> Scope:
    job = Job(kind="plan", goal="g", inputs=inputs)
    job.owner = User(username="ada")
    done = {"state": "succeeded", "ok": True, "data": {"n": 3, "l": [1, 2]}, "text": "out", "summary": "s"}
    return Scope(job, {"a": done, "b-c": {**done, "state": "failed", "ok": False}})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("inputs.x + 1", 2),
        ('steps.a.data.n > 2 && steps["b-c"].state == "failed"', True),
        ("steps.a.data.l.map(x, x * inputs.x)", [1, 2]),
        ('has(inputs.y) ? inputs.y : "none"', "none"),
        ('"steps.zzz"', "steps.zzz"),
        ("job.owner", "ada"),
        ('timestamp("2024-01-01T00:00:00Z")', "2024-01-01T00:00:00Z"),
    ],
)
def test_an_expression_gives_json(text, value):
    expressions.check(text)
    assert expressions.value(text, seen(x=1)) == value


@pytest.mark.parametrize("text", ["inputs.y", 'int("x")', "1 / 0", "9007199254740993", "1.0 / 0.0", "{1: 2}"])
def test_what_has_no_value_or_no_json_fails_and_says_so(text):
    with pytest.raises(ExpressionFailed) as caught:
        expressions.value(text, seen(x=1))
    assert caught.value.message


@pytest.mark.parametrize(
    "text", ["", "1 +", "nobody.x", "foo(1)", "x" * 2001, "[1].all(a, [1].all(b, [1].all(c, a > b + c)))"]
)
def test_what_could_never_be_evaluated_is_refused_on_save(text):
    with pytest.raises(InvalidExpression):
        expressions.check(text)


def test_check_tells_which_steps_are_read():
    assert expressions.check('steps.a.ok && steps["b-c"].ok && "steps.d" != "" ') == {"a", "b-c"}
    assert expressions.check_template({"t": ["${{ steps.a.ok }}", "steps.b"]}) == {"a"}
    with pytest.raises(InvalidExpression) as caught:
        expressions.check_template({"t": ["x", "${{ nobody }}"]}, path="arguments")
    assert caught.value.field == "arguments.t[1]"


@pytest.mark.parametrize(
    ("text", "big"),
    [
        ("inputs.l.filter(x, x > 1)", 10_000),
        ("inputs.l.map(x, inputs.l)", 1_000),
        ("inputs.l.map(x, inputs.l.map(y, x + y))", 1_000),
        ("inputs.l.map(x, x + x + x + x + x + x).map(x, x + x + x + x).map(x, x + x + x)", 1_000),
    ],
)
def test_an_expression_that_would_cost_too_much_does_not_begin(text, big):
    with pytest.raises(ExpressionFailed, match="too much"):
        expressions.value(text, seen(l=list(range(big))))


def test_templates_keep_types_where_they_are_whole_and_make_text_where_not():
    template = {
        "l": "${{ steps.a.data.l }}",
        "t": "n=${{ steps.a.data.n }}, ${{ steps.a.ok }} ${{ steps.a.data.l }}",
        "k": 1,
    }
    assert expressions.resolve(template, seen()) == {"l": [1, 2], "t": "n=3, true [1,2]", "k": 1}
    with pytest.raises(ExpressionFailed, match=r"^a\[0\]\.b: "):
        expressions.resolve({"a": [{"b": "${{ inputs.none }}"}]}, seen())
    each = expressions.item_template({"t": "${{ item }}", "p": "${{ index }} of ${{ inputs.n }}"}, seen(n=2))
    assert [each("x", 0), each("y", 1)] == [{"t": "x", "p": "0 of 2"}, {"t": "y", "p": "1 of 2"}]


def test_resolved_arguments_have_a_bound():
    with pytest.raises(ExpressionFailed, match="KiB"):
        expressions.resolve({"t": "${{ inputs.t }}", "u": "${{ inputs.t }}"}, seen(t="x" * 200_000))


def test_outputs_name_the_one_that_fails():
    job = seen(x=1).job
    assert expressions.outputs(job, {"y": "inputs.x * 2"}) == {"y": 2}
    with pytest.raises(ExpressionFailed, match="Output 'z': "):
        expressions.outputs(job, {"z": "inputs.nothing"})


@pytest.mark.parametrize(
    ("outcome", "error_class"),
    [
        (ToolFailed("x", transient=True), "transient"),
        (ToolFailed("x"), "bad_input"),
        (InvalidArguments("x"), "bad_input"),
        (ToolRefused("x"), "denied"),
        (PermitSpent("x"), "denied"),
        (SandboxUnavailable("x"), "resource"),
        (Result(ok=False, summary="x"), "bad_input"),
        (Result(ok=False, summary="x", data={"ended_by": "timeout"}), "timeout"),
        (Result(ok=False, summary="x", data={"ended_by": "memory"}), "resource"),
        (Result(ok=False, summary="x", data={"error_code": "rate_limited"}), "rate_limit"),
    ],
)
def test_every_failure_has_a_class(outcome: Result | ToolError, error_class: str):
    assert failures.of(outcome) == error_class
    assert error_class in failures.CLASSES


def test_delays_grow_and_are_bounded_and_heed_the_other_side():
    step = Step(
        attempt=1, max_attempts=5, retry={"max_attempts": 5, "delay_s": 10.0, "backoff": 3.0, "max_delay_s": 50.0}
    )
    assert 5 <= failures.delay_s(step) <= 10
    step.attempt = 4
    assert 25 <= failures.delay_s(step) <= 50
    assert failures.delay_s(step, 120) == 120
    assert failures.delay_s(step, 1e9) == failures.TOLD_MAX_S
