"""Rate limits: what is over one waits as a row; nothing is spent twice, whoever claims at once."""

from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.utils import timezone

from agents.engine import limits
from agents.engine.execute import claim_step
from agents.engine.recover import republish
from agents.engine.settle import settle
from agents.models import Attempt, Job, LlmCall, RateBucket, RateLimit, Step, Tenant
from agents.states import StepState
from agents.submit import submit
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.test_engine import HERE
from tests.integration.agents.test_engine_recovery import side_by_side
from tools.spec import Result

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]


@pytest.fixture(autouse=True)
def _allowed():
    publish(("test.*", "allow"))


def limit(name: str = "notes", pattern: str = "test.note", **fields: object) -> RateLimit:
    return RateLimit.objects.create(name=name, pattern=pattern, **fields)


def step(tool: str = "test.note", owner: str = "ada") -> Step:
    job = submit({"steps": [{"key": "a", "tool": tool}]}, user=user(owner), now=timezone.now())[0]
    return Step.objects.get(job=job)


def claim(one: Step, now: datetime | None = None) -> bool:
    return claim_step(one.pk, one.attempt, HERE, now=now or timezone.now()) is not None


def end(one: Step) -> None:
    one.refresh_from_db()
    assert settle(one, Result(ok=True, summary=""), worker=HERE.worker, cancelled=False, now=timezone.now())


def test_a_step_over_the_limit_waits_as_a_row_and_has_made_no_attempt():
    limit(calls=2, window_s=60)
    steps = [step() for _ in range(3)]
    now = timezone.now()
    assert [claim(one, now) for one in steps] == [True, True, False]
    late = steps[2]
    late.refresh_from_db()
    assert (late.state, late.attempt, late.waits_for, late.dispatched_at) == (StepState.QUEUED, 0, "notes", None)
    assert late.not_before is not None and now < late.not_before <= now + timedelta(seconds=60)
    assert not Attempt.objects.filter(step=late).exists()
    republish(now)
    late.refresh_from_db()
    assert late.dispatched_at is None
    later = late.not_before
    republish(later)
    assert claim(late, later)
    late.refresh_from_db()
    assert (late.waits_for, late.attempt) == ("", 1)


def test_who_waits_gets_turns_one_after_the_other_before_who_comes():
    limit(calls=1, window_s=10)
    now = timezone.now()
    steps = [step() for _ in range(4)]
    assert [claim(one, now) for one in steps] == [True, False, False, False]
    turns = [Step.objects.get(pk=one.pk).not_before or now for one in steps[1:]]
    gaps = [round((turn - now).total_seconds()) for turn in turns]
    assert gaps == [10, 20, 30]
    late = step()
    assert not claim(late, turns[0]), "a new one does not take the place of who waits"
    assert claim(steps[1], turns[0])


def test_other_tools_and_limits_that_are_off_hold_nobody():
    limit(calls=1, window_s=600)
    limit("off", enabled=False, calls=1)
    assert claim(step())
    assert not claim(step())
    assert claim(step("test.read"))


def test_workers_that_claim_at_once_spend_nothing_twice():
    limit(calls=5, window_s=3600)
    steps = [step() for _ in range(16)]
    now = timezone.now()
    assert side_by_side(*[partial(claim, one, now) for one in steps]) == []
    assert Step.objects.filter(state=StepState.RUNNING).count() == 5
    assert Step.objects.filter(waits_for="notes", state=StepState.QUEUED).count() == 11
    assert RateBucket.objects.get().calls == 0


def test_so_many_run_at_a_time_and_the_next_is_called_when_one_ends():
    limit(max_running=2)
    steps = [step() for _ in range(5)]
    assert side_by_side(*[partial(claim, one) for one in steps]) == []
    running = list(Step.objects.filter(state=StepState.RUNNING))
    assert len(running) == 2
    waiting = Step.objects.filter(waits_for="notes")
    moment = timezone.now() - timedelta(seconds=1)
    assert not waiting.filter(not_before__lte=moment).exists()
    end(running[0])
    called = waiting.filter(not_before__lte=timezone.now()).order_by("not_before").first()
    assert called is not None
    assert claim(called)
    assert Step.objects.filter(state=StepState.RUNNING).count() == 2


def test_who_waits_moves_up_when_others_are_cancelled():
    limit(calls=1, window_s=10)
    now = timezone.now()
    steps = [step() for _ in range(4)]
    for one in steps:
        claim(one, now)
    Step.objects.filter(pk__in=[steps[1].pk, steps[2].pk]).update(state=StepState.CANCELLED)
    later = now + timedelta(seconds=11)
    assert limits.call_waiting(later) == 1
    assert claim(steps[3], later)


def test_who_waits_for_a_limit_that_is_taken_away_goes_on():
    rule = limit(calls=1, window_s=6000)
    claim(step())
    late = step()
    assert not claim(late)
    rule.delete()
    now = timezone.now()
    assert limits.call_waiting(now) == 1
    assert claim(late, now)


def test_a_limit_for_each_tenant_is_each_tenant_s_own():
    for name in ("red", "blue"):
        Tenant.objects.create(name=name).groups.add(Group.objects.get_or_create(name=name)[0])
        user(name, groups=(name,))
    limit(calls=1, window_s=3600, per_tenant=True)
    assert claim(step(owner="red"))
    assert not claim(step(owner="red"))
    assert claim(step(owner="blue"))
    assert RateBucket.objects.count() == 2


def model_step() -> Step:
    """A permitted turn of a model."""
    one = step()
    Step.objects.filter(pk=one.pk).update(tool="llm.think", queue="llm")
    one.refresh_from_db()
    return one


def call(one: Step, tokens: int, endpoint: str) -> LlmCall:
    return LlmCall.objects.create(
        step=one,
        attempt=1,
        endpoint=endpoint,
        model="m",
        prompt_tokens=tokens,
        request_sha256="0" * 64,
        at=timezone.now(),
    )


def test_tokens_of_an_endpoint_are_charged_when_they_are_known(settings):
    rule = limit(kind="endpoint", pattern=f"{settings.LLM_BASE_URL}*", tokens=1000, window_s=60)
    other = limit("other", kind="endpoint", pattern="https://elsewhere.invalid/*", tokens=1)
    one, two, three = model_step(), model_step(), model_step()
    now = timezone.now()
    assert claim(one, now)
    limits.charge(call(one, 900, settings.LLM_BASE_URL), now=now)
    Step.objects.filter(pk=one.pk).update(state=StepState.SUCCEEDED)
    assert claim(two, now), "100 are left"
    limits.charge(call(two, 900, settings.LLM_BASE_URL), now=now)
    Step.objects.filter(pk=two.pk).update(state=StepState.SUCCEEDED)
    bucket = RateBucket.objects.get(limit=rule)
    assert (bucket.tokens, bucket.typical_tokens) == (-800, 900)
    assert not claim(three, now)
    three.refresh_from_db()
    assert three.waits_for == "notes"
    later = now + timedelta(seconds=60)
    assert claim(three, later)
    assert not RateBucket.objects.filter(limit=other).exists()


def test_what_runs_counts_with_what_is_typical(settings):
    rule = limit(kind="endpoint", pattern="*", tokens=1000, window_s=60)
    now = timezone.now()
    RateBucket.objects.create(limit=rule, tokens=1000, typical_tokens=400, filled_at=now)
    assert [claim(model_step(), now) for _ in range(4)] == [True, True, True, False]


def test_a_limit_that_limits_nothing_or_lets_nothing_through_is_refused():
    wrong: list[dict[str, Any]] = [{}, {"calls": 0}, {"calls": 1, "window_s": 0}]
    for fields in wrong:
        with pytest.raises(IntegrityError), transaction.atomic():
            limit(**fields)
    assert Job.objects.count() == 0
