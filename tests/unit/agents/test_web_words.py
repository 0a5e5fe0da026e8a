"""Times, sizes and hostile text as pages write them."""

from datetime import UTC, datetime, timedelta

import pytest

from agents.web.words import ago, between, count, duration, first_line, readable, rough, size

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (-5, "0 s"),
        (0, "0 s"),
        (0.0004, "0 s"),
        (0.05, "50 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (1, "1 s"),
        (4.24, "4.2 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (7_800, "2 h 10 min"),
        (3_600 * 24 * 3 + 3_600 * 4, "3 d 4 h"),
        (timedelta(minutes=2), "2 min"),
    ],
)
def test_a_duration_has_two_parts_at_most(seconds, text):
    assert duration(seconds) == text


def test_sentences_say_one_part():
    assert [rough(None), rough(0.4), rough(61), rough(timedelta(hours=2, minutes=50))] == [
        "a moment",
        "a moment",
        "1 min",
        "2 h",
    ]
    assert [ago(None, NOW), ago(NOW, NOW), ago(NOW - timedelta(minutes=3), NOW)] == ["", "just now", "3 min ago"]
    assert [between(None, NOW), between(NOW, NOW + timedelta(seconds=2))] == ["", "2 s"]


def test_counts_and_sizes_read_well():
    assert [count(1, "step"), count(12_040, "token"), count(2, "entry", "entries")] == [
        "1 step",
        "12,040 tokens",
        "2 entries",
    ]
    assert [size(812), size(3_500), size(50_000), size(13 * 1024 * 1024)] == ["812 B", "3.4 KiB", "49 KiB", "13 MiB"]


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("a\u202eb", "a⟦U+202E⟧b"),
        ("pay\u200bpal", "pay⟦U+200B⟧pal"),
        ("\x1b[2Jgone", "⟦U+001B⟧[2Jgone"),
        ("one\rtwo", "one⟦U+000D⟧two"),
        ("nul\x00", "nul⟦U+0000⟧"),
        ("tag\U000e0041", "tag⟦U+E0041⟧"),
        ("\ud800", "⟦U+D800⟧"),
    ],
)
def test_hidden_characters_are_shown(hostile, shown):
    assert readable(hostile) == shown


def test_ordinary_output_stays_as_it_is():
    text = "é 漢字\tกขค\n👩\u200d💻 ✔️\n"
    assert readable(text) == text
    assert readable("windows\r\nlines") == "windows\nlines"


def test_a_first_line_is_never_longer_than_it_may_be():
    assert first_line("\n\n  hello \nworld") == "hello"
    assert first_line("x" * 300, 10) == "x" * 9 + "…"
    assert first_line("") == ""
