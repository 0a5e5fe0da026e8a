"""Text as rows can hold it: names of files are bytes, and may be no Unicode at all."""

import math
import re
from collections.abc import Mapping
from typing import Any

_WHOLE_MAX = 2**53 - 1
_DEPTH_MAX = 50
_OTHER_MAX = 10_000
_SURROGATES = re.compile("[\ud800-\udfff]+")


def text(value: str) -> str:
    """Without NUL; bytes that are no UTF-8 (as `os.fsdecode` has them) as `\\xff`, other halves of pairs as `\\ud800`."""
    value = value.replace("\0", "")
    return value if value.isascii() else _SURROGATES.sub(_escaped, value)


def data(value: Any, depth: int = 0) -> Any:
    """A JSON value of the same: every text and name as `text` has it, tuples as lists. What JSON or a signed record
    cannot hold (NaN, whole numbers beyond 2^53, other types, endless nesting) stands as text."""
    if isinstance(value, str):
        return text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _WHOLE_MAX else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping | list | tuple) and depth == _DEPTH_MAX:
        return "[nested too deeply]"
    if isinstance(value, Mapping):
        return {text(str(key)): data(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [data(item, depth + 1) for item in value]
    return text(str(value)[:_OTHER_MAX])


def _escaped(found: re.Match[str]) -> str:
    try:
        return found[0].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return found[0].encode("utf-8", "backslashreplace").decode("utf-8")
