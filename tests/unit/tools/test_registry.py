"""Wrong arguments are told by their own path."""

import pytest

from tools import registry
from tools.errors import InvalidArguments, UnknownTool


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
