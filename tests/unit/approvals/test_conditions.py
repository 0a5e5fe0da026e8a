import pytest

from approvals.errors import ConditionFailed, InvalidCondition
from approvals.policy import conditions

VARIABLES = {
    "call": {
        "tool": "shell.exec",
        "args": {"argv": ["rm", "-r"], "n": None},
        "effect": "repeatable",
        "queue": "shell",
        "risk": "high",
    },
    "job": {
        "id": "1",
        "agent": "a",
        "owner": "ada",
        "groups": ["sre"],
        "repository": "shop",
        "branch": "main",
        "labels": {"env": "prod"},
        "kind": "goal",
    },
}


def holds(source: str) -> bool:
    return conditions.holds(source, conditions.scope(VARIABLES))


@pytest.mark.parametrize(
    "source",
    [
        "",
        "  \n",
        "call.risk == 'high'",
        "call.args.argv.exists(part, part == '-r')",
        "has(job.labels.env) && job.labels['env'] == 'prod'",
        "'sre' in job.groups && size(call.args.argv) < 3",
        "call.args.argv[0].matches('^(rm|dd)$')",
        "!has(call.args.force) || call.args.force",
        "call.args.argv.all(a, a.startsWith('-') || a.endsWith('m') || a.contains('r'))",
        "call.args.argv.map(a, size(a)).exists_one(n, n == 2) || true",
        "job.owner != 'call.nothing' && string(size(job.groups)) == '1'",
    ],
)
def test_conditions_over_a_call_and_its_job_hold(source):
    conditions.check(source)
    assert holds(source)


@pytest.mark.parametrize(
    ("source", "line", "column"),
    [
        ("call.risk ==== 'high'", 1, 13),
        ("call.risk == 'high' &&\n  job.owner ==", 2, 15),
        ("call.risk == 'high' &&\n  user == 'ada'", 2, 3),
        ("call.tool == 'a' ||\n  call.riks == 'high'", 2, 3),
        ("lower(call.tool) == 'a'", 1, 1),
        ("call.tool.lowerAscii() == 'a'", 1, 11),
        ("'call.nothing' == jbo.id", 1, 19),
    ],
)
def test_a_condition_that_cannot_work_is_refused_with_line_and_column(source, line, column):
    with pytest.raises(InvalidCondition) as caught:
        conditions.check(source)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert f"line {line}, column {column}" in caught.value.message


def test_a_condition_is_bounded_in_length():
    with pytest.raises(InvalidCondition):
        conditions.check("true || " * 300 + "true")


@pytest.mark.parametrize(
    "source",
    [
        "call.args.force == true",  # missing
        "call.args.argv[7] == 'x'",
        "call.args.argv + 1 == 2",
        "1 / 0 == 1",
        "'a'.matches('(')",
        "call.risk",  # no boolean
        "call.args.n",
        "1",
        "nothing == 1",
        "call.risk ===",
    ],
)
def test_what_cannot_be_evaluated_raises_and_never_counts_as_false(source):
    with pytest.raises(ConditionFailed):
        holds(source)


def test_every_function_that_check_knows_exists_in_the_interpreter():
    calls = {
        "size": "size('a') == 1",
        "contains": "'a'.contains('a')",
        "startsWith": "'a'.startsWith('a')",
        "endsWith": "'a'.endsWith('a')",
        "matches": "'a'.matches('a')",
        "string": "string(1) == '1'",
        "int": "int('1') == 1",
        "uint": "uint(1) == 1u",
        "double": "double(1) == 1.0",
        "bytes": "bytes('a') == b'a'",
        "duration": "duration('1s') < duration('2s')",
        "timestamp": "timestamp('2020-01-01T00:00:00Z') < timestamp('2021-01-01T00:00:00Z')",
        "type": "type(1) == type(2)",
    }
    assert set(calls) == conditions.FUNCTIONS
    for source in calls.values():
        conditions.check(source)
        assert holds(source), source


def test_arguments_that_cel_cannot_hold_fail_closed():
    for value in (10**400, object()):
        with pytest.raises(ConditionFailed):
            variables = {**VARIABLES, "call": {**VARIABLES["call"], "args": {"n": value}}}
            conditions.holds("call.args.n > 1", conditions.scope(variables))


def test_deep_nesting_is_refused_and_kills_nobody():
    with pytest.raises(InvalidCondition):
        conditions.check("(" * 900 + "true" + ")" * 900)
