"""Showing text that others wrote so that it is what it looks like.

Characters that print nothing, that turn the order of letters around, or that move the cursor could make a command read
as another one. They become marks such as ⟦U+202E⟧. Letters themselves are never changed.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

# Default-ignorable or blank by look, though their category does not say so.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
_KEPT = frozenset("\n\t ")
_HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})
STRANGERS_MAX = 12


@dataclass(frozen=True, slots=True)
class Piece:
    """text: to be shown as it is, escaped; mark: what stands for a hidden character ("" for plain text); name: of
    that character."""

    text: str
    mark: str = ""
    name: str = ""


def pieces(text: str) -> Iterator[Piece]:
    """The text as runs of plain text and single hidden characters, in order and complete."""
    start = 0
    for place, letter in enumerate(text):
        if not hidden(letter):
            continue
        if start < place:
            yield Piece(text[start:place])
        yield Piece(letter, mark=f"⟦U+{ord(letter):04X}⟧", name=name(letter))
        start = place + 1
    if start < len(text):
        yield Piece(text[start:])


def visible(text: str) -> str:
    """The text with every hidden character as its mark, for mails, chats and terminals."""
    return "".join(piece.mark or piece.text for piece in pieces(text))


def visible_line(text: str, limit: int) -> str:
    """As `visible`, on one line of at most `limit` characters; what is cut ends in "…"."""
    line = " ".join(visible(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def hidden(letter: str) -> bool:
    """Would a reader not see this character, or take it for another blank?"""
    if letter in _KEPT or (letter.isascii() and letter.isprintable()):
        return False
    if letter in _BLANK or "\ufe00" <= letter <= "\ufe0f" or "\U000e0100" <= letter <= "\U000e01ef":
        return True
    return unicodedata.category(letter) in _HIDDEN


def strangers(text: str) -> list[str]:
    """Letters outside ASCII, each once, with their names: some look just like others (the Cyrillic a)."""
    found = dict.fromkeys(letter for letter in text if not letter.isascii() and not hidden(letter))
    return [f"{letter} {name(letter)}" for letter in list(found)[:STRANGERS_MAX]]


def name(letter: str) -> str:
    """Its Unicode name, or its code where it has none (control characters)."""
    return unicodedata.name(letter, f"U+{ord(letter):04X}")
