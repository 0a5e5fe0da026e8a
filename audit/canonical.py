"""JSON in one form only: RFC 8785, the JSON Canonicalization Scheme (JCS).

The same value gives the same bytes everywhere, so bytes can be hashed and signed. `canonical_json` follows the RFC;
`facts_json` is its stricter sibling for the bodies of audit records.
"""

import json
import math
from json.encoder import encode_basestring  # the C version: escapes exactly what RFC 8785, 3.2.2.2 escapes
from typing import Any
from uuid import UUID

from audit.errors import NotCanonical

MAX_INTEGER = 2**53 - 1  # I-JSON (RFC 7493, 2.2): what every reader of JSON holds exactly
MAX_DEPTH = 100


def canonical_json(value: Any) -> bytes:
    """The RFC 8785 form of a JSON value, as UTF-8.

    Accepts None, bool, int, float, str, list, tuple and dict with text keys.

    Raises:
        NotCanonical: another type, an integer beyond 2^53-1, NaN or infinity, a lone surrogate, nesting beyond
            `MAX_DEPTH`.
    """
    return _encoded(value, facts=False)


def facts_json(value: Any) -> bytes:
    """The RFC 8785 form of a record's body. UUIDs are written as text.

    Raises:
        NotCanonical: what `canonical_json` refuses, and floats, NUL characters and keys that are not ASCII: forms that
            PostgreSQL or another language's reader would not give back unchanged.
    """
    return _encoded(value, facts=True)


def is_canonical(data: bytes) -> bool:
    """Is `data` the RFC 8785 form of what it says?"""
    try:
        return canonical_json(json.loads(data)) == data
    except (ValueError, RecursionError):
        return False


def _encoded(value: Any, *, facts: bool) -> bytes:
    parts: list[str] = []
    _write(value, parts.append, facts, MAX_DEPTH)
    try:
        return "".join(parts).encode()
    except UnicodeEncodeError:
        raise NotCanonical("A text holds a lone surrogate, which UTF-8 cannot carry.") from None


def _write(value: Any, put: Any, facts: bool, depth: int) -> None:
    if isinstance(value, str):
        if facts and "\0" in value:
            raise NotCanonical("A text holds a NUL character.")
        put(encode_basestring(value))
    elif value is None:
        put("null")
    elif value is True:
        put("true")
    elif value is False:
        put("false")
    elif isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise NotCanonical(f"An integer lies beyond 2^53-1: {value}.")
        put(int.__repr__(value))
    elif isinstance(value, float):
        if facts:
            raise NotCanonical(f"Audit records hold no floats: {value!r}.")
        put(number(value))
    elif isinstance(value, dict):
        _write_object(value, put, facts, depth)
    elif isinstance(value, list | tuple):
        _check_depth(depth)
        mark = "["
        for item in value:
            put(mark)
            _write(item, put, facts, depth - 1)
            mark = ","
        put("]" if value else "[]")
    elif facts and isinstance(value, UUID):
        put(f'"{value}"')
    else:
        raise NotCanonical(f"JSON has no form for {type(value).__name__}.")


def _write_object(value: dict[Any, Any], put: Any, facts: bool, depth: int) -> None:
    _check_depth(depth)
    mark = "{"
    for key in _sorted_keys(value, facts):
        put(f"{mark}{encode_basestring(key)}:")
        _write(value[key], put, facts, depth - 1)
        mark = ","
    put("}" if value else "{}")


def _check_depth(depth: int) -> None:
    if depth == 0:
        raise NotCanonical(f"The value is nested deeper than {MAX_DEPTH}.")


def _sorted_keys(value: dict[Any, Any], facts: bool) -> list[str]:
    """Keys in the order of their UTF-16 code units (RFC 8785, 3.2.3)."""
    ascii_only = True
    for key in value:
        if not isinstance(key, str):
            raise NotCanonical(f"A key is no text: {key!r}.")
        if not key.isascii():
            ascii_only = False
        elif facts and "\0" in key:
            raise NotCanonical("A key holds a NUL character.")
    if ascii_only:
        return sorted(value)
    if facts:
        raise NotCanonical("Keys of audit records are ASCII.")
    try:
        return sorted(value, key=lambda key: key.encode("utf-16-be"))
    except UnicodeEncodeError:
        raise NotCanonical("A key holds a lone surrogate, which UTF-8 cannot carry.") from None


def number(value: float) -> str:
    """A double as ECMAScript writes it (ECMA-262, Number::toString; RFC 8785, 3.2.2.3).

    Raises:
        NotCanonical: NaN or an infinity.
    """
    if not math.isfinite(value):
        raise NotCanonical(f"JSON has no form for {value!r}.")
    if value == 0:
        return "0"  # minus zero too
    sign = "-" if value < 0 else ""
    # repr gives the shortest digits that read back as the same double, as ECMAScript asks
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    # the value is 0.DIGITS times ten to the `point`
    point = int(exponent or 0) + (len(whole) if whole != "0" else len(digits) - len(fraction))
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if count > 1 else ""
    return f"{sign}{digits[0]}{tail}e{'+' if point > 0 else '-'}{abs(point - 1)}"
