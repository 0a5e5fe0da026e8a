"""The feed as a log to read."""

from datetime import UTC, datetime
from uuid import uuid4

from agents.models import FeedEntry
from agents.web.loglines import LINE_LIMIT_CHARS, blocks, line

STEP = uuid4()
NAMES = {STEP: ("1.1", "shell.exec")}


def entry(seq: int, kind: str, **data: object) -> FeedEntry:
    step_id = STEP if kind in {"log", "token", "note", "step"} else None
    return FeedEntry(seq=seq, kind=kind, data=data, step_id=step_id, at=datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC))


def test_chunks_of_one_stream_are_one_block_though_they_break_within_a_line():
    made = blocks(
        line(one, NAMES)
        for one in [
            entry(1, "log", stream="stdout", text="hel", attempt=1),
            entry(2, "log", stream="stdout", text="lo\n", attempt=1),
            entry(3, "log", stream="stderr", text="oops\n", attempt=1),
            entry(4, "log", stream="stdout", text="again\n", attempt=2),
        ]
    )
    assert [(one.text, one.last_seq) for one in made] == [("hello\n", 2), ("oops\n", 3), ("again\n", 4)]


def test_states_are_told_in_words_and_plans_are_not_told():
    told = [
        line(entry(1, "step", state=state, key="1.1", tool="git.push"), NAMES).text
        for state in ("pending", "ready", "queued", "waiting_approval", "succeeded")
    ]
    assert told == ["", "", "", "git.push waits for people", "git.push succeeded"]
    assert line(entry(2, "job", state="waiting"), NAMES).text == "job waits for people"


def test_a_model_and_a_command_never_share_a_block():
    kinds = [("token", {"text": "a", "attempt": 1}), ("log", {"text": "a", "stream": "stdout", "attempt": 1})]
    assert len(blocks(line(entry(n, kind, **data), NAMES) for n, (kind, data) in enumerate(kinds))) == 2


def test_hostile_entries_are_bounded_and_shown():
    assert line(entry(1, "log", text="\u202e", stream="stdout"), NAMES).text == "⟦U+202E⟧"
    assert len(line(entry(1, "log", text="x" * 10**6, stream="s" * 99), NAMES).text) == LINE_LIMIT_CHARS
    odd = line(entry(1, "log", text={"a": 1}, stream=None, attempt="1"), NAMES)
    assert (odd.attempt, odd.stream) == (0, "")
    assert line(entry(1, "step", state="no such state", key="k", tool="t"), NAMES).text == ""
    assert line(entry(1, "job", state="no such state"), NAMES).text == "job no such state"
