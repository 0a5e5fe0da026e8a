"""From the names that servers give their tools to names as the registry has them. Pure."""

import hashlib
import re
from collections.abc import Iterable

from tools.mcp import KIND

WORD_MAX = 40
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_OTHER = re.compile(r"[^a-z0-9]+")


def origin_of(server: str) -> str:
    """As `ToolDefinition.origin` has it."""
    return f"{KIND}:{server}"


def tool_names(server: str, originals: Iterable[str]) -> dict[str, str]:
    """{a tool's own name: `mcp.SERVER.WORD`}. A name that another tool's would be taken for carries digits of its hash.

    Which name a tool gets follows from its own name and from nothing that the server may order otherwise tomorrow, except
    where two would be the same: then both carry digits.
    """
    plain = {original: _word(original) for original in originals}
    made = list(plain.values())
    return {
        original: f"{KIND}.{server}.{word if made.count(word) == 1 else _marked(word, original)}"
        for original, word in plain.items()
    }


def _word(original: str) -> str:
    """`getTinyImage` and `get-tiny-image` both read `get_tiny_image`."""
    word = _OTHER.sub("_", _HUMP.sub("_", original).lower()).strip("_")
    if not word or not word[0].isalpha():
        word = f"t_{word}".rstrip("_")
    exact = _OTHER.sub("", original.lower()) == word.replace("_", "") or word.startswith("t_")
    return word if len(word) <= WORD_MAX and exact else _marked(word, original)


def _marked(word: str, original: str) -> str:
    return f"{word[: WORD_MAX - 7].rstrip('_')}_{hashlib.sha256(original.encode()).hexdigest()[:6]}"
