"""The branch that a reason in plain words names."""

import re
from collections.abc import Collection

_QUOTES = "`'\"\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)*/?")
# Words that follow "branch" without naming one, and words with a slash that are none.
_NO_NAMES = re.compile(
    r"a|again|and|called|for|from|here|in|instead|is|it|names?|named|of|on|please|should|so|that|the|this|to|until|with|you"
    r"|and/or|he/she|n/a|w/o|yes/no",
    re.IGNORECASE,
)
# Branches that belong to everybody: the script never takes one as its own, whatever a reason says.
_SHARED = frozenset({"main", "master", "develop", "trunk", "HEAD"})


def named_branch(reason: str, *, leaf: str, used: Collection[str] = ()) -> str | None:
    """The new branch that a reason names, or None: a quoted word, else one with a slash, else one behind "branch".

    A name that ends in a slash is a folder: `leaf` goes into it. None of `used` is new.
    """
    found: list[tuple[int, str]] = []
    before = ["", ""]
    for word in reason.split():
        bare = word.strip(",.;:!?()")
        name = bare.strip(_QUOTES).rstrip(",.;:")
        quoted = len(bare) > 2 and bare[0] in _QUOTES and bare[-1] in _QUOTES
        named = before[-1] == "branch" or (before[-1] in ("called", "named") and before[-2] == "branch")
        if _NAME.fullmatch(name) and (quoted or named or "/" in name):
            found.append((0 if quoted else 1 if "/" in name else 2, name))
        before = [before[-1], bare.lower()]
    for _, name in sorted(found, key=lambda pair: pair[0]):
        branch = f"{name}{leaf}" if name.endswith("/") else name
        taken = branch in used or branch in _SHARED or _NO_NAMES.fullmatch(name)
        if not taken and ".." not in name and not name.endswith((".md", ".py", ".lock")):
            return branch
    return None
