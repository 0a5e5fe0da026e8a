"""Wrong arguments are told by their own path."""

import pytest

from tests.factories.tools import Note
from tools import registry
from tools.errors import InvalidArguments, ToolDisabled, UnknownTool


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "arguments.argv"),
        ({"argv": []}, "arguments.argv"),
        ({"argv": ["ls", 1]}, "arguments.argv[1]"),
        ({"argv": ["ls"], "shell": True}, "arguments.shell"),
    ],
)
def test_a_wrong_argument_is_named_by_its_path(arguments, field):
    with pytest.raises(InvalidArguments) as caught:
        registry.validate(registry.get("shell.exec"), arguments)
    assert caught.value.field == field
    assert caught.value.message


def test_an_unknown_tool_is_named_with_those_that_there_are():
    with pytest.raises(UnknownTool, match=r"rm\.everything") as caught:
        registry.get("rm.everything")
    assert "shell.exec" in caught.value.details["known"]


class Shelf:
    """A source whose contents the test changes."""

    def __init__(self, *tools):
        self.has, self.asked, self.why = list(tools), 0, ""

    def version(self):
        self.asked += 1
        return tuple(id(tool) for tool in self.has)

    def tools(self, version):
        return list(self.has)

    def why_not(self, name):
        return self.why


@pytest.fixture
def shelf(monkeypatch):
    monkeypatch.setattr(registry, "FRESH_S", 1000.0)
    made = Shelf(Note())
    registry.add_source(made)
    return made


def test_a_source_is_asked_once_in_a_while_and_at_the_door_each_time(shelf):
    for _ in range(5):
        assert registry.get("test.note") is shelf.has[0]
    assert shelf.asked == 1
    shelf.has = []
    assert registry.get("test.note").name == "test.note"
    with pytest.raises(UnknownTool):
        registry.get("test.note", at_once=True)
    assert "test.note" not in [tool.name for tool in registry.every()]


def test_what_a_source_has_is_validated_and_listed_like_the_servers_own(shelf):
    tool = registry.get("test.note")
    assert tool in registry.every() and tool not in registry.builtin()
    registry.validate(tool, {"text": "x"})
    with pytest.raises(InvalidArguments, match="no such field"):
        registry.validate(tool, {"txt": "x"})


def test_a_source_takes_no_name_of_the_servers_own(shelf):
    class Stolen(Note):
        name = "shell.exec"

    shelf.has = [Stolen()]
    assert not isinstance(registry.get("shell.exec", at_once=True), Stolen)
    assert not any(isinstance(tool, Stolen) for tool in registry.every())


def test_a_tool_that_a_source_knows_and_does_not_give_is_disabled(shelf):
    shelf.has, shelf.why = [], "Nobody has enabled it."
    with pytest.raises(ToolDisabled, match="Nobody has enabled it") as caught:
        registry.get("test.note", at_once=True)
    assert caught.value.code == "tool_disabled"
