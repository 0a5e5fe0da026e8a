"""Tool names on their way to a model and back."""

import re

import pytest

from agents.llm.names import from_wire, to_wire


@pytest.mark.parametrize(
    "name",
    ["git.status", "shell.exec", "mcp.server-1.tool", "a__b.c", "x" * 80, "with space", "naïve.tool", "a.b_c", "a._b"],
)
def test_every_name_fits_and_comes_back(name):
    wire = to_wire(name)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", wire)
    assert from_wire(wire, [name, "git.log"]) == name


def test_names_that_look_alike_stay_apart():
    names = ["a.b", "a__b", "a_.b", "a._b", "a b", "a-b", "x" * 70, "x" * 71]
    assert len({to_wire(name) for name in names}) == len(names)


def test_our_own_dotted_name_is_understood():
    assert from_wire("git.status", ["git.status"]) == "git.status"


def test_an_unknown_name_is_nobody():
    assert from_wire("launch__rocket", ["git.status"]) is None
