"""Did a value of a call's arguments come from text that others wrote? Pure: texts in, findings out.

A value is looked for as it stands, and without regard to case, spaces and punctuation, so that a word written apart is
still the word. Of a longer text the addresses in it are looked for too: hosts, mail addresses, links, numbers of some
length. What a model makes of the text (a translation, a sum, a paraphrase) is not found: that is why a call has to be planned,
too, before such text is read.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SHORT = 3  # squeezed bytes: below, a value must stand as a word of its own
LAST = 5  # characters of the last part of a path, from which on it is looked for alone
LONG = 200  # characters: a longer text, or one of several lines, is composed; what counts is what it names
VALUE_MAX = 80  # characters of a value that are told
_ADDRESSES = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>`)\]]+"  # links
    r"|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"  # mail addresses, git@host
    r"|(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.])"  # IPv4
    r"|\b[A-Z]{2}\d{2}[A-Z0-9]{10,30}\b"  # IBAN
)
# In a command or another line also: words with a dot or a slash in them (hosts, files, branches), long words, numbers.
_NAMES = re.compile(r"[\w@%+=:,.~-]*[./][\w@%+=:,./~-]*\w|\b\w{12,}\b|\b\d{4,}\b")
_ASCII_MARKS = bytes(code for code in range(128) if not chr(code).isalnum())
_OTHER_MARKS = re.compile(r"[^\w\x00-\x7f]+")  # dashes, quotes, spaces of no width


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """at: where in the arguments: "path", "network[0]"; value: the part that was found, shortened; source: whose text it
    is from."""

    at: str
    value: str
    source: str

    def as_json(self) -> dict[str, str]:
        return {"at": self.at, "value": self.value, "source": self.source}


class Text:
    """Text to look in, squeezed once."""

    __slots__ = ("_plain", "_squeezed", "source")

    def __init__(self, source: str, text: str) -> None:
        self.source = source
        self._plain = text.casefold()
        self._squeezed = squeezed(text)

    def __contains__(self, value: str) -> bool:
        small = squeezed(value)
        if len(small) > SHORT:
            return small in self._squeezed
        plain = value.strip().casefold()
        return bool(plain) and re.search(rf"(?<!\w){re.escape(plain)}(?!\w)", self._plain) is not None


def squeezed(text: str) -> bytes:
    """Letters and digits alone, in lower case, as UTF-8: megabytes of it in some milliseconds."""
    small = text.casefold()
    if not small.isascii():
        small = _OTHER_MARKS.sub("", unicodedata.normalize("NFKC", small))
    return small.encode("utf-8", "replace").translate(None, _ASCII_MARKS)


def tainted(
    arguments: Mapping[str, Any], untrusted: Iterable[Text], trusted: Text, *, fixed: Iterable[str] = ()
) -> list[Taint]:
    """The values of the arguments that stand in an untrusted text and not in the trusted one, one for each place.

    fixed: names of arguments whose values the tool's schema lists (`mode: hard`).
    """
    texts = list(untrusted)
    skipped = frozenset(fixed)
    found = []
    for at, value in leaves(arguments):
        if at.split(".")[0].split("[")[0] in skipped:
            continue
        for part in _parts(value):
            if part in trusted:
                continue
            source = next((text.source for text in texts if part in text), None)
            if source is not None:
                found.append(Taint(at=at[:120], value=_short(part), source=source))
                break
    return found


def leaves(value: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """(where, text) of every text and number, and of every key of an object that is no name of the schema's own."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            if at:
                yield f"{at}.{name}", str(name)
            yield from leaves(one, f"{at}.{name}" if at else str(name))
    elif isinstance(value, (list, tuple)):
        for index, one in enumerate(value):
            yield from leaves(one, f"{at}[{index}]")
    elif isinstance(value, str):
        if value.strip():
            yield at, value
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) >= 100:
        yield at, str(value)


def written(value: Any) -> str:
    """All texts of a JSON value, for `Text`."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str) if value not in (None, {}, []) else ""


def _parts(value: str) -> Iterator[str]:
    """The value, and what it names."""
    composed = len(value) > LONG or "\n" in value.strip()
    yield value.strip()
    found = _ADDRESSES.findall(value)
    if not composed:
        names = _NAMES.findall(value)
        found += [*names, *(last for name in names if len(last := name.rpartition("/")[2]) >= LAST and last != name)]
    for one in dict.fromkeys(found):
        if one != value.strip():
            yield one


def _short(value: str) -> str:
    line = " ".join(value.split())
    return line if len(line) <= VALUE_MAX else f"{line[: VALUE_MAX - 1]}…"
