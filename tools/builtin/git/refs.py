"""Names of branches, tags and commits as a caller may give them, and paths.

Checked twice: purely here, by the rules of git-check-ref-format(1) and stricter, and by git itself with
`rev-parse --verify --end-of-options`; after that only the commit's full id is used.
"""

import re
from typing import Any

from tools.errors import InvalidArguments, ToolRefused

BRANCH_SCHEMA: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 200}
REF_SCHEMA: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 250}
PATH_SCHEMA: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 1024}
MESSAGE_SCHEMA: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 20_000}

_FORBIDDEN_IN_NAME = re.compile(r"[\x00-\x20\x7f~^:?*\[\\\"'`$;|&<>(){}!]")
_SUFFIX = re.compile(r"(?:[~^][0-9]{0,6})*$")
_FULL_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
# Direction and invisible characters make a name read as another one.
_DECEPTIVE = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
# What HFS+ ignores in names (as git's core.protectHFS), and what NTFS shortens `.git` to.
_IGNORED = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_SHORT_NAME = re.compile(r"git~[0-9]+")
_OUR_TRAILER = re.compile(r"^\s*countersign-", re.IGNORECASE | re.MULTILINE)


def check_name(name: str, *, field: str) -> None:
    """A branch or tag name, without `refs/...`.

    Raises:
        ToolRefused: git would take it for an option, or it is no well-formed name.
    """
    if name.startswith("-"):
        raise ToolRefused(f"{field}: a name may not start with a dash: {name!r}.", field=f"arguments.{field}")
    parts = name.split("/")
    malformed = (
        _FORBIDDEN_IN_NAME.search(name)
        or _DECEPTIVE.search(name)
        or ".." in name
        or "@{" in name
        or name in {"@", "HEAD"}
        or name.startswith("refs/")
        or name.endswith(".")
        or any(not part or part.startswith((".", "-")) or part.endswith(".lock") for part in parts)
    )
    if malformed:
        raise ToolRefused(f"{field}: {name!r} is no well-formed name.", field=f"arguments.{field}")


def check_ref(ref: str, *, field: str) -> None:
    """A branch, tag, `origin/<branch>`, commit id or HEAD, with `~n` and `^n` behind it.

    Raises:
        ToolRefused
    """
    name = _SUFFIX.sub("", ref, count=1)
    if name in {"HEAD", "FETCH_HEAD", "ORIG_HEAD", "MERGE_HEAD"}:
        return
    check_name(name, field=field)


def check_path(path: str, *, field: str) -> None:
    """A path inside the work tree, relative to its top; `.` is the whole tree.

    Raises:
        ToolRefused: absolute, or leading outside, or into a git directory.
    """
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or re.search(r"[\x00-\x1f\x7f]", path):
        raise ToolRefused(f"{field}: {path!r} is not a path inside the workspace.", field=f"arguments.{field}")
    if any(_is_git(part) for part in parts):
        raise ToolRefused(f"{field}: {path!r} names a git directory.", field=f"arguments.{field}")


def _is_git(part: str) -> bool:
    """Whether some file system takes the name for `.git`: by case, ignored characters, streams, short names."""
    name = _IGNORED.sub("", part).lower().partition(":")[0].rstrip(" .")
    return name == ".git" or _SHORT_NAME.fullmatch(name) is not None


def check_message(message: str, *, field: str = "message") -> None:
    """Text of a commit, merge or tag.

    Raises:
        InvalidArguments: it is blank or holds control characters.
        ToolRefused: it holds a trailer that the server itself writes.
    """
    if not message.strip():
        raise InvalidArguments("The message is blank.", field=f"arguments.{field}")
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", message.replace("\r\n", "\n")):
        raise InvalidArguments("The message holds control characters.", field=f"arguments.{field}")
    if _OUR_TRAILER.search(message):
        raise ToolRefused("The message may not hold a Countersign- trailer.", field=f"arguments.{field}")


def is_full_id(text: str) -> bool:
    """Whether `text` is a full SHA-1 or SHA-256 object id in lower-case hex."""
    return _FULL_ID.fullmatch(text) is not None
