"""Parts of `signal`, `json` and `contextlib` without what those drag in (`enum`, `re`, `collections` …), whose import would
take more time than all else that the launcher does. Stdlib only."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import Any
else:
    import _signal as signal

__all__ = ["as_json_line", "from_json", "signal", "suppress"]


class suppress:
    """`with suppress(OSError):` as in `contextlib`."""

    def __init__(self, *errors: type[BaseException]) -> None:
        self._errors = errors

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, self._errors)


class _Settings:
    """What json's own scanner asks of its decoder."""

    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float

    def __init__(self) -> None:
        self.memo: dict[str, str] = {}


def from_json(text: str) -> Any:
    """What `json.loads` gives, for JSON without blanks around it."""
    try:
        from _json import make_scanner
    except ImportError:
        import json

        return json.loads(text)
    return make_scanner(_Settings())(text, 0)[0]  # type: ignore[arg-type]


def as_json_line(facts: dict[str, Any]) -> bytes:
    """A JSON object of names and strings, numbers, truth values and None, and a line's end."""
    return ("{" + ", ".join(f"{_quoted(name)}: {_value(value)}" for name, value in facts.items()) + "}\n").encode()


def _value(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if isinstance(value, int | float) else _quoted(str(value))


def _quoted(text: str) -> str:
    return '"' + "".join(letter if _plain(letter) else _escaped(letter) for letter in text) + '"'


def _plain(letter: str) -> bool:
    return " " <= letter <= "~" and letter not in '"\\'


def _escaped(letter: str) -> str:
    code = ord(letter)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
