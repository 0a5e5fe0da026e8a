"""Shell text, parsed with tree-sitter's bash grammar: plain commands that can be judged word by word, or opaque.

Plain is: commands of literal words, joined by `&&`, `||`, `;`, `|` or newlines. Everything else (variables,
substitutions, globs, redirections, functions, loops, background jobs, escapes outside quotes, comments apart) is opaque,
which is no fault, but cannot be judged. A plain script is run as it was read: `text` is written anew from the words.
"""

import functools
import re
import shlex
from dataclasses import dataclass

import tree_sitter
import tree_sitter_bash

_MAX_BYTES = 64 * 1024
_CONTAINERS = frozenset({"program", "list", "pipeline"})
_JOINS = frozenset({"&&", "||", ";", "|", "\n"})
# no glob, brace, expansion, history, quote or escape; a tilde only where it is a letter
_BARE = re.compile(r"(?:[A-Za-z0-9_@%+=:,./^#-]|(?<=[A-Za-z0-9_@.^/-])~)+\Z")
_STRANGE = re.compile(
    "[^\\S \\n\\t]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_QUOTED_ESCAPE = re.compile(r'\\([$`"\\])')
_RESERVED = frozenset(
    [
        "!",
        "{",
        "}",
        "case",
        "coproc",
        "do",
        "done",
        "elif",
        "else",
        "esac",
        "fi",
        "for",
        "function",
        "if",
        "in",
        "select",
        "then",
        "time",
        "until",
        "while",
        "[[",
        "]]",
    ]
)


@dataclass(frozen=True, slots=True)
class Script:
    """commands: every command's words; text: what to run; opaque: why it cannot be judged, or "" (commands is then
    empty and text is as given)."""

    commands: tuple[tuple[str, ...], ...]
    text: str
    opaque: str = ""


class _Opaque(Exception):
    pass


def parse(text: str) -> Script:
    """Reads shell text. Never raises: what it does not understand is opaque."""
    try:
        return _plain(text)
    except _Opaque as why:
        return Script((), text, str(why))


@functools.cache
def _language() -> tree_sitter.Language:
    return tree_sitter.Language(tree_sitter_bash.language())


def _plain(text: str) -> Script:
    data = text.encode(errors="surrogatepass")
    if len(data) > _MAX_BYTES:
        raise _Opaque("it is too long to be judged")
    strange = _STRANGE.search(text)
    if strange:
        raise _Opaque(f"it holds the character U+{ord(strange[0]):04X}")
    root = tree_sitter.Parser(_language()).parse(data).root_node
    if root.has_error:
        raise _Opaque("it is not a complete shell script")
    commands: list[tuple[str, ...]] = []
    parts: list[str] = []
    seen = 0  # every byte is either in a token that is understood, or a blank
    stack = [root]
    while stack:  # not recursive: a script may nest deeper than Python does
        node = stack.pop()
        if node.type in _CONTAINERS and node.is_named:
            stack += reversed(node.children)
            continue
        if data[seen : node.start_byte].strip(b" \t\n"):
            raise _Opaque("parts of it are not understood")
        parts += ["\n"] * (b"\n" in data[seen : node.start_byte] and _joinable(parts))
        seen = node.end_byte
        if node.type == "comment":
            continue
        if node.type == "command":
            words = _words(node, data)
            commands.append(words)
            parts.append(_written(words))
        elif node.type in _JOINS and not node.is_named:
            if node.type != "\n" or _joinable(parts):
                parts.append(node.type)
        else:
            raise _Opaque(f"it holds a {node.type.replace('_', ' ')}" if node.is_named else f"it holds {node.type}")
    if data[seen:].strip(b" \t\n"):
        raise _Opaque("parts of it are not understood")
    if not commands:
        raise _Opaque("it holds no command")
    return Script(tuple(commands), _joined(parts))


def _joinable(parts: list[str]) -> bool:
    """May a newline follow here and mean the end of a command?"""
    return bool(parts) and parts[-1] not in _JOINS


def _joined(parts: list[str]) -> str:
    text = ""
    for part in parts:
        if part in (";", "\n"):
            text += part
        elif part in _JOINS:
            text += f" {part} "
        else:
            text += f" {part}" if text.endswith(";") else part
    return text.strip()


def _words(command: tree_sitter.Node, data: bytes) -> tuple[str, ...]:
    words = []
    end = command.start_byte
    for child in command.children:
        if b"\n" in data[end : child.start_byte]:  # the grammar may take the next line's command for more words
            raise _Opaque("its lines are ambiguous")
        end = child.end_byte
        node = child.children[0] if child.type == "command_name" and len(child.children) == 1 else child
        words.append(_word(node, data))
    source = data[command.start_byte : command.end_byte].decode()
    try:
        agreed = shlex.split(source) == words  # a second reader that knows quotes, and nothing else
    except ValueError:
        agreed = False
    if not agreed or not words[0]:
        raise _Opaque("its words are ambiguous")
    if "=" in words[0]:
        raise _Opaque("it holds a variable assignment")
    return tuple(words)


def _word(node: tree_sitter.Node, data: bytes) -> str:
    source = data[node.start_byte : node.end_byte].decode()
    if node.type in ("word", "number"):
        if node.child_count or not _BARE.match(source):
            raise _Opaque(f"the word {source[:40]} is not literal")
        return source
    if node.type == "raw_string":
        return source[1:-1]
    if node.type == "string":
        if any(child.type not in ('"', "string_content") for child in node.children):
            raise _Opaque("a quoted word is not literal")
        inner = source[1:-1]
        if "$" in _QUOTED_ESCAPE.sub("", inner) or "`" in _QUOTED_ESCAPE.sub("", inner) or "\\\n" in inner:
            raise _Opaque("a quoted word is not literal")
        return _QUOTED_ESCAPE.sub(r"\1", inner)
    if source == "{}":  # no brace expansion: a word for find and xargs
        return source
    if node.type == "concatenation":
        end = node.start_byte
        made = ""
        for child in node.children:
            if child.start_byte != end:
                raise _Opaque("its words are ambiguous")
            made += _word(child, data)
            end = child.end_byte
        return made
    raise _Opaque(f"it holds a {node.type.replace('_', ' ')}")


def _written(words: tuple[str, ...]) -> str:
    first = f"'{words[0]}'" if words[0] in _RESERVED else shlex.quote(words[0])
    return " ".join([first, *map(shlex.quote, words[1:])])
