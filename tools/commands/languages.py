"""Small languages that stand in arguments: sed, awk and jq programs, read only as far as they are plainly harmless.

What is not recognised is opaque, which is no fault, but cannot be judged.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Told:
    """reads, writes: files that the program names; opaque: why it cannot be judged, or ""."""

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    opaque: str = ""


_SED_MAX = 20_000
_ADDRESS = re.compile(r"(?:\d+(?:~\d+)?|\$)")
_STEP = re.compile(r"[+~]\d+")
_PLAIN = frozenset("=dDgGhHlnNpPxzFqQ")  # commands that neither name files nor run anything
_S_FLAGS = re.compile(r"[gpiIm0-9]*")


class _Opaque(Exception):
    pass


def sed(text: str) -> Told:
    """A sed script: addresses, and the commands that print, delete, substitute and jump. `e`, `w`, `r`, `s///e` and
    whatever else names files or runs text is opaque."""
    if len(text) > _SED_MAX:
        return Told(opaque="the script is too long")
    try:
        place = 0
        while place < len(text):
            place = _sed_command(text, place)
    except (_Opaque, IndexError) as why:
        return Told(opaque=str(why) if isinstance(why, _Opaque) else "the script is cut short")
    return Told()


def _sed_command(text: str, place: int) -> int:
    if text[place] in " \t\n;{}":
        return place + 1
    if text[place] == "#":
        end = text.find("\n", place)
        return len(text) if end < 0 else end + 1
    place = _sed_addresses(text, place)
    letter = text[place] if place < len(text) else ""
    if letter in ("{", "}"):
        return place + 1
    if letter and letter in _PLAIN:
        return _sed_end(text, place + 1 + len(_digits(text, place + 1)) if letter in "qQlL" else place + 1)
    if letter == "s":
        place = _sed_parts(text, place + 1)
        return _sed_end(text, place + len(_S_FLAGS.match(text, place)[0]))  # type: ignore[index]
    if letter == "y":
        return _sed_end(text, _sed_parts(text, place + 1))
    if letter in ("b", "t", "T", ":") and letter:
        label = re.compile(r" *[A-Za-z0-9_]*").match(text, place + 1)
        return _sed_end(text, label.end() if label else place + 1)
    if letter in ("a", "i", "c") and letter:
        end = text.find("\n", place)
        if "\\" in text[place:]:  # continued lines
            raise _Opaque(f"{letter} with more lines")
        return len(text) if end < 0 else end + 1
    raise _Opaque(f"its command {letter or 'at the end'}")


def _digits(text: str, place: int) -> str:
    return re.compile(r" *[0-9]*").match(text, place)[0]  # type: ignore[index]


def _sed_addresses(text: str, place: int) -> int:
    place = _sed_address(text, place)
    rest = re.compile(r"[ \t]*,[ \t]*").match(text, place)
    if rest:
        step = _STEP.match(text, rest.end())
        place = step.end() if step else _sed_address(text, rest.end())
    return re.compile(r"[ \t]*!*[ \t]*").match(text, place).end()  # type: ignore[union-attr]


def _sed_address(text: str, place: int) -> int:
    number = _ADDRESS.match(text, place)
    if number:
        return number.end()
    if text[place] == "/":
        place = _sed_part(text, place + 1, "/")
        return re.compile(r"[IM]*").match(text, place).end()  # type: ignore[union-attr]
    if text[place] == "\\":
        raise _Opaque("an address with a sign of its own")
    return place


def _sed_parts(text: str, place: int) -> int:
    mark = text[place]
    if mark.isalnum() or mark in "\\\n \t;[{}":
        raise _Opaque("an unusual sign between its parts")
    return _sed_part(text, _sed_part(text, place + 1, mark), mark)


def _sed_part(text: str, place: int, mark: str) -> int:
    """The place behind the next `mark` that no backslash and no bracket hides. Where a bracket may hide it, opaque."""
    while text[place] != mark:
        if text[place] == "[":
            end = re.compile(r"\[\^?\]?(?:[^\]\[\\\n]|\[:[a-z]+:\])*\]").match(text, place)
            if end is None or mark in end[0]:
                raise _Opaque("brackets that hide more than one reading")
            place = end.end()
            continue
        if text[place] == "\n":
            raise _Opaque("a line break within a pattern")
        place += 2 if text[place] == "\\" else 1
    return place + 1


def _sed_end(text: str, place: int) -> int:
    end = re.compile(r"[ \t]*(?:[;\n]|(?=[#}])|\Z)").match(text, place)
    if end is None:
        raise _Opaque("its options")
    return end.end()


_AWK_WORD = re.compile(r"[A-Za-z_]\w*|[0-9]+(?:\.[0-9]*)?|\+\+|--|\|\||&&|[<>=!~^*%+-]=|>>|.", re.DOTALL)
_AWK_ACTS = frozenset(
    {"system", "getline", "ARGV", "ARGC", "close", "PROCINFO", "SYMTAB", "FUNCTAB", "@", "|", "|&", "`"}
)
_AWK_STRING = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"')
_AWK_REGEX = re.compile(r"/(?:[^/\\\n\[]|\\[^\n]|\[\^?\]?[^\]\[/\\\n]*\])+/")
_AWK_BEFORE_REGEX = frozenset("~({,;!&|\n") | {"", "&&", "||", "print", "return", "case"}

_AWK_KEYWORDS = frozenset(
    {
        "BEGIN", "END", "break", "continue", "default", "delete", "do", "else", "exit", "for", "func", "function", "if",
        "in", "next", "nextfile", "printf", "switch", "while",
    }
)  # fmt: skip


def awk(text: str) -> Told:
    """An awk program without pipes, redirections, `system`, `getline`, extensions and indirect calls."""
    try:
        _awk(text)
    except _Opaque as why:
        return Told(opaque=str(why))
    return Told()


def _awk(text: str) -> None:
    depth, printing, before, place = 0, False, "", 0
    while place < len(text):
        word = _AWK_WORD.match(text, place)[0]  # type: ignore[index]
        if word in " \t":
            place += 1
            continue
        if word == '"' or (word == "/" and before in _AWK_BEFORE_REGEX):
            hidden = (_AWK_STRING if word == '"' else _AWK_REGEX).match(text, place)
            if hidden is None:
                raise _Opaque("its quotes" if word == '"' else "a pattern that has more than one reading")
            place, before = hidden.end(), "0"
            continue
        if word == "/" and not ((before[:1].isalnum() and before not in _AWK_KEYWORDS) or before == "]"):
            raise _Opaque("a / that has more than one reading")
        if word == "#":
            end = text.find("\n", place)
            place = len(text) if end < 0 else end
            continue
        if word in _AWK_ACTS or word == "\\":
            raise _Opaque(f"its {word}")
        if word in ("{", "}"):
            depth, printing = depth + (1 if word == "{" else -1), False
        elif word in (";", "\n"):
            printing = False
        elif word in ("print", "printf"):
            printing = True
        elif word in (">", ">>") and (printing or depth):
            raise _Opaque("its redirection")
        before = word
        place += len(word)


def jq(text: str) -> Told:
    """A jq filter: it can neither write nor run anything; what it may read beyond its input are modules."""
    found = re.search(r"\b(?:import|include)\b", text)
    return Told(opaque=f"its {found[0]}") if found else Told()


READERS: Mapping[str, Callable[[str], Told]] = {"sed": sed, "awk": awk, "jq": jq}
