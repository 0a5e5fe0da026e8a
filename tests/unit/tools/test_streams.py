"""A flood of output is sampled: nothing of it is lost without being counted, and no secret comes out at a cut."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tools.test_redact import KEY, SECRET, registered
from tools import spellings, tokenshapes
from tools.redact import Redactor
from tools.sandbox import streams
from tools.sandbox.output import Unfiltered
from tools.sandbox.streams import Stream

assert registered  # the fixture that makes SECRET a live secret


def test_a_slow_stream_is_kept_and_shown_as_it_came() -> None:
    shown: list[str] = []
    stream = Stream(head_bytes=1 << 20, tail_bytes=0, redactor=Unfiltered, sink=shown.append)
    text = "".join(f"line {number}\n" for number in range(100_000))
    for at in range(0, len(text), 50_000):
        stream.tick(at / 50_000)
        stream.feed(text[at : at + 50_000].encode(), at / 50_000)
    assert stream.finish(1000.0) == (
        text[: 1 << 20] + f"\n[... {len(text) - (1 << 20)} bytes left out ...]\n",
        len(text) - (1 << 20),
    )
    assert sum(map(len, shown)) > 0


@given(st.lists(st.integers(1, 400_000), min_size=1, max_size=30), st.integers(0, 3), st.integers(0, 40_000))
def test_every_byte_of_a_flood_is_kept_or_counted(sizes: list[int], ticks: int, tail: int) -> None:
    stream = Stream(head_bytes=1000, tail_bytes=tail, redactor=Unfiltered)
    total = sum(sizes)
    text = "".join(chr(97 + number % 26) for number in range(1000)) * (total // 1000 + 1)
    at = 0
    for turn, size in enumerate(sizes):
        stream.feed(text[at : at + size].encode(), turn * ticks / 10)
        stream.tick(turn * ticks / 10)
        at += size
    kept, missing = stream.finish(100.0)
    if not missing:
        assert kept == text[:total]
        return
    head, end = kept.split(f"\n[... {missing} bytes left out ...]\n")
    assert len(head) + missing + len(end) == total
    assert text.startswith(head)
    assert text[:total].endswith(end)
    assert len(head) == min(1000, total)
    assert len(end) == min(tail, total - len(head))


def flood(pieces: list[bytes], *, ticks: int) -> str:
    """What is kept and shown of the pieces, which come all at once but for a tick now and then."""
    shown: list[str] = []
    stream = Stream(head_bytes=2000, tail_bytes=20_000, redactor=Redactor, sink=shown.append)
    now_s = 0.0
    stream.tick(now_s)
    for number, piece in enumerate(pieces):
        stream.feed(piece, now_s)
        if ticks and number % ticks == 0:
            now_s += 0.3
            stream.tick(now_s)
    text, missing = stream.finish(now_s + 1)
    assert missing > 0
    return "".join([text, *shown])


@pytest.mark.parametrize("ticks", [0, 1, 7])
@pytest.mark.parametrize("noise", [b"", b"\0" * 50, "\u00e9\u4e2d\u6587".encode() * 9])
def test_no_part_of_a_secret_comes_out_where_a_flood_is_cut(ticks: int, noise: bytes) -> None:
    chance = random.Random(ticks * 100 + len(noise))
    spread = noise.join(bytes([letter]) for letter in SECRET.encode()) if noise[:1] == b"\0" else SECRET.encode()
    data = b"".join(chance.choice([spread, spread, KEY.encode(), noise, b" ", b"\n"]) + b" " for _ in range(12_000))
    pieces, at = [], 0
    while at < len(data):
        size = chance.randint(1, 70_000)
        pieces.append(data[at : at + size])
        at += size
    came_out = flood(pieces, ticks=ticks)
    words = re.sub(r"\[\.\.\. .* \.\.\.\]", "", came_out)
    for start in range(len(SECRET) - 5):
        assert SECRET[start : start + 6] not in words
    assert "b3BlbnNz" not in words


def test_what_comes_after_a_gap_is_the_end_and_not_its_lead() -> None:
    stream = Stream(head_bytes=10, tail_bytes=100, redactor=Redactor)
    for number in range(100):
        stream.feed(f"{number:>9}\n".encode() * 10_000, 0.0)
    text, missing = stream.finish(0.0)
    assert text.endswith("       99\n" * 10)
    assert missing == 100 * 100_000 - 110


def test_a_flood_takes_little_memory_and_little_cleaning() -> None:
    cleaned = [0]

    class Counting(Unfiltered):
        def feed(self, text: str) -> str:
            cleaned[0] += len(text)
            return text

    stream = Stream(head_bytes=32_768, tail_bytes=32_768, redactor=Counting)
    chunk = b"x" * 131_072
    for number in range(4000):  # half a gigabyte in one second
        stream.feed(chunk, number / 4000)
        stream.tick(number / 4000)
        assert stream._ring_bytes <= stream._ring_max_bytes + len(chunk)
    assert stream.finish(1.0)[1] == 4000 * len(chunk) - 65_536
    assert cleaned[0] < 5_000_000
    assert 2 * max(spellings.MAX_LENGTH, tokenshapes._KEY_MAX) <= streams.LEAD_CHARS
