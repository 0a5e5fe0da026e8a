"""Definitions are read with their places, and every problem is told at its line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.workflows.check import check
from agents.workflows.diff import changes
from agents.workflows.graph import ancestors, layers
from agents.workflows.schema import SCHEMA, STEPS_MAX
from tools.yamltext.read import SOURCE_MAX_BYTES, parse

WHOLE = """\
name: everything
title: Everything at once
inputs:
  properties:
    message: {type: string, minLength: 1}
    files: {type: array, items: {type: string}, default: []}
  required: [message]
repository: optional
priority: 3
deadline: 2h
concurrency_key: "deploy-${{ inputs.message }}"
labels: {kind: "${{ inputs.message }}"}
steps:
  - key: look
    tool: git.status
    retry: {max_attempts: 4, delay: 5, backoff: 2, max_delay: 10m, on: [transient, timeout]}
    timeout: 90s
  - key: each
    needs: [look]
    when: size(inputs.files) > 0 && steps.look.ok
    map:
      over: inputs.files
      chunk: 10
      tool: files.read
      arguments: {path: "${{ item }}"}
  - key: write
    tool: files.write
    arguments: {path: a.txt, content: "${{ inputs.message }} ${{ steps.look.text }}"}
    needs: [look]
    fallbacks:
      - tool: shell.exec
        arguments: {argv: [touch, a.txt]}
    compensation:
      tool: shell.exec
      arguments: {argv: [rm, "${{ steps.write.data.path }}"]}
  - key: sub
    workflow: other@2
    inputs: {text: "${{ steps.write.summary }}"}
    needs: [write]
  - key: delegate
    goal: Look at ${{ inputs.message }}
    agent: reviewer
    tools: [files.*]
    max_tokens: 1000
    needs: [sub, each]
    needs_success: false
outputs:
  said: steps.look.text
"""


def told(source: str, **options) -> list[tuple[int, int, str]]:
    return [(one.line, one.column, one.path) for one in check(source, **options).problems]


def test_a_definition_with_everything_is_valid_in_yaml_and_as_json():
    found = check(WHOLE, known=lambda name, number: (name, number) == ("other", 2))
    assert found.problems == ()
    again = check(json.dumps(found.data, indent="\t"))
    assert again.data == found.data
    assert again.problems == ()


def test_every_problem_is_told_at_its_line_and_column():
    source = """\
name: Bad Name
color: red
inputs:
  properties: {n: {type: integer, default: many}}
steps:
  - key: a
    tool: files.read
    arguments: {path: 3, nope: 1}
    needs: [b]
  - key: b
    tool: shell.exec
    arguments: {argv: ["${{ inputs.m }}", "${{ steps.zz.text }}", "${{ 1 + }}"]}
    needs: [a, nobody]
    retry: {on: [bogus]}
  - key: b
    tool: nope.nope
  - key: c
    tool: llm.think
    when: foo(1)
    timeout: 10 minutes
  - key: d
    tool: git.status
    goal: more
    when: steps.c.ok
  - arguments: {}
  - 7
  - key: e
    workflow: gone@4
  - key: f
    map: {over: inputs.n, tool: human.ask, arguments: {question: "${{ item.x }}"}}
outputs: {x: steps.q.ok}
"""
    assert told(source, known=lambda name, number: False) == [
        (1, 7, "name"),
        (2, 1, "color"),
        (4, 44, "inputs.properties.n.default"),
        (8, 23, "steps[0].arguments.path"),
        (8, 26, "steps[0].arguments.nope"),
        (9, 12, "steps[0].needs"),  # the circle
        (12, 24, "steps[1].arguments.argv[0]"),
        (12, 43, "steps[1].arguments.argv[1]"),
        (12, 67, "steps[1].arguments.argv[2]"),
        (13, 16, "steps[1].needs[1]"),
        (14, 18, "steps[1].retry.on[0]"),
        (15, 10, "steps[2].key"),
        (16, 11, "steps[2].tool"),
        (18, 11, "steps[3].tool"),
        (19, 11, "steps[3].when"),
        (20, 14, "steps[3].timeout"),
        (23, 5, "steps[4].goal"),
        (25, 5, "steps[5]"),
        (25, 5, "steps[5].key"),
        (26, 5, "steps[6]"),
        (28, 15, "steps[7].workflow"),
        (30, 33, "steps[8].map.tool"),
        (31, 14, "outputs.x"),
    ]


@pytest.mark.parametrize(
    ("over", "problem"),
    [
        ('"3"', ("arguments", "Item 0: arguments.path: 0 is not of type 'string'")),
        ("[a, 7]", ("arguments", "Item 1: arguments.path: 7 is not of type 'string'")),
        ("\"['a', 'b']\"", None),
        ('"[7].map(n, string(n))"', None),
        ("inputs.n", None),
        ('"true"', ("over", "This gives neither a list nor a whole number.")),
        ('"[1][2]"', ("over", "index out of bounds: 2")),
        ('"2 - 3"', ("over", "This gives a number below 0.")),
        ('"1000000"', ("over", "A map has at most 100,000 items, not 1,000,000.")),
    ],
)
def test_a_map_over_a_constant_is_tried_before_it_runs(over: str, problem: tuple[str, str] | None):
    source = f"""\
name: x
inputs: {{properties: {{n: {{type: array}}}}}}
steps:
  - {{key: a, map: {{over: {over}, tool: files.read, arguments: {{path: "${{{{ item }}}}"}}}}}}
"""
    found = [(one.path.removeprefix("steps[0].map."), one.message) for one in check(source).problems]
    assert found == ([] if problem is None else [problem])


def test_a_step_reads_only_what_has_ended():
    source = "name: x\nsteps:\n- {key: a, tool: git.status}\n- {key: b, tool: git.status, when: steps.a.ok}\n"
    [problem] = check(source).problems
    assert (problem.line, problem.column) == (4, 36)
    assert "add it to needs" in problem.message
    assert not check(source.replace("steps.a.ok", "\"'steps.a.x' == ''\"")).problems
    far = (
        source.replace("when: steps.a.ok", "needs: [a]")
        + "- {key: c, tool: git.status, needs: [b], when: \"steps['a'].ok\"}\n"
    )
    assert not check(far).problems


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3", 3, "stands twice: first on line 1"),
        ("a: &x [1]\nb: *x", 1, "Anchors"),
        ("a: !!python/name:os.system x", 1, "Tags"),
        ("a: 1\n---\nb: 2", 2, "second document"),
        ("a: [1,\nb: 2\n", 3, "no YAML"),
        ("a:\n\t- b", 2, "no YAML"),
        ("[" * 40, 1, "Nested deeper"),
        ("", 1, "empty"),
        ("a: \ud800", 1, "Unicode"),
        ("a: 1\nb: \x07", 2, "control characters"),
        ("a: 9999999999999999999", 1, "2^53"),
        ("? [a]\n: 1", 1, "must be text"),
        ("a: " + "x" * SOURCE_MAX_BYTES, 1, "256 KiB"),
    ],
)
def test_text_that_cannot_be_read_says_where(source: str, line: int, words: str):
    [problem, *_] = parse(source).problems
    assert problem.line == line
    assert words in problem.message


def test_yaml_is_read_by_its_newer_rules():
    document = parse("a: yes\nb: on\nc: 2024-01-01\nd: 0o14\ne: 1e3\nf: ~\ng: 'true'\nh: -5\ni: True")
    assert document.data == {
        "a": "yes", "b": "on", "c": "2024-01-01", "d": "0o14", "e": 1000.0, "f": None, "g": "true", "h": -5, "i": True
    }  # fmt: skip
    assert parse('{"a": "\\ud83d\\ude00 \\\\ud83d\\\\ude00 \\/"}').data == {"a": "😀 \\ud83d\\ude00 /"}


def test_a_workflow_of_ten_thousand_steps_gets_a_clear_error():
    source = "name: x\nsteps:\n" + "".join(f"- {{key: s{n},tool: git.log}}\n" for n in range(8000))
    problems = check(source).problems
    assert [(one.line, one.path) for one in problems] == [(2, "steps")]
    assert f"at most {STEPS_MAX} steps" in problems[0].message


def test_a_long_chain_of_steps_is_valid():
    source = "name: x\nsteps:\n- {key: s0, tool: git.log}\n" + "".join(
        f"- {{key: s{n}, tool: git.log, needs: [s{n - 1}], when: steps.s0.ok}}\n" for n in range(1, STEPS_MAX)
    )
    assert check(source).problems == ()


# What a person may type wrong, anywhere in a definition.
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.text(max_size=8)
    | st.sampled_from(["git.log", "${{ x", "steps.a"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(SCHEMA["properties"])), inner, max_size=3)
    ),
    max_leaves=8,
)
_steps = st.lists(
    st.dictionaries(
        st.sampled_from(["key", *sorted(SCHEMA["properties"]["steps"]["items"]["properties"])]), _json, max_size=6
    ),
    max_size=4,
)


@given(st.dictionaries(st.sampled_from(sorted(SCHEMA["properties"])), _json), _steps)
def test_whatever_is_given_is_told_and_never_breaks(own, steps):
    found = check(json.dumps({**own, "steps": steps}))
    assert found.problems or found.data
    assert all(one.line >= 1 and one.column >= 1 and one.message for one in found.problems)


def test_layers_and_ancestors_of_a_graph():
    needs = {"a": [], "b": ["a"], "c": ["a", "b"], "d": []}
    assert layers(needs) == ([["a", "d"], ["b"], ["c"]], [])
    assert ancestors(needs) == {"a": set(), "b": {"a"}, "c": {"a", "b"}, "d": set()}
    circle = layers({"a": ["c"], "b": ["a"], "c": ["b"], "x": ["c"]})[1]
    assert circle[0] == circle[-1]
    assert set(circle) == {"a", "b", "c"}


def test_changes_are_told_by_step_and_field():
    old = {"name": "x", "priority": 3, "steps": [{"key": "a", "tool": "git.log"}, {"key": "b", "tool": "git.log"}]}
    new = {
        "name": "x",
        "steps": [
            {"key": "c", "tool": "git.diff"},
            {"key": "a", "tool": "files.read", "arguments": {"path": "x"}, "timeout": 5},
        ],
    }
    assert [str(one) for one in changes(old, new)] == [
        "priority removed: 3",
        "step b removed",
        "step c added",
        'step a: tool changed from "git.log" to "files.read"',
        'step a: arguments.path added: "x"',
        "step a: timeout added: 5",
    ]
    assert changes(old, old) == []
