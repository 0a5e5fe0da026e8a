"""Recorded decisions without steps: a list that plays the engine."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from approvals.policy import recorded
from approvals.policy.evaluate import Decision
from approvals.policy.inputs import PolicyInput


def call(tool: str = "git.push", **changes: Any) -> PolicyInput:
    given: dict[str, Any] = {
        "arguments": {"branch": "agent/x"},
        "effect": "once",
        "queue": "git",
        "risk": "medium",
        "agent": "helper",
        "owner": "ada",
        "owner_id": 1,
        "groups": ["staff"],
        "repository": "shop",
        "branch": "main",
        "labels": {},
        "job_id": "j",
        "step_id": "s",
        "kind": "goal",
        **changes,
    }
    return PolicyInput(tool=tool, **given)


def decided(place: int, effect: str, *inputs: PolicyInput, hours_ago: float = 1, **changes: Any) -> recorded.Recorded:
    return recorded.Recorded(
        subject_id=f"{place:06}",
        parent_id="j",
        path="/jobs/1/",
        command="git push origin agent/x",
        at=timezone.now() - timedelta(hours=hours_ago),
        inputs=inputs or (call(),),
        decision=Decision(**{"effect": effect, "policy": "old@1", "rule": "then", **changes}),
    )


class Played:
    """The newest has the highest subject id."""

    def __init__(self, decisions: Iterable[recorded.Recorded]) -> None:
        self._decisions = sorted(decisions, key=lambda one: one.subject_id, reverse=True)
        self.pages = 0

    def count(self, since: datetime, until: datetime) -> int:
        return len(self._within(since, until))

    def page(self, since: datetime, until: datetime, *, before: str, limit: int) -> tuple[list[recorded.Recorded], str]:
        self.pages += 1
        found = [one for one in self._within(since, until) if not before or one.subject_id < before]
        return found[:limit], found[limit - 1].subject_id if len(found) > limit else ""

    def of(self, subject_ids: Iterable[str]) -> list[recorded.Recorded]:
        wanted = set(subject_ids)
        return [one for one in self._decisions if one.subject_id in wanted]

    def position(self) -> int:
        return len(self._decisions)

    def after(self, position: int) -> tuple[list[recorded.Recorded], int]:
        return sorted(self._decisions, key=lambda one: one.subject_id)[position:], len(self._decisions)

    def add(self, decision: recorded.Recorded) -> None:
        self._decisions.append(decision)

    def _within(self, since: datetime, until: datetime) -> list[recorded.Recorded]:
        return [one for one in self._decisions if since <= one.at < until]


@contextmanager
def played(*decisions: recorded.Recorded) -> Iterator[Played]:
    source = Played(decisions)
    before = recorded.register(source)
    try:
        yield source
    finally:
        recorded.register(before)
