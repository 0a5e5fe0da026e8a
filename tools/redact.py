"""Secrets out of text, before it reaches the database, a log or a stream.

Two kinds are found: live secrets, registered by value and looked for in the forms that programs print them in
(`tools.spellings`); and shapes of well-known tokens, keys and passwords (`tools.tokenshapes`). All forms are looked for
in one pass over the text, however many there are. Hexadecimal and base64 are found too where a program broke them over
lines or set blanks between. `Redactor` does it on a stream: what may be the beginning of a secret is held back until it
is certain.
"""

import re
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ahocorasick_rs import AhoCorasick

from tools import spellings, tokenshapes

MARK = "[redacted]"

_WORD_MAX = 2048  # a run without a space longer than this is let go: no token is
_RUN_END = 512  # what is kept of such a run
_BLANKS = " \t\r\n"
_GAP_MAX = 64  # blanks between two characters of an encoded form
_NO_BLANKS = str.maketrans("", "", _BLANKS)
_RUN = re.compile(r"[^ \t\r\n]+")
_SURROGATES = re.compile("[\ud800-\udfff]")
_LONG = 256
_STARTS = (8, 3, 2, 1)  # the longest is the least length of a form

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Forms:
    """Strings that are looked for at the end of what is there so far, by how they begin: {length: {beginning: forms}}."""

    by_start: dict[int, dict[str, list[str]]] = field(default_factory=dict)
    long: tuple[str, ...] = ()  # those are few, and looked for one by one
    short: int = 0  # length of the longest of the others
    longest: int = 0

    @classmethod
    def of(cls, forms: Iterable[str]) -> "_Forms":
        by_start: dict[int, dict[str, list[str]]] = {length: {} for length in _STARTS}
        every = list(forms)
        for form in every:
            for length in _STARTS:
                by_start[length].setdefault(form[:length], []).append(form)
        lengths = [len(form) for form in every]
        long = tuple(form for form in every if len(form) > _LONG)
        return cls(by_start, long, min(max(lengths, default=0), _LONG), max(lengths, default=0))

    def begun(self, text: str) -> int:
        """Where the longest end of `text` that may become one of the forms begins; its length where none does."""
        size = len(text)
        first = self._begun_long(text)
        whole = self.by_start.get(_STARTS[0], {})
        for at in range(max(0, size - self.short + 1), min(size - _STARTS[0] + 1, first)):
            for form in whole.get(text[at : at + _STARTS[0]], ()):
                if len(form) > size - at and form.startswith(text[at:]):
                    return at
        if first < size:
            return first
        for at in range(max(0, size - _STARTS[0] + 1), size):
            end = text[at:]
            length = next(length for length in _STARTS if length <= len(end))
            if any(form.startswith(end) for form in self.by_start.get(length, {}).get(end[:length], ())):
                return at
        return size

    def _begun_long(self, text: str) -> int:
        size = first = len(text)
        for form in self.long:
            at = max(0, size - len(form) + 1) - 1
            while 0 <= (at := text.find(form[: _STARTS[0]], at + 1, first + _STARTS[0] - 1)) < first:
                if form.startswith(text[at:]):
                    first = at
        return first


@dataclass(frozen=True, slots=True)
class Known:
    """What is looked for: forms of live secrets, and the beginnings of shapes. Immutable."""

    values: frozenset[str] = frozenset()
    plain: tuple[str, ...] = ()
    encoded: tuple[str, ...] = ()
    finder: AhoCorasick = field(init=False)  # plain, encoded, beginnings of shapes
    joined: AhoCorasick | None = field(init=False)  # encoded, in text without blanks
    plain_begun: _Forms = field(init=False)
    encoded_begun: _Forms = field(init=False)

    def __post_init__(self) -> None:
        finder = AhoCorasick([*self.plain, *self.encoded, *tokenshapes.HINTS])
        object.__setattr__(self, "finder", finder)
        object.__setattr__(self, "joined", AhoCorasick(self.encoded) if self.encoded else None)
        object.__setattr__(self, "plain_begun", _Forms.of((*self.plain, *self.encoded)))
        object.__setattr__(self, "encoded_begun", _Forms.of(self.encoded))


_lock = threading.Lock()
_known = Known()


def register(*values: str) -> None:
    """Makes these values unspeakable in this process from now on. Values shorter than 8 characters are left out."""
    global _known
    with _lock:
        new = {value for value in values if len(value) >= spellings.MIN_LENGTH} - _known.values
        if not new:
            return
        plain, encoded = set(_known.plain), set(_known.encoded)
        for value in new:
            plain |= spellings.plain(value)
            encoded |= spellings.encoded(value)
        _known = Known(_known.values | new, tuple(sorted(plain)), tuple(sorted(encoded - plain)))


def text(value: str, *, shapes: bool = True) -> str:
    """`value` with secrets replaced. shapes=False: live secrets only, for data that must not change otherwise."""
    spans = _spans(value, _known, shapes=shapes)
    return _without(value, spans) if spans else value


def data(value: Any) -> Any:
    """JSON data with live secrets replaced in every string, keys too."""
    if isinstance(value, str):
        return text(value, shapes=False)
    if isinstance(value, Mapping):
        return {text(str(key), shapes=False): data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [data(item) for item in value]
    return value


class Redactor:
    """The same for text that comes in pieces: put together, the pieces are what `text` gives for the whole.

    Held back is the last word, and what may be part of something longer. A run of thousands of characters without a
    space is let go but for its end, and a private key's block of more than 16,384 characters is no key.
    """

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """What is certain so far."""
        self._held += piece
        known, held = _known, self._held
        tied: list[Span] = []
        spans = _spans(held, known, shapes=True, tied=tied)
        cut = _certain(held, known, _merged([*spans, *tied]))
        if not cut:
            return ""
        self._held = held[cut:]
        return _without(held[:cut], [one for one in spans if one[1] <= cut])

    def flush(self) -> str:
        """The rest."""
        ready, self._held = self._held, ""
        return text(ready) if ready else ""


def _without(value: str, spans: list[Span]) -> str:
    parts, last = [], 0
    for start, end in spans:
        parts += [value[last:start], MARK]
        last = end
    return "".join([*parts, value[last:]])


def _spans(value: str, known: Known, *, shapes: bool, tied: list[Span] | None = None) -> list[Span]:
    """Where the secrets are: in order, apart from each other, those that overlap as one. tied: receives what must stay
    together so that shapes are seen."""
    live = len(known.plain) + len(known.encoded)
    found, hints, encoded = [], [], 0
    for which, start, end in _matches(known.finder, value):
        if which >= live:
            hints.append((start, which - live))
        else:
            found.append((start, end))
            encoded += which >= len(known.plain)
    if hints and shapes:
        found += _of_shapes(value, hints, tied)
    if known.joined is not None:
        found += _broken(value, known.joined, besides=encoded)
    return _merged(found)


def _matches(finder: AhoCorasick, value: str) -> list[tuple[int, int, int]]:
    try:
        return finder.find_matches_as_indexes(value, overlapping=True)
    except UnicodeEncodeError:  # half a pair has no UTF-8
        return finder.find_matches_as_indexes(_SURROGATES.sub("?", value), overlapping=True)


def _of_shapes(value: str, hints: list[tuple[int, int]], tied: list[Span] | None) -> list[Span]:
    found: list[Span] = []
    last: Span = (0, 0)
    for at, which in sorted(hints):
        if last[0] <= at < last[1]:
            continue
        span = tokenshapes.span(tokenshapes.HINTS[which], value, at)
        if span is not None:
            found.append(span)
            last = span
            if tied is not None:
                tied.append((at, span[1]))
    return found


def _broken(value: str, finder: AhoCorasick, *, besides: int) -> list[Span]:
    """Encoded forms with blanks or line ends in them. besides: how many there are without, which are known."""
    joined = value.translate(_NO_BLANKS)
    if len(joined) == len(value):
        return []
    matches = _matches(finder, joined)
    if len(matches) == besides:
        return []
    place = _Places(value)
    spans = ((start, end) for _, start, end in matches if place.gap_within(start, end) <= _GAP_MAX)
    return [(place.of(start), place.of(end - 1) + 1) for start, end in spans]


class _Places:
    """Where the characters of a text without blanks stand in the text."""

    def __init__(self, value: str) -> None:
        self._starts: list[int] = []  # of runs without blanks, in the text
        self._counts: list[int] = []  # characters of the runs before
        count = 0
        for run in _RUN.finditer(value):
            self._starts.append(run.start())
            self._counts.append(count)
            count += run.end() - run.start()

    def of(self, at: int) -> int:
        run = bisect_right(self._counts, at) - 1
        return self._starts[run] + at - self._counts[run]

    def gap_within(self, start: int, end: int) -> int:
        """The most blanks between two characters of this part."""
        first, last = bisect_right(self._counts, start), bisect_left(self._counts, end)
        return max((self._gap_before(run) for run in range(first, last)), default=0)

    def _gap_before(self, run: int) -> int:
        return self._starts[run] - self._starts[run - 1] - (self._counts[run] - self._counts[run - 1])


def _merged(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _certain(held: str, known: Known, spans: list[Span]) -> int:
    """Up to where `held` can be judged: the end of a word, outside of every secret that is or may be there."""
    size = cut = len(held)
    begun = min(known.plain_begun.begun(held), _begun_broken(held, known), tokenshapes.beginning(held))
    if spans and spans[-1][1] == size:
        begun = min(begun, spans[-1][0])  # what ends with the piece may go on
    starts = [start for start, _ in spans]
    while True:
        word = held[max(0, cut - _WORD_MAX) : cut]
        blank = max(map(word.rfind, " \n\t"))
        if blank >= 0:
            moved = cut - len(word) + blank + 1
        elif len(word) < _WORD_MAX:
            return 0
        else:
            moved = cut if cut < size else cut - _RUN_END
        moved = min(moved, begun)
        before = bisect_left(starts, moved) - 1
        if before >= 0 and spans[before][1] > moved:
            moved = spans[before][0]
        if moved in (cut, 0):
            return moved
        cut = moved


def _begun_broken(held: str, known: Known) -> int:
    """Where an encoded form with blanks in it may have begun at the end of `held`; its length where none has."""
    size, longest = len(held), known.encoded_begun.longest
    tail = held[max(0, size - longest * (_GAP_MAX + 1)) :] if longest else ""
    joined = tail.translate(_NO_BLANKS)
    if not joined or len(joined) == len(tail) or size - len(held.rstrip(_BLANKS)) > _GAP_MAX:
        return size
    at = max(0, len(joined) - longest)
    while (at := at + known.encoded_begun.begun(joined[at:])) < len(joined):
        place = _Places(tail)
        if place.gap_within(at, len(joined)) <= _GAP_MAX:
            return size - len(tail) + place.of(at)
        at += 1
    return size
