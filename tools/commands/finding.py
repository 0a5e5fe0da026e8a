"""find: its starts, its expression, and the commands that it runs for what it finds."""

import posixpath
from collections.abc import Callable, Iterator, Sequence

from tools.commands.notes import FOUND, Notes
from tools.commands.specs import Program, known
from tools.commands.words import NotUnderstood
from tools.spec import Risk

Effect = Callable[[Notes, Program, str, str], None]
Command = Callable[[Notes, Sequence[str]], None]


def find(notes: Notes, program: Program, words: list[str], *, effect: Effect, command: Command) -> None:
    """Adds a find. effect, command: how a word of a kind, and a command, are added.

    Raises:
        NotUnderstood
    """
    places, words = _starts(words)
    notes.say(Risk.LOW, "find only reads")
    for path in places or ["."]:
        effect(notes, program, "read", path)
    following = iter(words)
    for word in following:
        if word in ("(", ")", "!", ",", "-a", "-o", "-not", "-and", "-or"):
            continue
        option = program.options.get(word)
        if option is None:
            raise NotUnderstood(word[:40])
        if option.risk is not Risk.LOW:
            notes.say(option.risk, f"find {word} {option.why}")
        if option.kind == "command":
            _found(notes, word, _until_end(following), places or ["."], command)
            continue
        value = "" if option.kind == "flag" else next(following, None)
        if value is None:
            raise NotUnderstood(f"{word} without its value")
        if word == "-delete":
            for path in places or ["."]:
                effect(notes, program, "delete", path)
        elif option.kind != "flag":
            effect(notes, program, option.kind, value)
        if word == "-fprintf" and next(following, None) is None:
            raise NotUnderstood("-fprintf without its format")


def _starts(words: list[str]) -> tuple[list[str], list[str]]:
    while words and words[0] in ("-H", "-L", "-P"):
        words = words[1:]
    end = next((at for at, word in enumerate(words) if word.startswith("-") or word in ("(", "!", ")")), len(words))
    return words[:end], words[end:]


def _until_end(following: Iterator[str]) -> list[str]:
    """The words up to `;` or `{} +`."""
    argv: list[str] = []
    for word in following:
        if word == ";" or (word == "+" and argv and argv[-1] == "{}"):
            return argv
        argv.append(word)
    raise NotUnderstood("-exec without its end")


def _found(notes: Notes, action: str, argv: list[str], places: Sequence[str], command: Command) -> None:
    """A command that find runs, for each path that it finds below `places`."""
    if not argv or "{}" in argv[0] or argv[0].startswith("-"):
        raise NotUnderstood(action)
    notes.depth += 1
    writes = len(notes.writes)
    inside = [place for place in places if not place.startswith(("/", "~")) and ".." not in place.split("/")]
    outside = [place for place in places if place not in inside]
    for place in (*inside[:1], *outside[:1]):  # one of each kind tells what becomes of all
        # what is found begins with its start, so it is never an option; what it is called is not told
        start = "." if action.endswith("dir") else place
        command(notes, [word.replace("{}", f"{start}/{FOUND}") for word in argv])
    notes.depth -= 1
    inner = known(posixpath.basename(argv[0]))
    if len(notes.writes) > writes:
        notes.say(Risk.HIGH, f"find {action} changes what it finds")
    elif inner is not None and not inner.pure and any("{}" in word and word != "{}" for word in argv):
        raise NotUnderstood(f"{action} with text around {{}}")
    for paths in (notes.reads, notes.writes):
        paths[:] = ["." if path == FOUND else path.removesuffix(f"/{FOUND}") for path in paths]
