"""The stand-in in a conversation."""

from typing import Any

import pytest

from agents.llm.names import to_wire
from agents.llm.scripted.brain import move
from agents.llm.scripted.scene import read


def body(*messages: tuple[str, str], functions: tuple[str, ...] = ("job.propose", "human.ask", "files.list")) -> Any:
    tools = [{"type": "function", "function": {"name": to_wire(name), "parameters": {}}} for name in functions]
    said = [{"role": role, "content": text} for role, text in messages]
    return {"messages": [{"role": "system", "content": "x"}, *said], "tools": tools}


@pytest.mark.parametrize(
    ("said", "tool"),
    [
        ("please look around", "files.list"),
        ("ask me what you need", "human.ask"),
        ("fix the tests", "job.propose"),
        ("how are you?", ""),
    ],
)
def test_it_does_one_thing_by_the_words_of_the_last_message(said: str, tool: str) -> None:
    made = move(read(body(("user", "look at it"), ("assistant", "I did."), ("user", said))))
    assert [ask.name for ask in made.asks] == ([tool] if tool else [])
    assert bool(made.words) == (tool in ("", "files.list"))


def test_it_says_what_came_of_its_call_and_then_waits_for_the_person() -> None:
    asked = body(("user", "fix the tests"))
    asked["messages"] += [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c", "function": {"name": to_wire("job.propose"), "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "OK: Offered."},
    ]
    made = move(read(asked))
    assert made.words.startswith("The offer stands below") and not made.asks


def test_a_title_is_the_first_words_of_the_message() -> None:
    schema = {"properties": {"title": {"type": "string"}}, "required": ["title"]}
    given = {
        "messages": [
            {"role": "user", "content": "<context>\nWhy, oh why, are <b>these</b> tests slow?\n</context>\n\nGo."}
        ],
        "response_format": {"type": "json_schema", "json_schema": {"schema": schema}},
    }
    assert move(read(given)).answer == {"title": "Why oh why are b these"}
