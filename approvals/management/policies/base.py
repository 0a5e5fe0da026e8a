"""What the actions share."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, Protocol

from approvals.errors import UnknownPolicy
from approvals.models import PolicyVersion

VERSION = "NAME for what is in force, or else the newest draft; NAME@3 for a version"


class Out(Protocol):
    def write(self, text: str) -> Any: ...


class Action:
    """One word after `manage.py policy`. by_person: it is recorded as a person's doing."""

    name: str
    help: str
    by_person = False

    def arguments(self, parser: ArgumentParser) -> None:
        """Adds what it takes."""

    def run(self, out: Out, options: dict[str, Any]) -> bool:
        """Does it and says so; False: the exit code is 1. Raises ApprovalsError, OSError, ValueError."""
        raise NotImplementedError


def version_of(text: str, *, draft: bool = False) -> PolicyVersion:
    """NAME@3, or of NAME what is in force (of drafts: the newest).

    Raises:
        UnknownPolicy
    """
    name, _, number = text.partition("@")
    found = PolicyVersion.objects.select_related("policy").filter(policy__name=name)
    if number:
        one = found.filter(number=int(number)).first() if number.isascii() and number.isdigit() else None
    elif draft:
        one = found.filter(status=PolicyVersion.Status.DRAFT).order_by("-number").first()
    else:
        published = found.filter(status=PolicyVersion.Status.PUBLISHED).first()
        one = published or found.order_by("-number").first()
    if one is None:
        raise UnknownPolicy(f"There is no {'draft of' if draft and not number else 'policy version'} {text[:100]!r}.")
    return one


def read(path: str) -> str:
    """The text of a file. Raises OSError, ValueError."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text.") from None


def tell(out: Out, options: dict[str, Any], facts: Any, lines: str) -> None:
    """JSON where it was asked for, else words."""
    out.write(json.dumps(facts, default=str) if options["json"] else lines)
