"""The prompts that come with the server."""

import hashlib
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from django.db import transaction

from agents.models import Prompt, PromptVersion
from agents.prompts import versions
from agents.prompts.definition import check

LIBRARY = Path(__file__).parent / "library"


def sources() -> dict[str, str]:
    """Name -> text of each."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(LIBRARY.glob("*.yaml"))}


@cache
def definition(name: str) -> dict[str, Any]:
    """Of a shipped text, as data. Raises KeyError."""
    found = check(sources()[name]).data
    assert found is not None
    return found


def ensure_prompts(*, now: datetime) -> list[PromptVersion]:
    """Publishes what is missing or has changed since, each as a new version; gives what it published.

    What people have made their own, by a name of theirs or a version of theirs, is left alone.

    Raises:
        InvalidPrompt: a shipped text is wrong, or fails its tests.
    """
    made = [_publish(name, source, now=now) for name, source in sources().items()]
    return [one for one in made if one is not None]


@transaction.atomic
def _publish(name: str, source: str, *, now: datetime) -> PromptVersion | None:
    prompt = Prompt.objects.filter(name=name).first()
    if prompt is not None:
        newest = prompt.versions.first()
        digest = hashlib.sha256(source.encode()).hexdigest()
        if prompt.owner_id or (newest is not None and (newest.created_by_id or newest.sha256 == digest)):
            return None
    draft = versions.save_draft(source, note="Came with the server.", by=None, now=now)
    return versions.publish(draft.pk, by=None, now=now)
