"""The shape of submissions."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.errors import InvalidInput
from agents.payload import MAX_DEPTH, MAX_STEPS, JobInput, ShareInput, parse
from agents.submit import find_cycle, plan, request_sha256
from agents.triggers.inputs import EventInput, EventRuleInput
from audit.canonical import canonical_json


def fields(payload: object, model: type = JobInput) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        parse(model, payload)
    return [field for field, _ in caught.value.problems]


def step(**changes: object) -> dict[str, object]:
    return {"key": "a", "tool": "shell.exec", "arguments": {}, **changes}


def test_a_full_submission_is_taken_as_given():
    given = parse(
        JobInput,
        {
            "steps": [step(), step(key="b", needs=["a"], reason="because")],
            "title": "Two steps",
            "agent": "developer",
            "repository": "sample",
            "priority": 0,
            "labels": {"team/app": "core"},
        },
    )
    assert [one.key for one in given.steps or []] == ["a", "b"]
    assert given.labels == {"team/app": "core"}


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"goal": "x", "gaol": 1}, "gaol"),
        ({"goal": 5}, "goal"),
        ({"goal": "x", "priority": "1"}, "priority"),
        ({"goal": "x", "priority": True}, "priority"),
        ({"goal": "x", "priority": 10}, "priority"),
        ({"goal": "x", "priority": 1.0}, "priority"),
        ({"goal": "x", "labels": ["a"]}, "labels"),
        ({"goal": "x", "labels": {"a": 1}}, "labels.a"),
        ({"goal": "x", "labels": {"a b": "1"}}, "labels.a b"),
        ({"goal": "x", "labels": {str(n): "1" for n in range(33)}}, "labels"),
        ({"goal": "x" * 20_001}, "goal"),
        ({"goal": "nul \x00"}, "goal"),
        ({"goal": "half \ud800"}, "goal"),
        ({"steps": []}, "steps"),
        ({"steps": {}}, "steps"),
        ({"steps": ["a"]}, "steps[0]"),
        ({"steps": [step(key=f"k{n}") for n in range(MAX_STEPS + 1)]}, "steps"),
        ({"steps": [{"key": "a"}]}, "steps[0].tool"),
        ({"steps": [step(key="")]}, "steps[0].key"),
        ({"steps": [step(key="a b")]}, "steps[0].key"),
        ({"steps": [step(extra=1)]}, "steps[0].extra"),
        ({"steps": [step(), step(key="b", needs="a")]}, "steps[1].needs"),
        ({"steps": [step(needs=[1])]}, "steps[0].needs[0]"),
        ({"steps": [step(arguments=[])]}, "steps[0].arguments"),
        ({"steps": [step(arguments={"a": ["ok", "\x00"]})]}, "steps[0].arguments.a[1]"),
        ({"steps": [step(arguments={"n": 2**53})]}, "steps[0].arguments.n"),
        ({"steps": [step(arguments={"n": float("inf")})]}, "steps[0].arguments.n"),
        ({"steps": [step(arguments={"\x00": 1})]}, "steps[0].arguments"),
    ],
)
def test_a_wrong_field_is_named(payload, field):
    assert fields(payload) == [field]


@pytest.mark.parametrize(
    ("model", "payload", "words"),
    [
        (EventInput, {"name": "Build Done"}, "Small letters, digits, ., - and _ only, starting"),
        (EventRuleInput, {"name": "r", "events": [{"name": "A"}], "payload": {}}, "and _ only, and * for anything"),
        (JobInput, {"goal": "g", "concurrency_key": "a;b"}, "Letters, digits, spaces and"),
        (JobInput, {"goal": "g", "agent": "a", "labels": {"é": "x"}}, "Letters, digits, - and _ only"),
    ],
)
def test_what_a_name_may_hold_is_said(model, payload, words):
    with pytest.raises(InvalidInput, match=re.escape(words)):
        parse(model, payload)


def test_every_wrong_field_is_named_at_once():
    assert fields({"goal": 1, "priority": 11, "odd": True}) == ["goal", "priority", "odd"]


@pytest.mark.parametrize("payload", [None, [], "goal", 3])
def test_a_body_that_is_no_object_is_refused(payload):
    assert fields(payload) == [""]


def test_nesting_is_bounded():
    deep: object = 1
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(InvalidInput, match="Nested deeper"):
        parse(JobInput, {"steps": [step(arguments={"a": deep})]})


def test_sharing_takes_names_only():
    assert fields({"user": 1}, ShareInput) == ["user"]


@pytest.mark.parametrize(
    ("needs", "cycle"),
    [
        ({}, []),
        ({"a": [], "b": ["a"], "c": ["a", "b"]}, []),
        ({"a": ["a"]}, ["a", "a"]),
        ({"a": ["b"], "b": ["a"]}, ["a", "b", "a"]),
        ({"x": [], "a": ["x", "b"], "b": ["c"], "c": ["a"]}, ["a", "b", "c", "a"]),
        ({f"k{n}": [f"k{n + 1}"] if n < 199 else [] for n in range(200)}, []),
    ],
)
def test_a_cycle_is_found_and_named(needs, cycle):
    assert find_cycle(needs) == cycle


def test_a_wide_plan_is_searched_quickly():
    keys = [f"k{n}" for n in range(200)]
    assert find_cycle({key: keys[:index] for index, key in enumerate(keys)}) == []


def test_the_order_of_fields_does_not_change_the_digest():
    one = json.loads('{"goal": "x", "labels": {"a": "1", "b": "2"}}')
    two = json.loads('{"labels": {"b": "2", "a": "1"}, "goal": "x"}')
    assert request_sha256(one) == request_sha256(two)
    assert request_sha256(one) != request_sha256({**one, "goal": "y"})


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
STEPS = st.lists(
    st.fixed_dictionaries(
        {"key": st.sampled_from("abc") | VALUES, "tool": st.sampled_from(["shell.exec", "x"]) | VALUES},
        optional={"arguments": VALUES, "needs": st.lists(st.sampled_from("abcd")) | VALUES, "reason": VALUES},
    ),
    max_size=4,
)
PAYLOADS = VALUES | st.fixed_dictionaries(
    {},
    optional={
        "goal": VALUES,
        "steps": STEPS | VALUES,
        "title": VALUES,
        "priority": VALUES,
        "labels": VALUES,
        "agent": VALUES,
        "extra": VALUES,
    },
)


@given(PAYLOADS)
def test_whatever_is_sent_is_taken_or_refused_and_what_is_taken_can_be_stored(payload):
    try:
        given_job = parse(JobInput, payload)
        steps = plan(given_job.steps or ())
    except InvalidInput as error:
        assert error.problems
    else:
        stored = canonical_json([one.arguments for one in steps]) + canonical_json(
            given_job.model_dump(exclude={"steps"})
        )
        assert b"\\u0000" not in stored
