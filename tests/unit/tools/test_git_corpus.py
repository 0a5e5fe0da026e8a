"""The corpus of git calls: what is refused by its arguments alone, and what may be asked for."""

from typing import Any

import pytest

from tests.corpus.git import cases
from tools import registry
from tools.errors import InvalidArguments, ToolRefused

CALLS = cases("calls")


def test_the_corpus_is_as_large_as_it_says():
    assert len(CALLS) + len(cases("repositories")) >= 120
    assert {case["decided"] for case in CALLS} == {"refused", "allowed"}


@pytest.mark.parametrize("case", CALLS, ids=lambda case: case["id"])
def test_a_call_is_decided_as_the_corpus_says(case: dict[str, Any], settings):
    settings.ALLOW_LOCAL_REPOSITORIES = False
    tool = registry.get(case["tool"])
    if case["decided"] == "allowed":
        registry.validate(tool, case["arguments"])
        assert "\n" not in tool.describe(case["arguments"])
        return
    with pytest.raises((InvalidArguments, ToolRefused)):
        registry.validate(tool, case["arguments"])
