"""Bytes of a pipe become text that can be stored, whatever the chunks."""

from hypothesis import given
from hypothesis import strategies as st

from tools.sandbox.output import Batcher, Cleaner, HeadAndTail, Unfiltered, clean


def in_chunks(data: bytes, size: int) -> str:
    cleaner = Cleaner(Unfiltered())
    return "".join(cleaner.feed(data[at : at + size]) for at in range(0, len(data), size)) + cleaner.flush()


def test_escape_sequences_and_control_characters_go() -> None:
    assert clean("\x1b[1;31mred\x1b[0m\x1b]8;;http://x\x1b\\link\x07\x00\x08\x7f\x9b1m\tz\n") == "redlink\tz\n"
    assert clean("10%\r20%\r\ndone\r") == "10%\n20%\ndone\n"
    assert clean("\x1b]0;never ended") == "]0;never ended"


def test_characters_that_hide_or_reorder_are_shown() -> None:
    assert clean("a\u202eb\u200bc") == "a\\u202eb\\u200bc"


@given(st.binary(max_size=200) | st.text("\x1b[]0;m\x07\\é\r\nab", max_size=60).map(str.encode), st.integers(1, 5))
def test_the_size_of_the_chunks_makes_no_difference(data: bytes, size: int) -> None:
    whole = in_chunks(data, len(data) + 1)
    assert in_chunks(data, size) == whole
    assert not any(ord(character) < 32 and character not in "\n\t" for character in whole)
    whole.encode()


@given(st.lists(st.text(max_size=30), max_size=20), st.integers(0, 20), st.integers(0, 20))
def test_head_tail_and_gap_account_for_every_byte(parts: list[str], head: int, tail: int) -> None:
    kept = HeadAndTail(head, tail)
    for part in parts:
        kept.add(part)
    text, missing = kept.finish()
    total = len("".join(parts).encode())
    if not missing:
        assert text == "".join(parts)
    else:
        assert f"[... {missing} bytes left out ...]" in text
        before, after = text.split(f"\n[... {missing} bytes left out ...]\n")
        assert "".join(parts).startswith(before)
        assert "".join(parts).endswith(after)
        assert len(before.encode()) + missing + len(after.encode()) == total


def test_batches_are_few_and_small_and_say_what_they_skip() -> None:
    sent: list[str] = []
    batcher = Batcher(sent.append, interval_s=0.25, size=100)
    for tick in range(1000):
        batcher.add("line\n", tick / 1000)
    batcher.flush(1.0)
    assert len(sent) == 5
    assert all("characters not shown live" in batch and len(batch) < 200 for batch in sent[1:])
