"""Answers kept for the very same request: only where the endpoint's row says for how long, and only of calls that say
that one answer is as good as another."""

import hashlib
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F

from agents.llm.routing import Target
from agents.llm.values import Answer, RawCall, Request, Usage
from agents.models import CachedAnswer
from audit.canonical import canonical_json
from tools import redact


def key_of(target: Target, request: Request) -> str:
    """Of endpoint, model and the whole request."""
    body = {"endpoint": target.name, "base_url": target.base_url, **request.body()}
    return hashlib.sha256(b"countersign-answer/v1\n" + canonical_json(body)).hexdigest()


def find(target: Target, key: str, *, now: datetime) -> Answer | None:
    """The answer that is kept and still fresh."""
    row = CachedAnswer.objects.filter(pk=key, at__gt=now - timedelta(seconds=target.cache_s)).first()
    if row is None:
        return None
    CachedAnswer.objects.filter(pk=key).update(hits=F("hits") + 1)
    kept: dict[str, Any] = row.answer
    return Answer(
        content=kept["content"],
        calls=tuple(RawCall(**call) for call in kept["calls"]),
        finish_reason=kept["finish_reason"],
        model=kept["model"],
        usage=Usage(prompt_tokens=row.prompt_tokens, completion_tokens=row.completion_tokens),
        as_text=kept["as_text"],
    )


@transaction.atomic
def keep(target: Target, key: str, answer: Answer, *, now: datetime) -> None:
    """Keeps an answer that was usable; one that holds a secret is not kept. Those that are too old go."""
    calls = [{"id": one.id, "name": one.name, "arguments": one.arguments} for one in answer.calls]
    body = {
        "content": answer.content,
        "calls": calls,
        "finish_reason": answer.finish_reason,
        "model": answer.model,
        "as_text": answer.as_text,
    }
    if redact.data(body) != body:
        return
    CachedAnswer.objects.filter(endpoint_name=target.name, at__lte=now - timedelta(seconds=target.cache_s)).delete()
    CachedAnswer.objects.update_or_create(
        pk=key,
        defaults={
            "endpoint_name": target.name[:80],
            "answer": body,
            "prompt_tokens": answer.usage.prompt_tokens,
            "completion_tokens": answer.usage.completion_tokens,
            "at": now,
        },
    )
