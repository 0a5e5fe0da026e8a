"""Secrets out of text, before it reaches the database, a log or a stream.

Two kinds are found: live secrets, registered by value and looked for in the forms that programs print them in; and
shapes of well-known tokens and private keys. `Redactor` does it on a stream: what may be the beginning of a secret is
held back until it is certain.
"""

import base64
import re
import threading
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any

MARK = "[redacted]"

_MIN_LENGTH = 8  # shorter values would blank out innocent text
_WORD_MAX = 2048  # a run without a space longer than this is let go: no token is
_RUN_END = 512  # what is kept of such a run
_KEY_MAX = 16_384  # the same for a private key's block

_lock = threading.Lock()
_forms: tuple[str, ...] = ()  # longest first
_pattern: re.Pattern[str] | None = None

_SHAPES = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:"
    r"gh[pousr]_[A-Za-z0-9]{30,}"  # GitHub
    r"|github_pat_[A-Za-z0-9_]{40,}"
    r"|gl(?:pat|cbt|dt|rt|ptt|soat)-[A-Za-z0-9_.-]{20,}"  # GitLab
    r"|sk-[A-Za-z0-9_-]{20,}"  # OpenAI, Anthropic and their like
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}"  # AWS
    r"|AIza[A-Za-z0-9_-]{35}"  # Google
    r"|ya29\.[A-Za-z0-9_-]{20,}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}"  # Slack
    r"|npm_[A-Za-z0-9]{36}"
    r"|pypi-[A-Za-z0-9_-]{50,}"
    r"|hf_[A-Za-z0-9]{30,}"
    r"|cs_[A-Za-z0-9_-]{49}"  # our own
    r"|eyJ[A-Za-z0-9_-]{10,1024}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"  # JSON web token
    r")",
    re.DOTALL,
)
_SLACK_HOOK = re.compile(r"(hooks\.slack\.com/services/)[A-Za-z0-9/]{20,}")
_URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{0,128}:)[^\s/@]{1,256}(@)")
_KEY_BEGINNING = re.compile(r"-(?:-{0,4}|----B[EGIN]{0,4}|----BEGIN [A-Z0-9 ]*-{0,5})\Z")
# Looking for these first is many times quicker than the pattern that they begin.
_HINTS = (
    *("-----BEGIN", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "glcbt-", "gldt-", "glrt-"),
    *("glptt-", "glsoat-", "sk-", "AKIA", "ASIA", "AIza", "ya29.", "xox", "npm_", "pypi-", "hf_", "cs_", "eyJ"),
)


def register(*values: str) -> None:
    """Makes these values unspeakable in this process from now on. Values shorter than 8 characters are left out."""
    global _forms, _pattern
    with _lock:
        forms = set(_forms)
        for value in values:
            if len(value) >= _MIN_LENGTH:
                forms.update(_spellings(value))
        _forms = tuple(sorted(forms, key=lambda form: (-len(form), form)))
        _pattern = re.compile("|".join(map(re.escape, _forms))) if _forms else None


def text(value: str, *, shapes: bool = True) -> str:
    """`value` with secrets replaced. shapes=False: live secrets only, for data that must not change otherwise."""
    pattern = _pattern
    if pattern is not None:
        value = pattern.sub(MARK, value)
    if shapes:
        for shape in _possible(value):
            value = shape.sub(lambda found: _REPLACED[found.re].format(*found.groups()), value)
    return value


_REPLACED = {_SHAPES: MARK, _SLACK_HOOK: "{0}" + MARK, _URL_PASSWORD: "{0}" + MARK + "{1}"}


def _possible(value: str) -> list[re.Pattern[str]]:
    """The shapes that `value` may hold."""
    found = [_SHAPES] if any(hint in value for hint in _HINTS) else []
    if "hooks.slack.com/" in value:
        found.append(_SLACK_HOOK)
    if "://" in value and "@" in value:
        found.append(_URL_PASSWORD)
    return found


def data(value: Any) -> Any:
    """JSON data with live secrets replaced in every string, keys too."""
    if isinstance(value, str):
        return text(value, shapes=False)
    if isinstance(value, Mapping):
        return {text(str(key), shapes=False): data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [data(item) for item in value]
    return value


class Redactor:
    """The same for text that comes in pieces: put together, the pieces are what `text` gives for the whole.

    Held back is the last word, and what may be part of something longer. A run of thousands of characters without a
    space is let go but for its end, and a private key's block of more than 16,384 characters is no key.
    """

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """What is certain so far."""
        self._held += piece
        cut = _certain(self._held)
        ready, self._held = self._held[:cut], self._held[cut:]
        return text(ready) if ready else ""

    def flush(self) -> str:
        """The rest."""
        ready, self._held = self._held, ""
        return text(ready) if ready else ""


def _certain(held: str) -> int:
    """Up to where `held` can be judged: the end of a word, outside of every secret that is or may be there."""
    cut = len(held)
    patterns = [pattern for pattern in (_pattern, *_possible(held)) if pattern is not None]
    spans = [found.span() for pattern in patterns for found in pattern.finditer(held)]
    spans = [(start, end + (end == cut)) for start, end in spans]  # what ends with the piece may go on
    spans += [(start, cut + 1) for start in _beginnings(held)]
    spans = [(start, end) for start, end in spans if cut - start < _KEY_MAX]
    while True:
        word = held[max(0, cut - _WORD_MAX) : cut]
        blank = max((at for at in map(word.rfind, " \n\t") if at >= 0), default=-1)
        if blank >= 0:
            moved = cut - len(word) + blank + 1
        elif len(word) < _WORD_MAX:
            return 0
        else:
            moved = cut if cut < len(held) else cut - _RUN_END
        moved = min([moved, *(start for start, end in spans if start < moved < end)])
        if moved == cut or moved == 0:
            return moved
        cut = moved


def _beginnings(held: str) -> list[int]:
    """Where something begins that may become a live secret or a private key when more comes."""
    found = []
    key = _KEY_BEGINNING.search(held, max(0, len(held) - 100))
    if key:
        found.append(key.start())
    for form in _forms:
        at = held.find(form[0], max(0, len(held) - len(form) + 1))
        while at >= 0:
            if form.startswith(held[at:]):
                found.append(at)
                break
            at = held.find(form[0], at + 1)
    return found


def _spellings(value: str) -> Iterable[str]:
    """The value, and how it looks in hex, URL quoting, JSON, base64 (at each of the three offsets) and reversed."""
    raw = value.encode()
    yield value
    yield value[::-1]
    yield raw.hex()
    yield raw.hex().upper()
    yield urllib.parse.quote(value, safe="")
    yield urllib.parse.quote_plus(value)
    yield value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    for offset in range(3):
        # The characters at the edges mix with what stands around the secret, so only the inner ones are certain.
        encoded = base64.b64encode(b"\0" * offset + raw).decode().rstrip("=")
        first = (0, 2, 3)[offset]
        last = len(encoded) - (1 if (offset + len(raw)) % 3 else 0)
        inner = encoded[first:last]
        if len(inner) >= _MIN_LENGTH:
            yield inner
            yield inner.replace("+", "-").replace("/", "_")
