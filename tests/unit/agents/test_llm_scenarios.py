"""Scenarios of the scripted server: read, matched, and answered over real HTTP."""

import json
from pathlib import Path

import httpx2
import pytest

from agents.llm.scripted import scenarios, vectors
from agents.llm.scripted.scenarios import BadScenario, parse
from agents.llm.scripted.scene import read
from tests.factories import scripted_server

SCENARIO = """
rules:
  - when: {goal: "(?i)tidy (?:the )?(\\\\w+)", turn: 1, functions: [files.list]}
    say: "I look at ${match} first."
    calls: [{tool: files.list, arguments: {path: "${match}"}, reason: "To see."}]
  - when: {last: {tool: files.list, status: OK, text: "notes"}}
    calls: [{tool: finish, arguments: {success: true, summary: "Found ${last.text}"}}]
  - when: {schema: [summary], message: "three words"}
    answer: {summary: "Only three words"}
  - when: {goal: "^count me"}
    say: "Counted."
    usage: {prompt_tokens: 1000, completion_tokens: 7, cached_tokens: 900}
  - when: {goal: "break once"}
    fault: status500
    once: true
  - when: {system: "pirate"}
    say: "Arr."
"""
LIST = {"type": "function", "function": {"name": "files__list", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenario") / "scenario.yaml"
    path.write_text(SCENARIO)
    with scripted_server.running("--scenario", str(path)) as endpoint:
        yield endpoint.base_url


def ask(url: str, *messages: dict, **more) -> httpx2.Response:
    body = {"model": "scripted-demo", "messages": list(messages), **more}
    return httpx2.post(f"{url}/chat/completions", json=body, timeout=30, trust_env=False)


def said(answer: httpx2.Response) -> dict:
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def test_a_rule_answers_with_words_and_calls_filled_from_the_goal(url):
    message = said(ask(url, user("Tidy the attic, please"), tools=[LIST]))
    assert message["content"] == "I look at attic first."
    call = message["tool_calls"][0]["function"]
    assert call["name"] == "files__list" and json.loads(call["arguments"]) == {"path": "attic", "reason": "To see."}


def test_what_came_of_the_last_call_chooses_the_next_rule(url):
    function = {"name": "files__list", "arguments": "{}"}
    asked = {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function", "function": function}]}
    result = {"role": "tool", "tool_call_id": "c1", "content": "OK: 1 entry\nnotes.txt"}
    message = said(ask(url, user("Tidy the attic"), asked, result, tools=[LIST]))
    assert json.loads(message["tool_calls"][0]["function"]["arguments"])["summary"] == "Found notes.txt"


@pytest.mark.parametrize("way", ["json_schema", "json_object", "function"])
def test_data_comes_in_the_way_that_it_was_asked_for(url, way):
    schema = {"type": "object", "properties": {"summary": {"type": "string"}}}
    more: dict = {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}
    if way == "function":
        more = {"tools": [{"type": "function", "function": {"name": "answer", "parameters": schema}}]}
    if way == "json_object":
        more = {"response_format": {"type": "json_object"}}
    message = said(ask(url, user("Use three words."), **more))
    if way == "function":
        assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"summary": "Only three words"}
    else:  # without a schema no rule that asks for fields can fit
        assert json.loads(message["content"]) == ({"summary": "Only three words"} if way == "json_schema" else {})


def test_the_count_of_tokens_can_be_said(url):
    usage = ask(url, user("count me in")).json()["usage"]
    assert usage == {
        "prompt_tokens": 1000,
        "completion_tokens": 7,
        "total_tokens": 1007,
        "prompt_tokens_details": {"cached_tokens": 900},
    }


def test_a_fault_that_happens_once_is_over_the_second_time(url):
    assert [ask(url, user("break once")).status_code for _ in range(3)] == [500, 200, 200]


def test_the_system_text_chooses_too_and_what_no_rule_knows_is_answered_as_ever(url):
    assert said(ask(url, {"role": "system", "content": "You are a pirate."}, user("hello")))["content"] == "Arr."
    assert "scripted" in said(ask(url, user("hello")))["content"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rules: [", "no YAML"),
        ("[]", "$"),
        ("rules: [{say: 3}]", "$.rules[0].say"),
        ("rules: [{when: {goal: '('}}]", "$.rules[0].when.goal"),
        ("rules: [{when: {last: {text: '['}}}]", "$.rules[0].when.last.text"),
        ("rules: [{fault: nothing}]", "$.rules[0].fault"),
        ("rules: [{when: {whenever: 1}}]", "whenever"),
    ],
)
def test_a_scenario_that_cannot_be_used_says_where(text, told):
    with pytest.raises(BadScenario) as failed:
        parse(text)
    assert told in str(failed.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(BadScenario, match=r"absent\.yaml"):
        scenarios.load(tmp_path / "absent.yaml")


def test_the_shape_may_have_any_field_where_the_rule_names_none():
    rule = parse("rules: [{when: {schema: []}, answer: {}}]")[0]
    body = {"messages": [user("x")], "response_format": {"type": "json_object"}}
    assert rule.fits(read(body)) and not rule.fits(read({"messages": [user("x")]}))


def test_vectors_find_what_shares_words(url):
    texts = ["the build failed on main", "the build is failing on main", "lunch is at noon"]
    body = {"model": "scripted-lexical", "input": texts, "dimensions": 128}
    found = httpx2.post(f"{url}/embeddings", json=body, timeout=30, trust_env=False).json()
    first, second, third = (one["embedding"] for one in found["data"])
    near, far = (sum(map(float.__mul__, first, other)) for other in (second, third))
    assert near > 0.5 > far
    assert first == vectors.vector(texts[0], 128)
    assert sum(value * value for value in first) == pytest.approx(1.0)


def test_a_request_for_no_vectors_is_refused(url):
    answer = httpx2.post(f"{url}/embeddings", json={"model": "x", "input": []}, timeout=30, trust_env=False)
    assert answer.status_code == 400 and "input" in answer.text
