"""Every line of the corpus is decided right."""

import pytest

from tests.corpus.commands import cases
from tools.registry import get

CASES = list(cases())


def test_the_corpus_is_large_and_says_where_its_tricks_come_from() -> None:
    assert len(CASES) >= 150
    assert len({text for _, text, _ in CASES}) == len(CASES)
    assert all(source for _, _, source in CASES)


@pytest.mark.parametrize("source", sorted({source for _, _, source in CASES}))
def test_every_line_is_decided_right(source: str) -> None:
    tool = get("shell.script")
    wrong = []
    for level, text, origin in CASES:
        if origin == source and str((found := tool.risk({"script": text})).level) != level:
            wrong.append((text, level, found.level, found.reasons))
    assert not wrong
