"""A model's answer is untrusted until it is read."""

import json

import pytest

from agents.llm.functions import as_functions, offered
from agents.llm.judge import judge, repair_messages
from agents.llm.values import Answer, RawCall, Usage
from tests.factories import tools as test_tools
from tools import registry


@pytest.fixture(autouse=True)
def registered():
    with test_tools.registered():
        yield


def answer(*calls: tuple[str, str], content: str = "so") -> Answer:
    return Answer(
        content=content,
        calls=tuple(RawCall(id=f"c{n}", name=name, arguments=text) for n, (name, text) in enumerate(calls)),
        finish_reason="tool_calls",
        model="m",
        usage=Usage(prompt_tokens=1, completion_tokens=1),
    )


def read(*calls, content="so"):
    return judge(answer(*calls, content=content), offered(["test.*"]), turn=1)


def test_a_call_is_read_with_its_reason_taken_out():
    verdict = read(("test__note", '{"text": "hi", "reason": "Because."}'))
    assert verdict.problems == ()
    assert verdict.wishes[0].as_json() == {
        "id": "c0",
        "name": "test.note",
        "arguments": {"text": "hi"},
        "reason": "Because.",
    }


def test_finish_ends_the_job():
    verdict = read(("finish", '{"success": false, "summary": "Could not."}'))
    assert verdict.finish == {"success": False, "summary": "Could not."}
    assert verdict.wishes == ()


@pytest.mark.parametrize(
    ("name", "arguments", "why"),
    [
        ("test__note", '{"text": "hi"', "not valid JSON"),
        ("test__note", "[1]", "must be a JSON object"),
        ("test__note", '{"text": NaN}', "not valid JSON"),
        ("test__note", '{"text": 12345678901234567890123}', "cannot be used"),
        ("test__note", '{"text": "\\u0000"}', "NUL"),
        ("test__note", '{"text": "\\ud800"}', "cannot be used"),
        ("test__note", '{"text": 5}', "arguments.text"),
        ("test__note", '{"other": 5}', "arguments"),
        ("test__note", "[" * 100_000, "not valid JSON"),
        ("launch__rocket", "{}", "no function 'launch__rocket'"),
        ("llm__think", '{"turn": 1}', "no function 'llm__think'"),
        ("finish", '{"success": "yes", "summary": "x"}', "finish takes"),
        ("finish", '{"success": true, "summary": " "}', "finish takes"),
    ],
)
def test_a_wrong_call_is_told_why(name, arguments, why):
    verdict = read((name, arguments))
    assert why in verdict.problems[0][1]
    assert verdict.wishes == () and verdict.finish is None


def test_one_wrong_call_stops_the_others_of_its_answer():
    verdict = read(("test__note", '{"text": "hi"}'), ("test__note", "{"))
    assert [call for call, _ in verdict.problems] == ["c1"]
    assert verdict.wishes == ()


def test_finish_beside_other_calls_is_not_understood():
    verdict = read(("test__note", "{}"), ("finish", '{"success": true, "summary": "Done."}'))
    assert "only call" in verdict.problems[0][1]


def test_words_alone_are_no_answer():
    assert "You called no function" in read(content="I am done.").problems[0][1]


def test_calls_with_missing_or_doubled_ids_get_ids_of_their_own():
    calls = tuple(RawCall(id=id, name="test__read", arguments="{}") for id in ("", "x", "x", "y" * 200, "z\n"))
    verdict = judge(
        Answer(
            content="", calls=calls, finish_reason="stop", model="m", usage=Usage(prompt_tokens=0, completion_tokens=0)
        ),
        offered(["test.*"]),
        turn=7,
    )
    ids = [wish.id for wish in verdict.wishes]
    assert len(set(ids)) == 5
    assert ids[1] == "x"
    assert all(id.isprintable() and len(id) <= 64 for id in ids)


def test_a_repair_shows_the_answer_and_names_what_is_wrong_with_each_call():
    given = answer(("test__note", '{"text": "hi"}'), ("test__note", "{broken"), ("laun ch!", "{}"))
    verdict = judge(given, offered(["test.*"]), turn=1)
    assistant, first, second, third = repair_messages(given, verdict, turn=1)
    assert [call["id"] for call in assistant["tool_calls"]] == ["c0", "c1", "c2"]
    assert all(json.loads(call["function"]["arguments"]) is not None for call in assistant["tool_calls"])
    assert assistant["tool_calls"][2]["function"]["name"] == "launch"
    assert first["content"].startswith("NOT RUN")
    assert second["content"].startswith("INVALID") and "{broken" in second["content"]
    assert third["content"].startswith("INVALID")


def test_a_model_is_offered_what_its_agent_may_use_and_finish():
    names = [one["function"]["name"] for one in as_functions(offered(["test.r*"]))]
    assert names[-1] == "finish"
    assert "test__read" in names and "test__note" not in names
    assert "llm__think" not in [one["function"]["name"] for one in as_functions(offered(["*"]))]


def test_every_function_takes_an_optional_reason_and_the_tool_s_schema_stays_as_it_is():
    function = next(one for one in as_functions(offered(["test.note"])) if one["function"]["name"] == "test__note")
    schema = function["function"]["parameters"]
    assert "reason" in schema["properties"]
    assert "reason" not in schema.get("required", [])
    assert "reason" not in registry.get("test.note").schema["properties"]
