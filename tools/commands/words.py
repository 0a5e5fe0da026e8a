"""Words of a command, told apart as the program itself does: options with their values, and operands."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tools.commands.specs import Option, Program


class NotUnderstood(Exception):
    """A word that is not in the program's specification; the message is the word's option or place."""


@dataclass(slots=True)
class Split:
    """options: (name as listed, value or "" of a flag, the option), in order; operands; rest: where options end at the
    first operand, the words from there on (the operands too)."""

    options: list[tuple[str, str, Option]] = field(default_factory=list)
    operands: list[str] = field(default_factory=list)
    ended: bool = False  # by `--`

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for name, _, _ in self.options)


def split(program: Program, words: Sequence[str], *, until_operand: bool = False) -> tuple[Split, int]:
    """The words after the program's name, and how many were taken: all, or those before the first operand.

    Raises:
        NotUnderstood: with what stands in no specification.
    """
    found, place = Split(), 0
    one = _single if program.style == "single" else _gnu
    if program.dashless and words and not words[0].startswith("-"):
        place = _cluster(words[0], words, 0, program.options, found) + 1
    while place < len(words):
        word = words[place]
        if word == "--":
            if until_operand:
                return found, place + 1
            found.operands += words[place + 1 :]
            found.ended = True
            return found, len(words)
        if word.startswith("-") and word != "-":
            place = one(program, words, place, found) + 1
            if found.options and found.options[-1][2].kind == "module":  # the rest is the module's
                found.operands += words[place:]
                return found, len(words)
            continue
        if until_operand:
            return found, place
        if not program.permutes:
            found.operands += words[place:]
            return found, len(words)
        found.operands.append(word)
        place += 1
    return found, place


def _gnu(program: Program, words: Sequence[str], place: int, found: Split) -> int:
    """Takes the option at `place`; the place of its last word."""
    word = words[place]
    if not word.startswith("--"):
        if program.digits and word[1:].isdecimal() and word.isascii():
            found.options.append(("-0", word[1:], Option("flag")))
            return place
        return _cluster(word[1:], words, place, program.options, found)
    name, equals, value = word.partition("=")
    option = program.options.get(name)
    if option is None:
        raise NotUnderstood(name)
    return _valued(name, option, equals, value, words, place, found)


def _single(program: Program, words: Sequence[str], place: int, found: Split) -> int:
    """`-name`, `-name=value`, and the same with two dashes: Go's flag package, and what follows it."""
    name, equals, value = words[place].partition("=")
    name = "-" + name.lstrip("-") if name.startswith("--") else name
    option = program.options.get(name)
    if option is None:
        raise NotUnderstood(name)
    if option.kind == "flag" and value in ("true", "false", "1", "0"):
        equals = ""
    return _valued(name, option, equals, value, words, place, found)


def _valued(name: str, option: Option, equals: str, value: str, words: Sequence[str], place: int, found: Split) -> int:
    if option.kind == "flag":
        if equals:
            raise NotUnderstood(f"{name}=")
    elif not equals and not option.optional:
        place += 1 + option.kind.startswith("pair")  # of a name and a value, the value counts
        value = _following(name, words, place)
    found.options.append((name, value, option))
    return place


def _cluster(letters: str, words: Sequence[str], place: int, options: Mapping[str, Option], found: Split) -> int:
    for at, letter in enumerate(letters):
        option = options.get(f"-{letter}")
        if option is None:
            raise NotUnderstood(f"-{letter}")
        if option.kind == "flag":
            found.options.append((f"-{letter}", "", option))
            continue
        rest = letters[at + 1 :]
        if not rest and not option.optional:
            place += 1
            rest = _following(f"-{letter}", words, place)
        found.options.append((f"-{letter}", rest, option))
        break
    return place


def _following(name: str, words: Sequence[str], place: int) -> str:
    if place >= len(words):
        raise NotUnderstood(f"{name} without its value")
    return words[place]


def roles(program: Program, operands: Sequence[str], names: frozenset[str]) -> Iterator[tuple[str, str]]:
    """(kind, operand) of every operand.

    Raises:
        NotUnderstood: there are more of them than the program takes.
    """
    wanted = next((other for given, other in program.operands_with if given & names), program.operands)
    many = next((place for place, role in enumerate(wanted) if role.many), None)
    if many is None:
        if len(operands) > len(wanted):
            raise NotUnderstood(f"the operand {operands[len(wanted)][:60]}")
        yield from ((role.kind, operand) for role, operand in zip(wanted, operands, strict=False))
        return
    before, after = wanted[:many], wanted[many + 1 :]
    least = len(before) + len(after)
    if len(operands) < least:  # too few: the program refuses, or takes them in order; each is what it may be at worst
        yield from ((role.kind, operand) for role in wanted for operand in operands)
        return
    tail = len(operands) - len(after)
    yield from ((role.kind, operand) for role, operand in zip(before, operands, strict=False))
    yield from ((wanted[many].kind, operand) for operand in operands[len(before) : tail])
    yield from ((role.kind, operand) for role, operand in zip(after, operands[tail:], strict=False))
