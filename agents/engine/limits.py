"""Rate limits of tools and of model endpoints: a claim takes from every bucket that covers it, or the step waits.

PostgreSQL is the truth: who takes holds the bucket's row lock until the claim is committed, so that nothing is spent
twice. A step over a limit is not claimed: no attempt is counted and no worker is held. It waits as a row, with the time
(`not_before`) when its turn comes as things stand and the limit's name (`waits_for`); who came first goes first. Where
room comes earlier than that (others ended, or were cancelled), the first in line are called.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from agents import feed
from agents.engine import backlog
from agents.engine.transitions import step_entry
from agents.models import LlmCall, RateBucket, RateLimit, Step
from agents.states import StepState
from approvals.policy.match import matches

LOOK_AGAIN_S = 1.0  # for a place among `max_running`, whose end nobody can tell
LEAST_S = 0.05
TYPICAL_FROM = 0.2  # how much one call counts in what is typical


@dataclass(slots=True)
class _Line:
    """A limit as it stands for one step: its locked bucket, who runs under it, who waits for it."""

    limit: RateLimit
    bucket: RateBucket
    running: int
    waiting: int

    def places(self) -> float:
        """How many calls may begin now."""
        places = [float("inf")]
        if self.limit.calls is not None:
            places.append(self.bucket.calls)
        if self.limit.max_running is not None:
            places.append(float(self.limit.max_running - self.running))
        if self.limit.tokens is not None:
            places.append((self._tokens_left() - 1) // self._typical() + 1)
        return min(places)

    def wait_s(self, ahead: int) -> float:
        """0: it may begin. Else seconds until it is the turn of who has `ahead` before it, as things stand."""
        waits = [0.0]
        if self.limit.calls is not None:
            waits.append((ahead + 1 - self.bucket.calls) * self.limit.window_s / self.limit.calls)
        if self.limit.max_running is not None:
            waits.append((ahead + 1 + self.running - self.limit.max_running) * LOOK_AGAIN_S)
        if self.limit.tokens is not None:
            lacking = 1 + ahead * self._typical() - self._tokens_left()
            waits.append(lacking * self.limit.window_s / self.limit.tokens)
        longest = max(waits)
        return max(longest, LEAST_S) if longest > 0 else 0.0

    def _typical(self) -> float:
        return max(self.bucket.typical_tokens, 1.0)

    def _tokens_left(self) -> float:
        return self.bucket.tokens - self.running * self._typical()


def allows(step_id: UUID, fence: int, *, now: datetime) -> bool:
    """Takes from every limit on the step, in the transaction that claims it; False: it waits, and is not to be claimed.

    The job's row is locked by the caller.
    """
    limits = list(RateLimit.objects.filter(enabled=True).order_by("pk"))
    step = Step.objects.filter(pk=step_id, state=StepState.QUEUED, attempt=fence).first() if limits else None
    if step is None:
        return True
    if step.not_before is not None and step.not_before > now:
        return True  # the claim itself refuses what is not due
    lines = [_line(limit, step.tenant_id, now=now) for limit in limits if covers(limit, step.tool)]
    if not lines:
        return True
    waits = [(line.wait_s(0 if step.waits_for == line.limit.name else line.waiting), line) for line in lines]
    longest_s, line = max(waits, key=lambda one: one[0])
    if longest_s > 0:
        _park(step, line.limit, now + timedelta(seconds=longest_s), now=now)
        return False
    for line in lines:
        line.bucket.calls -= 1
        line.bucket.save(update_fields=["calls"])
    if step.waits_for:
        Step.objects.filter(pk=step.pk).update(waits_for="", not_before=None)
    return True


def charge(call: LlmCall, *, now: datetime) -> None:
    """A model call has ended: what it used goes off its endpoint's limits, and so does a call that repairs another."""
    used = call.prompt_tokens + call.completion_tokens
    limits = RateLimit.objects.filter(enabled=True, kind=RateLimit.Kind.ENDPOINT).order_by("pk")
    lowered = [one for one in limits if fnmatchcase(call.endpoint, one.pattern)]
    if not lowered:
        return
    again = int(LlmCall.objects.filter(step=call.step_id, attempt=call.attempt).exclude(pk=call.pk).exists())
    for limit in lowered:
        with transaction.atomic():
            bucket = _bucket(limit, call.step.tenant_id, now=now)
            bucket.calls -= again
            bucket.tokens -= used
            bucket.typical_tokens += (used - bucket.typical_tokens) * (TYPICAL_FROM if bucket.typical_tokens else 1.0)
            bucket.save(update_fields=["calls", "tokens", "typical_tokens"])


def covers(limit: RateLimit, tool: str) -> bool:
    if limit.kind == RateLimit.Kind.ENDPOINT:
        return tool.startswith("llm.") and fnmatchcase(settings.LLM_BASE_URL, limit.pattern)
    return matches([limit.pattern], tool)


def call_waiting(now: datetime) -> int:
    """Calls the first in line of every limit that has room. How many. The sweeper does so each second."""
    lines = Step.objects.filter(state=StepState.QUEUED).exclude(waits_for="").values_list("waits_for", "tenant_id")
    waiting = set(lines.distinct())
    limits = {one.name: one for one in RateLimit.objects.filter(name__in={name for name, _ in waiting}, enabled=True)}
    scopes = {(name, tenant if name in limits and limits[name].per_tenant else None) for name, tenant in waiting}
    return sum(_call(name, limits.get(name), tenant, now=now) for name, tenant in sorted(scopes, key=str))


def freed(step: Step, *, now: datetime) -> None:
    """An attempt has ended: where a limit counts what runs, who waits for the place is called at once."""
    for limit in RateLimit.objects.filter(enabled=True, max_running__isnull=False):
        if covers(limit, step.tool):
            _call(limit.name, limit, step.tenant_id if limit.per_tenant else None, now=now)


@transaction.atomic
def _call(name: str, limit: RateLimit | None, tenant_id: int | None, *, now: datetime) -> int:
    """limit None: it was taken away, and nobody waits for it any more."""
    waiting = Step.objects.filter(state=StepState.QUEUED, waits_for=name, not_before__gt=now, dispatched_at=None)
    if limit is not None and limit.per_tenant:
        waiting = waiting.filter(tenant=tenant_id)
    most: int | None = None
    if limit is not None:
        line = _line(limit, tenant_id, now=now)
        called = line.waiting - waiting.count()
        places = line.places() - called
        most = None if places == float("inf") else int(max(0, places))
    first = waiting.order_by("not_before", "pk").select_for_update(skip_locked=True, no_key=True)[:most]
    rows = list(first.values_list("pk", "queue"))
    Step.objects.filter(pk__in=[pk for pk, _ in rows]).update(not_before=now)
    _note_after_commit({queue for _, queue in rows})
    return len(rows)


def _note_after_commit(queues: Iterable[str]) -> None:
    names = sorted(set(queues))

    def note() -> None:
        for name in names:
            backlog.note(name)

    transaction.on_commit(note)


def _park(step: Step, limit: RateLimit, until: datetime, *, now: datetime) -> None:
    Step.objects.filter(pk=step.pk).update(not_before=until, waits_for=limit.name, dispatched_at=None, dispatches=0)
    feed.append(step.job_id, [step_entry(step)], now=now)


def _line(limit: RateLimit, tenant_id: int | None, *, now: datetime) -> _Line:
    """Locks the bucket first, so that what is counted afterwards stays true until commit."""
    bucket = _bucket(limit, tenant_id, now=now)
    running = _scoped(Step.objects.filter(state=StepState.RUNNING), limit, tenant_id)
    waiting = _scoped(Step.objects.filter(state=StepState.QUEUED, waits_for=limit.name), limit, tenant_id)
    return _Line(
        limit=limit,
        bucket=bucket,
        running=sum(covers(limit, tool) for tool in running.values_list("tool", flat=True)),
        waiting=waiting.count(),
    )


def _scoped(steps: QuerySet[Step], limit: RateLimit, tenant_id: int | None) -> QuerySet[Step]:
    return steps.filter(tenant=tenant_id) if limit.per_tenant else steps


def _bucket(limit: RateLimit, tenant_id: int | None, *, now: datetime) -> RateBucket:
    """The limit's bucket, locked, and filled up to now; a new one is full."""
    tenant = tenant_id if limit.per_tenant else None
    calls, tokens = float(limit.calls or 0), float(limit.tokens or 0)
    new = RateBucket(limit=limit, tenant_id=tenant, calls=calls, tokens=tokens, filled_at=now)
    RateBucket.objects.bulk_create([new], ignore_conflicts=True)
    bucket = RateBucket.objects.select_for_update(no_key=True).get(limit=limit, tenant=tenant)
    share = max(0.0, (now - bucket.filled_at).total_seconds()) / limit.window_s
    bucket.calls = min(calls, bucket.calls + share * calls)
    bucket.tokens = min(tokens, bucket.tokens + share * tokens)
    bucket.filled_at = max(now, bucket.filled_at)
    bucket.save(update_fields=["calls", "tokens", "filled_at"])
    return bucket
