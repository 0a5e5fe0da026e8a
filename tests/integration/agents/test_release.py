"""Fair release: whose step is next, as far as a short queue has room, exactly once."""

import threading
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection, connections
from django.utils import timezone

from agents import feed
from agents.engine import backlog, dispatch, epoch, recover, release
from agents.engine.releaser import Releaser
from agents.models import FairQueue, Job, Step, Tenant
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.test_engine import step, submit
from tests.integration.agents.test_engine_recovery import side_by_side
from tests.stack import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

QUEUE = "control"


@pytest.fixture(autouse=True)
def _short_queue(settings):
    """A window of 8 messages on a queue of its own, empty at the beginning and at the end."""
    settings.RELEASE_WINDOW, settings.RELEASE_AGEING_S = 4, 30
    settings.STEP_REPUBLISH_AFTER_S = 3600  # nothing counts as lost because a test is slow
    empty_redis()
    backlog._threads.cache_clear()
    backlog._shut.clear()
    yield
    backlog._shut.clear()
    empty_redis()


@pytest.fixture
def sent(monkeypatch):
    """What is sent, in order; it lies in Redis as well."""
    order: list[Any] = []
    real = dispatch.send_all

    def send_all(queue: str, messages: list[Any]) -> int:
        done = real(queue, messages)
        order.extend(one for _, one, _ in messages[:done])
        return done

    monkeypatch.setattr(dispatch, "send_all", send_all)
    return order


def empty_redis() -> None:
    feed.client().delete(QUEUE, backlog.mark(QUEUE), "shell", backlog.mark("shell"))


def tenant(name: str, weight: int = 1, **fields: Any) -> Tenant:
    return Tenant.objects.create(name=name, weight=weight, **fields)


def waiting(owner: Tenant | None, count: int, *, priority: int = 5, since: datetime | None = None) -> list[Any]:
    """Ids of `count` permitted steps of one job that were never sent, the oldest first."""
    since = since or timezone.now()
    job = Job.objects.create(
        kind="plan", goal="many", owner=user("ada"), tenant=owner, priority=priority, created_at=since
    )
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, {"job": job.pk, "since": since, "count": count, "queue": QUEUE})
        Step.objects.filter(job=job).update(state="queued")
    return list(Step.objects.filter(job=job).order_by("seq").values_list("pk", flat=True))


_INSERT = """
    INSERT INTO agents_step (id, job_id, seq, key, tool, effect, queue, state, created_at, ready_at, kind,
        schema_version, arguments, needs, needs_success, condition, fallbacks, fallback_used, reason, tool_call_id, risk,
        cancel_requested, target_state, preview_digest, attempt, max_attempts, claimed_by, dispatches, error_class,
        error_code, error, losses, tokens)
    SELECT gen_random_uuid(), %(job)s, n, 's' || n, 'test.note', 'read', %(queue)s, 'pending', %(since)s,
        %(since)s::timestamptz - (%(count)s - n) * interval '1 microsecond', 'call',
        1, '{}', '{}', true, '', '[]', 0, '', '', 'low', false, '{}', '', 0, 3, '', 0, '', '', '', 0, 0
      FROM generate_series(1, %(count)s) AS n
"""


def drain(order: list[Any], until: int, now: datetime) -> None:
    """Releases as workers take messages, until `until` were sent."""
    while len(order) < until:
        before = len(order)
        release.release(QUEUE, now=now)
        assert len(order) > before, "nothing is released though there is room"
        feed.client().delete(QUEUE)


def whose(ids: list[Any]) -> Counter[str]:
    names = dict(Step.objects.filter(pk__in=ids).values_list("pk", "tenant__name"))
    return Counter(names[one] for one in ids)


def test_the_job_s_tenant_and_priority_come_with_each_step_however_it_is_written():
    big = tenant("big")
    [one] = waiting(big, 1, priority=2)
    found = Step.objects.get(pk=one)
    assert (found.tenant, found.priority) == (big, 2)


def test_two_tenants_share_by_weight_whatever_waits(sent, settings):
    settings.RELEASE_WINDOW = 20
    small, big = tenant("small", 3), tenant("big", 1)
    now = timezone.now()
    waiting(big, 4000, since=now - timedelta(seconds=20))  # it came first, with ten times as much
    waiting(small, 400, since=now - timedelta(seconds=5))
    drain(sent, 400, now)
    shares = whose(sent[:400])
    assert 0.9 * 3 <= shares["small"] / shares["big"] <= 1.1 * 3
    for begin in range(0, 400, 40):
        assert whose(sent[begin : begin + 40])["small"] >= 25, "it gets its share all the time"
    assert len(set(sent)) == len(sent)


def test_a_tenant_that_was_away_owes_nothing_and_saved_nothing(sent):
    early, late = tenant("early"), tenant("late")
    now = timezone.now()
    waiting(early, 200, since=now)
    drain(sent, 80, now)
    waiting(late, 200, since=now)
    seen = len(sent)
    drain(sent, seen + 80, now)
    shares = whose(sent[seen : seen + 80])
    assert abs(shares["early"] - shares["late"]) <= 2


def test_priority_goes_first_and_age_makes_up_for_it(sent):
    one = tenant("one")
    now = timezone.now()
    last = waiting(one, 4, priority=9, since=now)
    first = waiting(one, 4, priority=0, since=now)
    old = waiting(one, 4, priority=9, since=now - timedelta(seconds=30 * 9))  # nine priorities better by now
    drain(sent, 12, now)
    assert sent == [*old, *first, *last]


def test_steps_of_one_tenant_and_priority_go_in_order_of_age(sent):
    now = timezone.now()
    younger = waiting(None, 5, since=now - timedelta(seconds=1))
    older = waiting(None, 5, since=now - timedelta(seconds=2))
    drain(sent, 10, now)
    assert sent == [*older, *younger]


def test_no_more_is_released_than_the_queue_has_room_for():
    waiting(None, 50)
    now = timezone.now()
    most = backlog.window(QUEUE)
    done = release.release(QUEUE, now=now)
    assert (done.sent, done.left) == (most, True)
    assert feed.client().llen(QUEUE) == most
    assert release.release(QUEUE, now=now).sent == 0
    assert not backlog.admits(QUEUE)
    feed.client().lpop(QUEUE)
    assert not backlog.admits(QUEUE), "who waits goes before who comes"
    assert release.release(QUEUE, now=now).sent == 1


def test_the_mark_goes_when_nobody_waits_and_stays_when_somebody_came_meanwhile():
    waiting(None, 3)
    backlog.note(QUEUE)
    seen = backlog.marked(QUEUE)
    assert seen is not None
    backlog.note(QUEUE)
    backlog.unmark(QUEUE, seen)
    assert backlog.marked(QUEUE) is not None
    assert not release.release(QUEUE, now=timezone.now()).left
    assert backlog.marked(QUEUE) is None
    assert backlog.admits(QUEUE)


@pytest.mark.usefixtures("test_tools")
def test_a_step_behind_a_full_queue_waits_as_a_row_and_is_marked(settings):
    feed.client().delete("shell", backlog.mark("shell"))  # what other tests sent and nobody took
    publish(("test.*", "allow"))
    most = backlog.window("shell")
    jobs = [submit(step("a")) for _ in range(most + 3)]
    late = Step.objects.filter(job__in=jobs, state="queued", dispatched_at=None)
    assert late.count() == 3
    assert feed.client().llen("shell") == most
    assert backlog.marked("shell") is not None
    feed.client().delete("shell")
    assert recover.republish(timezone.now()) == 3
    assert not late.exists()


@pytest.mark.usefixtures("test_tools")
def test_what_is_submitted_behind_a_queue_that_just_took_nothing_waits_from_the_start(settings, monkeypatch):
    """No message is tried, the mark is set for the releaser, and the step goes out once there is room."""
    publish(("test.*", "allow"))
    submit(step("enrols"))  # from here on this process's key stands in the log, and plain jobs take the short way
    settings.RELEASE_WINDOW = 1
    monkeypatch.setattr(backlog, "SHUT_FOR_S", 3600.0)
    feed.client().lpush("shell", *["full"] * backlog.window("shell"))
    submit(step("first"))
    assert backlog.lately_shut("shell")
    feed.client().delete(backlog.mark("shell"))
    tried: list[Any] = []
    monkeypatch.setattr(dispatch.publisher, "push_and_wake", lambda messages, feeds: tried.extend(messages) or [])
    later = submit(step("second"))
    one = Step.objects.get(job=later)
    assert (one.state, one.dispatched_at, tried) == ("queued", None, [])
    assert backlog.marked("shell") is not None
    feed.client().delete("shell")
    release.release("shell", now=timezone.now())
    one.refresh_from_db()
    assert one.dispatched_at is not None


def test_many_releasers_at_once_send_each_step_once(sent):
    ids = waiting(None, 200)
    now = timezone.now()

    def work() -> None:
        for _ in range(40):
            release.release(QUEUE, now=now)
            feed.client().delete(QUEUE)

    assert side_by_side(*[work] * 6) == []
    while release.release(QUEUE, now=now).sent:
        feed.client().delete(QUEUE)
    assert Counter(sent) == Counter(ids)


def test_a_lost_redis_costs_no_step_and_no_order(sent):
    small, big = tenant("small", 3), tenant("big", 1)
    now = timezone.now()
    waiting(big, 300, since=now)
    waiting(small, 300, since=now)
    release.release(QUEUE, now=now)
    feed.client().delete(QUEUE, backlog.mark(QUEUE), epoch.KEY)
    assert recover.forget_dispatches_if_the_broker_is_new(now) == len(sent)
    sent.clear()
    most = backlog.window(QUEUE)
    assert recover.republish(now) == most, "the sweeper keeps the queue short too"
    feed.client().delete(QUEUE)
    drain(sent, 200, now)
    shares = whose(sent[:200])
    assert 0.9 * 3 <= shares["small"] / shares["big"] <= 1.1 * 3


def test_what_the_broker_does_not_take_waits_again(monkeypatch):
    ids = waiting(None, 5)
    monkeypatch.setattr(dispatch, "send_all", lambda queue, messages: 2)
    done = release.release(QUEUE, now=timezone.now())
    assert (done.sent, done.left) == (2, True)
    assert Step.objects.filter(pk__in=ids, dispatched_at=None).count() == 3


def test_a_tenant_s_bound_holds_its_own_steps_only(sent):
    bound, free = tenant("bound", 100, max_running=2), tenant("free")
    now = timezone.now()
    held = waiting(bound, 10, since=now)
    waiting(free, 20, since=now)
    drain(sent, 22, now)
    assert whose(sent)["bound"] == 2
    last = release.release(QUEUE, now=now)
    assert (last.sent, last.blocked, last.left) == (0, True, False)
    Step.objects.filter(pk=held[0]).update(state="cancelled")
    assert release.release(QUEUE, now=now).sent == 1


@pytest.mark.usefixtures("test_tools")
def test_steps_of_a_tenant_with_a_bound_never_go_past_the_release():
    publish(("test.*", "allow"))
    backlog._capped.cache_clear()
    tenant("bound", max_running=1).groups.add(Group.objects.create(name="bound"))
    user("ada", groups=("bound",))
    jobs = [submit(step("a")) for _ in range(3)]
    assert feed.client().llen("shell") == 0
    assert recover.republish(timezone.now()) == 1
    assert recover.republish(timezone.now()) == 0
    assert Step.objects.filter(job__in=jobs, dispatched_at=None).count() == 2


def test_retries_wait_for_their_time(sent):
    now = timezone.now()
    ids = waiting(None, 3, since=now)
    Step.objects.filter(pk=ids[0]).update(not_before=now + timedelta(seconds=60))
    drain(sent, 2, now)
    assert release.release(QUEUE, now=now).sent == 0
    assert release.release(QUEUE, now=now + timedelta(seconds=61)).sent == 1
    assert sent == [*ids[1:], ids[0]]


def test_a_releaser_fills_the_queue_again_as_workers_take_from_it(sent):
    ids = waiting(None, 300)
    releaser = Releaser([QUEUE])
    thread = releaser.start()
    try:
        backlog.note(QUEUE)
        taken = 0

        def take() -> bool:
            nonlocal taken
            while feed.client().lpop(QUEUE) is not None:
                taken += 1
            return taken == len(ids)

        wait_until(take, timeout_s=60, why="every step was sent without a sweep")
    finally:
        releaser.stop()
        thread.join(60)
    assert not thread.is_alive()
    assert sent == ids


def test_the_next_steps_are_found_by_an_index_however_many_wait():
    waiting(tenant("big"), 2000)
    waiting(tenant("small"), 3)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE agents_step")
        cursor.execute("EXPLAIN " + release._LANES, {"queue": QUEUE, "now": timezone.now(), "limit": 8})
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert plan.count("step_lanes") >= 3, plan
    assert "Seq Scan" not in plan, plan


def test_a_releaser_that_stands_still_holds_nobody_up(settings, monkeypatch, sent):
    """Its transaction is ended by the server; another goes on, and each step is sent once."""
    monkeypatch.setattr(release, "STOPPED_FOR_MS", 2000)
    ids = waiting(None, 5)
    inside, go_on = threading.Event(), threading.Event()
    real = release._shares
    raised: list[BaseException] = []

    def stand_still(*arguments: Any) -> Any:
        if threading.current_thread().name == "stopped":
            inside.set()
            go_on.wait(60)
        return real(*arguments)

    def stopped() -> None:
        try:
            release.release(QUEUE, now=timezone.now())
        except BaseException as error:
            raised.append(error)
        finally:
            connections.close_all()

    monkeypatch.setattr(release, "_shares", stand_still)
    thread = threading.Thread(target=stopped, name="stopped")
    thread.start()
    assert inside.wait(60)
    monkeypatch.setattr(release, "STOPPED_FOR_MS", 60_000)  # the others may take their time
    wait_until(lambda: release.release(QUEUE, now=timezone.now()).sent, timeout_s=60, why="another one releases")
    go_on.set()
    thread.join(60)
    assert raised, "what it was about to do came to nothing"
    assert Counter(sent) == Counter(ids)
    assert FairQueue.objects.filter(pk=QUEUE).exists()
