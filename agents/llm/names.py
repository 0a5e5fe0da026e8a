"""Tool names as models take them: `[A-Za-z0-9_-]{1,64}`. Ours have dots: `git.status` travels as `git__status`."""

import hashlib
import re
from collections.abc import Iterable

LONGEST = 64
_FIT = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_OTHER = re.compile(r"[^A-Za-z0-9_-]")


def to_wire(name: str) -> str:
    """The name that the model sees. Pure, so that it is the same in every turn of a conversation.

    A name that the plain rule could confuse with another's, or that is too long, carries eight digits of its hash.
    """
    plain = name.replace(".", "__")
    if _FIT.match(plain) and plain.replace("__", ".") == name:
        return plain
    tag = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{_OTHER.sub('_', plain)[: LONGEST - 9]}_{tag}"


def from_wire(wire: str, known: Iterable[str]) -> str | None:
    """The one of `known` that the model means, or None. A model that writes our own dotted name means it too."""
    for name in known:
        if wire in (to_wire(name), name):
            return name
    return None
