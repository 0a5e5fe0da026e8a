"""Other ways to write the same: what a text says once its encoded parts are read, and words turned about. Pure.

Only what a program does mechanically: base64 (also of URLs, and over several lines), base32, hexadecimal, codes of
characters, percent signs, HTML's and JSON's escapes, each also within another. Words are turned round, or by thirteen
letters. A part is taken as encoded where readable text comes out.
"""

import base64
import binascii
import codecs
import html
import re
from collections.abc import Callable, Iterator
from urllib.parse import unquote

DEPTH = 3  # encodings within each other
LEAST = 4  # characters of a decoded part
READ_MAX = 8 * 1024**2  # characters that are looked through, of a text and of what came out of it
# Four characters of base64 that are three of ASCII: whatever else is, is skipped at the speed of the expression.
_FOUR = r"[A-Za-f][A-HQ-Xg-nw-z0-3][ABEFIJMNQRUVYZcdghklopstwx014589][A-Za-z0-9+/_-]"
_BASE64 = re.compile(rf"(?<![A-Za-z0-9+])(?:{_FOUR}(?:\r?\n)?){{2,}}[A-Za-z0-9+/_-]{{0,3}}={{0,2}}")
_BASE32 = re.compile(r"(?<![A-Za-z0-9])[A-Z2-7]{16,}={0,6}")
_TWO = r"(?:[2-7][0-9A-Fa-f]|0[9AaDd])"  # two digits that are a character
_HEX = re.compile(rf"(?<![0-9A-Za-z])(?:0x)?{_TWO}{{6,}}|(?<!\w){_TWO}(?:[ ,:;]{{1,2}}(?:0x|\\x)?{_TWO}){{5,}}")
_CODES = re.compile(r"(?<!\d)\d{2,3}(?:[ ,;]{1,2}\d{2,3}){5,}")
_ESCAPED = re.compile(r"\\x([0-9A-Fa-f]{2})|\\u\{?([0-9A-Fa-f]{4,6})\}?|\\([0-7]{3})")
_ROT13 = bytes(codecs.encode(chr(code), "rot13").encode()[0] if code < 128 else code for code in range(256))


def decoded(text: str) -> Iterator[str]:
    """What stands encoded in the text, and encoded in that."""
    waiting, seen, left = [(text, DEPTH)], {text}, READ_MAX
    while waiting:
        one, depth = waiting.pop()
        for found in _decoded(one):
            left -= len(found)
            if found not in seen and left > 0:
                seen.add(found)
                yield found
                if depth > 1:
                    waiting.append((found, depth - 1))


def turned(squeezed: bytes) -> tuple[bytes, bytes]:
    """Letters and digits from the last to the first, and each letter thirteen further."""
    return squeezed[::-1], squeezed.translate(_ROT13)


def _decoded(text: str) -> Iterator[str]:
    plain = html.unescape(text) if "&" in text else text
    plain = unquote(plain) if "%" in plain else plain
    plain = _ESCAPED.sub(_character, plain) if "\\" in plain else plain
    if plain != text:
        yield plain
    for token in _BASE64.findall(text):
        yield from _read(_base(base64.urlsafe_b64decode, _url("".join(token.rstrip("=").split())), 4))
    for token in _BASE32.findall(text):
        yield from _read(_base(base64.b32decode, token.rstrip("="), 8))
    for token in _HEX.findall(text):
        yield from _read(bytes.fromhex(re.sub(r"0x|\\x|[ ,:;]", "", token)))
    for token in _CODES.findall(text):
        codes = [int(one) for one in re.findall(r"\d+", token)]
        yield from _read(bytes(codes) if max(codes) < 256 else None)


def _url(token: str) -> str:
    """In the alphabet of URLs, without the character that says nothing."""
    return token.replace("+", "-").replace("/", "_")[: len(token) - (len(token) % 4 == 1)]


def _base(decode: Callable[[str], bytes], token: str, of: int) -> bytes | None:
    try:
        return decode(token + "=" * (-len(token) % of))
    except (binascii.Error, ValueError):
        return None


def _character(found: re.Match[str]) -> str:
    two, four, octal = found.groups()
    code = int(octal, 8) if octal else int(two or four, 16)
    return chr(code) if code < 0x110000 else found.group()


def _read(given: bytes | None) -> Iterator[str]:
    """As text, where it is some: UTF-8 without control characters, or UTF-16 of plain letters."""
    if given is None or len(given) < LEAST:
        return
    if given[1::2].count(0) == len(given) // 2:
        given = given[::2]
    try:
        text = given.decode()
    except UnicodeDecodeError:
        return
    if all(one.isprintable() or one in "\r\n\t" for one in text):
        yield text
