"""Did a value of a call's arguments come from text that others wrote? Pure: texts in, findings out.

A value is looked for as it stands, and without regard to case, spaces and punctuation, so that a word written apart is
still the word; as it is encoded, on either side, and turned about (`agents.provenance.forms`). Of a longer text the
addresses in it are looked for too: hosts, mail addresses, links, numbers of some length; an address also where the texts
hold it in pieces. What a model makes of the text (a translation, a sum, a paraphrase, an acrostic) is not found: that is why
a call has to be planned, too, before such text is read.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from agents.provenance import forms

SHORT = 3  # squeezed bytes: below, a value must stand as a word of its own
LAST = 5  # characters of the last part of a path, from which on it is looked for alone
LONG = 200  # characters: a longer text, or one of several lines, is composed; what counts is what it names
VALUE_MAX = 80  # characters of a value that are told
TURNED = 6  # squeezed bytes: from here on a value is looked for turned about
PIECE, PIECES = 5, 4  # squeezed bytes of a piece of an address at least, and how many of them
ENCODED_MAX = 256 * 1024  # characters of a value in which encoded parts are looked for
_ADDRESSES = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>`)\]]+"  # links
    r"|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"  # mail addresses, git@host
    r"|(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.])"  # IPv4
    r"|\b[A-Z]{2}\d{2}[A-Z0-9]{10,30}\b"  # IBAN
)
# In a command or another line also: words with a dot or a slash in them (hosts, files, branches), long words, numbers.
_NAMES = re.compile(r"[\w@%+=:,.~-]*[./][\w@%+=:,./~-]*\w|\b\w{12,}\b|\b\d{4,}\b")
_HOSTS = re.compile(r"network\b|redirect_hosts\b")  # the arguments that name hosts alone
_ASCII_MARKS = bytes(code for code in range(128) if not chr(code).isalnum())
_OTHER_MARKS = re.compile(r"[^\w\x00-\x7f]+")  # dashes, quotes, spaces of no width


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """at: where in the arguments: "path", "network[0]"; value: the part that was found, shortened; source: whose text it
    is from."""

    at: str
    value: str
    source: str

    @classmethod
    def of(cls, at: str, value: str, source: str) -> Self:
        return cls(at=at[:120], value=_short(value), source=source)

    def as_json(self) -> dict[str, str]:
        return {"at": self.at, "value": self.value, "source": self.source}


class Text:
    """Text to look in, squeezed once, with what stands encoded in it."""

    __slots__ = ("_plain", "_squeezed", "source")

    def __init__(self, source: str, text: str) -> None:
        self.source = source
        self._plain = text.casefold()
        self._squeezed = b"\0".join(squeezed(one) for one in (text, *forms.decoded(text)))

    def __contains__(self, value: str) -> bool:
        small = squeezed(value)
        if len(small) <= SHORT:
            plain = value.strip().casefold()
            return bool(plain) and re.search(rf"(?<!\w){re.escape(plain)}(?!\w)", self._plain) is not None
        if small in self._squeezed:
            return True
        return TURNED <= len(small) <= LONG and any(one in self._squeezed for one in forms.turned(small))

    def begins(self, small: bytes) -> int:
        """How many of the first of these squeezed bytes stand in it together."""
        least, most = 0, len(small)
        while least < most:
            middle = (least + most + 1) // 2
            least, most = (middle, most) if small[:middle] in self._squeezed else (least, middle - 1)
        return least


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
        for part, address in _parts(value, at):
            if part in trusted:
                continue
            source = next((text.source for text in texts if part in text), None)
            if source is None and address and _pieced(part, [trusted]) is None:
                source = _pieced(part, texts)
            if source is not None:
                found.append(Taint.of(at, part, source))
                break
    return found


def _pieced(part: str, texts: list[Text]) -> str | None:
    """Whose text has the first piece, where these texts hold all of it in a few pieces."""
    small, first = squeezed(part), None
    for _ in range(PIECES):
        length, source = max(((text.begins(small), text.source) for text in texts), default=(0, ""))
        if length < min(PIECE, len(small)):
            return None
        first, small = first or source, small[length:]
        if not small:
            return first
    return None


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


def _parts(value: str, at: str) -> Iterator[tuple[str, bool]]:
    """The value, what it names, and the same of what stands encoded in it; with each, whether it is an address."""
    seen = set()
    for one in (value, *(forms.decoded(value) if len(value) <= ENCODED_MAX else ())):
        for part, address in _named(one, at):
            if part and part not in seen:
                seen.add(part)
                yield part, address


def _named(value: str, at: str) -> Iterator[tuple[str, bool]]:
    yield value.strip(), _HOSTS.match(at) is not None
    for address in _ADDRESSES.findall(value):
        yield address, False
        host = _host(address)
        if host:
            yield host, True
    if len(value) <= LONG and "\n" not in value.strip():  # it is not composed
        for name in (*_NAMES.findall(value), value.strip()):
            yield name, False
            last = name.rpartition("/")[2]
            if len(last) >= LAST:
                yield last, False


def _host(address: str) -> str:
    """Of a link, without its port; of a mail address, all of it; "" of others, and of names of one word."""
    if "://" not in address:
        return address if "@" in address else ""
    try:
        found = urlsplit(address).hostname or ""
    except ValueError:
        return ""
    return found if "." in found else ""


def _short(value: str) -> str:
    line = " ".join(value.split())
    return line if len(line) <= VALUE_MAX else f"{line[: VALUE_MAX - 1]}…"
