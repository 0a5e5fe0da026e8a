"""Text as rows can hold it: names of files are bytes, and may be no Unicode at all."""

import re
from collections.abc import Mapping
from typing import Any

_SURROGATES = re.compile("[\ud800-\udfff]+")


def text(value: str) -> str:
    """Without NUL; bytes that are no UTF-8 (as `os.fsdecode` has them) as `\\xff`, other halves of pairs as `\\ud800`."""
    value = value.replace("\0", "")
    return value if value.isascii() else _SURROGATES.sub(_escaped, value)


def data(value: Any) -> Any:
    """The same for every text and name of a JSON value; tuples become lists."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {text(str(key)): data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [data(item) for item in value]
    return value


def _escaped(found: re.Match[str]) -> str:
    try:
        return found[0].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return found[0].encode("utf-8", "backslashreplace").decode("utf-8")
