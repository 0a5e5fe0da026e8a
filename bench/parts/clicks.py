"""From a click to the effect: how soon what people approved begins to run, on an idle machine.

The clock starts when the approving request's transaction is committed, in the process that decided, and stops in the
worker when the tool begins: after the claim, which checks the approval and the policies once more, is committed.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar

from django.contrib.auth.models import Group, User
from django.db import connection

from agents.models import Step
from agents.submit import submit
from approvals.decisions import decide
from approvals.defaults import ensure_policies
from approvals.models import ApprovalRequest, Policy, PolicyRule
from approvals.policy import versions
from bench.parts.figures import Figure, percentile
from bench.parts.servers import Servers, wait_for
from tools import registry
from tools.spec import Box, Effect, Result, Tool

REACH_MS = 50.0
DONE_S = 60


class Stamp(Tool):
    """Says when it began."""

    name: ClassVar[str] = "bench.stamp"
    summary: ClassVar[str] = "Says when it began."
    schema: ClassVar[dict[str, Any]] = {"type": "object", "properties": {}, "additionalProperties": False}
    effect: ClassVar[Effect] = Effect.READ
    queue: ClassVar[str] = "shell"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        return Result(ok=True, summary="Begun.", data={"at": f"{time.time():.6f}"})


registry.register(Stamp())


def figures(servers: Servers, *, quick: bool) -> list[Figure]:
    """Clicks one after the other, each on a step of a job of its own, with one worker process."""
    asker, approver = _people()
    worker = servers.program(
        "clicks",
        *("celery", "-A", "config.celery", "--quiet", "worker", "-n", "clicks@%h", "-Q", "shell,control"),
        *("--pool", "threads", "-c", "4", "--without-gossip", "--without-mingle", "-l", "WARNING"),
        *("-I", "bench.parts.clicks"),
        COUNTERSIGN_WORKER_GROUP="shell",
    )
    try:
        took = [_click(asker, approver) for _ in range(5 + (40 if quick else 200))][5:]  # the first find cold caches
    finally:
        servers.end(worker)
    return [
        Figure(name="click to running, p50", value=percentile(took, 50), unit="ms"),
        Figure(name="click to running, p95", value=percentile(took, 95), unit="ms", reach=REACH_MS, at_least=False),
    ]


def _people() -> tuple[User, User]:
    """Who asks, who approves, and the policy by which the one asks the other."""
    group, _ = Group.objects.get_or_create(name="approvers")
    asker = User.objects.create_user("clicks-asker")
    approver = User.objects.create_user("clicks-approver")
    approver.groups.add(group)
    ensure_policies(group)
    draft = versions.new_draft(Policy.objects.create(name="clicks"), by=None)
    PolicyRule.objects.create(
        version=draft,
        order=10,
        name="stamp",
        tools=[Stamp.name],
        effect=PolicyRule.Effect.ASK,
        approvers=group,
        reason="People are asked.",
    )
    versions.publish(draft.pk, by=None, now=datetime.now(UTC))
    return asker, approver


def _click(asker: User, approver: User) -> float:
    """Milliseconds from the commit of one approval to the beginning of what it let through."""
    plan = {"steps": [{"key": "stamp", "tool": Stamp.name, "arguments": {}}]}
    job, _ = submit(plan, user=asker, now=datetime.now(UTC))
    asked = ApprovalRequest.objects.filter(parent_id=str(job.pk), state=ApprovalRequest.State.PENDING)
    wait_for(asked.exists, timeout_s=DONE_S, why="people are asked")
    with _commits() as commits:
        decide(
            request_id=asked.get().pk,
            by=approver,
            verdict="approve",
            reason="",
            channel="page",
            now=datetime.now(UTC),
        )
    steps = Step.objects.filter(job=job)
    # waited for at leisure: whoever asks all the time takes the CPU from what is measured
    wait_for(lambda: steps.filter(finished_at__isnull=False).exists(), timeout_s=DONE_S, why="it ran", every_s=0.1)
    result = steps.get().result or {}
    return (float(result["data"]["at"]) - commits[0]) * 1000


@contextmanager
def _commits() -> Iterator[list[float]]:
    """When this process's transactions were committed, within the block."""
    seen: list[float] = []
    wrapped: Any = connection
    commit = wrapped._commit

    def timed() -> None:
        commit()
        seen.append(time.time())

    wrapped._commit = timed
    try:
        yield seen
    finally:
        wrapped._commit = commit
