"""Workers: what the registry tells, how they end in order, and how one that does not consume is found."""

import json
import signal
from datetime import timedelta
from io import StringIO

import pytest
from celery import current_app
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from agents.draining import RESTART_CODE, Draining
from agents.engine import watchdog
from agents.engine.execute import claim_step
from agents.engine.failures import tries
from agents.engine.leases import Leases
from agents.models import Attempt, Canary, Step, WorkerProcess
from agents.states import StepState
from agents.workers import Activity, forget_stale, state_of
from audit.models import Record
from tests.factories.policies import publish
from tests.integration.agents import web
from tests.integration.agents.test_engine import HERE, begin, step, submit
from tests.integration.agents.worker import worker
from tests.stack import wait_until
from tools import workspaces

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]

SLEEP = ["sleep", "300"]


def a_row(name: str = "shell@a", *, now=None, **fields) -> WorkerProcess:
    now = now or timezone.now()
    given = {"group": "shell", "queues": ["shell"], "host": "h", "pid": 1, "threads": 4, "version": "1"}
    given |= {"started_at": now - timedelta(hours=1), "seen_at": now, "consumed_at": now}
    return WorkerProcess.objects.create(name=name, **{**given, **fields})


def command(*arguments: str) -> str:
    out = StringIO()
    call_command("workers", *arguments, stdout=out)
    return out.getvalue()


def running(*argv: str) -> Step:
    """A long command that a real worker runs now."""
    publish(("shell.*", "allow"))
    job = submit(step("a", "shell.exec", argv=list(argv)))
    one = Step.objects.get(job=job)
    wait_until(
        lambda: Step.objects.get(pk=one.pk).state != StepState.QUEUED, timeout_s=60, why="a worker takes the step"
    )
    one.refresh_from_db()
    assert one.state == StepState.RUNNING, one.error
    return one


# the registry


def test_the_list_tells_who_does_what():
    publish(("test.*", "allow"))
    a_row(HERE.worker, busy=1, rss_bytes=80_000_000)
    a_row("git@b", seen_at=timezone.now() - timedelta(minutes=5))
    a_row("llm@c", told="drain", told_why="because")
    begin(Step.objects.get(job=submit(step("a"))))
    found = {one["name"]: one for one in json.loads(command("--json"))["workers"]}
    here = found[HERE.worker]
    assert (here["state"], here["queues"], here["busy"]) == ("healthy", ["shell"], 1)
    assert [one["key"] for one in here["steps"]] == ["a"]
    assert (found["git@b"]["state"], found["llm@c"]["state"]) == ("silent", "draining")
    text = command()
    assert "76 MiB" in text and "test.note" in text and "because" in text


def test_rows_of_processes_that_are_long_gone_go_too():
    now = timezone.now()
    a_row("a", seen_at=now - timedelta(hours=2))
    a_row("b", seen_at=now - timedelta(minutes=2))
    a_row("c", stopped_at=now - timedelta(hours=2))
    assert forget_stale(now) == 2
    assert [row.name for row in WorkerProcess.objects.all()] == ["b"]


def test_only_a_living_worker_is_drained():
    a_row("a", seen_at=timezone.now() - timedelta(minutes=2))
    for arguments in (["drain", "a"], ["drain", "nobody"], ["drain"]):
        with pytest.raises(CommandError):
            command(*arguments)
    assert WorkerProcess.objects.get().told == ""
    assert "nobody" in command("drain", "--all")


# a real worker ends in order


def test_a_drained_worker_begins_nothing_and_hands_back_what_runs_too_long():
    """Two threads hold long commands, a third message waits in the worker or at the broker."""
    with worker("shell", ["shell", "files"], 2, WORKER_DRAIN_S="1", STEP_LEASE_S="60") as (process, name):
        held = [running(*SLEEP), running(*SLEEP)]
        third = Step.objects.get(job=submit(step("c", "shell.exec", argv=SLEEP)))
        row = WorkerProcess.objects.get(name=name)
        assert row.rss_bytes > 0 and row.version and state_of(row, timezone.now()) == "healthy"
        assert json.loads(command("drain", name, "--wait", "60", "--json")) == {
            "draining": [name],
            "told": [name],
            "left": [],
        }
        assert process.wait(90) == 0
        assert state_of(WorkerProcess.objects.get(name=name), timezone.now()) == "stopped"
    for one in held:
        one.refresh_from_db()
        assert (one.state, one.attempt, one.losses) == (StepState.QUEUED, 1, 0), "handed back long before its lease"
        assert tries(one) == 0, "that was none of its attempts"
        assert Attempt.objects.get(step=one).outcome == "lost"
    third.refresh_from_db()
    assert (third.state, third.attempt) == (StepState.QUEUED, 0)
    assert Record.objects.filter(event="worker.told", target_id=name, outcome="drain").exists()


def test_a_step_that_ends_in_time_is_not_handed_back():
    with worker("shell", ["shell", "files"], 2, WORKER_DRAIN_S="120") as (process, name):
        one = running("sh", "-c", "while [ ! -e go ]; do sleep 0.1; done")
        process.send_signal(signal.SIGTERM)
        rows = WorkerProcess.objects.filter(name=name, draining=True)
        wait_until(rows.exists, timeout_s=60, why="it drains")
        for folder in (root := workspaces.workspace_for(str(one.job_id)).root, *root.iterdir()):
            if folder.is_dir():
                (folder / "go").touch()
        assert process.wait(90) == 0
    one.refresh_from_db()
    assert (one.state, one.attempt) == (StepState.SUCCEEDED, 1), one.error


def test_messages_may_come_while_they_are_handed_back(monkeypatch):
    """A set that grows while somebody goes through it ends the hand-back; the worker's must not."""
    publish(("test.*", "allow"))
    ids = [one.pk for one in Step.objects.filter(job=submit(*[step(f"s{n}") for n in range(5)]))]
    draining = Draining(Leases(), Activity())
    for one in ids[:3]:
        draining.add((one, 0))
    seen = []

    def slow(messages):
        for message in messages:
            draining.add((ids[3 + len(seen) % 2], 0))
            seen.append(message[0])

    monkeypatch.setattr("agents.draining.dispatch.hand_back", slow)
    draining.finish()
    assert set(seen) == set(ids[:3])
    draining.finish()
    assert set(seen[3:]) == set(ids[3:])


# alive but not consuming


def test_a_real_worker_whose_consumer_is_stuck_is_told_and_exits_for_its_supervisor(settings):
    settings.CANARY_EVERY_S, settings.CANARY_LIMIT_S = 1, 3
    with worker("control", ["control"], 2, WORKER_DRAIN_S="1") as (process, name):

        def canary_taken() -> bool:
            watchdog.send({"control"}, now=timezone.now())
            return Canary.objects.filter(queue="control", taken_by=name, since=None).exists()

        wait_until(canary_taken, timeout_s=60, why="a healthy worker takes canaries")
        assert watchdog.stuck(list(WorkerProcess.objects.all()), now=timezone.now()) == []
        told = current_app.control.cancel_consumer("control", destination=[name], reply=True, timeout=20)
        assert told, "the worker heard it"

        def noticed() -> bool:
            watchdog._looked_at = 0.0
            watchdog.watch(timezone.now())
            return WorkerProcess.objects.filter(name=name, told="restart").exists() or process.poll() is not None

        wait_until(noticed, timeout_s=60, why="the watchdog tells it")
        assert process.wait(60) == RESTART_CODE
    assert Record.objects.filter(event="worker.told", target_id=name, outcome="restart").exists()
    assert WorkerProcess.objects.get(name=name).stopped_at is not None


def canary_waits(seconds: int, *, sends: int = 3, now) -> Canary:
    since = now - timedelta(seconds=seconds)
    return Canary.objects.create(queue="shell", number=9, sent_at=now, since=since, sends=sends, taken_at=since)


def told(now) -> list[str]:
    return [one.name for one, _ in watchdog.stuck(list(WorkerProcess.objects.order_by("name")), now=now)]


def test_a_busy_pool_is_not_stuck():
    now = timezone.now()
    a_row("busy", now=now, busy=4, consumed_at=now - timedelta(hours=1))
    a_row("free", now=now, busy=3, consumed_at=now - timedelta(hours=1))
    canary_waits(60, now=now)
    assert told(now) == ["free"]


@pytest.mark.parametrize(
    "fields",
    [
        {"started_at": timedelta(seconds=5)},
        {"consumed_at": timedelta(seconds=5)},
        {"draining": True},
        {"told": "drain"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_worker_that_is_new_or_works_or_ends_is_not_stuck(fields):
    now = timezone.now()
    fields = {name: now - value if isinstance(value, timedelta) else value for name, value in fields.items()}
    a_row("a", now=now, **{"consumed_at": now - timedelta(hours=1), **fields})
    canary_waits(60, now=now)
    assert told(now) == []


def test_one_message_that_the_broker_lost_is_no_evidence():
    now = timezone.now()
    a_row("a", now=now, consumed_at=now - timedelta(hours=1))
    canary_waits(60, sends=1, now=now)
    assert told(now) == []


def test_a_sweeper_that_slept_blames_nobody_for_a_canary_that_was_lost_meanwhile(settings):
    settings.CANARY_EVERY_S, settings.CANARY_LIMIT_S = 10, 30
    now = timezone.now()
    a_row("a", now=now, consumed_at=now - timedelta(hours=1))
    before = now - timedelta(minutes=3)
    Canary.objects.create(queue="shell", number=9, sent_at=before, since=before, sends=3)
    assert watchdog.send({"shell"}, now=now) == 1
    assert told(now) == []
    one = Canary.objects.get()
    assert (one.since, one.sends) == (now, 1)


def test_a_queue_that_starves_beside_one_that_is_consumed_is_found():
    now = timezone.now()
    a_row("a", now=now, queues=["files", "shell"])
    canary_waits(100, now=now)
    assert told(now) == ["a"]


def test_an_idle_worker_whose_sister_takes_everything_is_found():
    now = timezone.now()
    a_row("works", now=now)
    a_row("stuck", now=now, consumed_at=now - timedelta(hours=1))
    Canary.objects.create(queue="shell", number=9, sent_at=now, taken_at=now, taken_by="works")
    assert told(now) == ["stuck"]


def test_canaries_are_few_and_none_are_sent_where_nobody_listens(settings):
    settings.CANARY_EVERY_S = 10
    now = timezone.now()
    assert watchdog.send({"shell"}, now=now) == 1
    assert watchdog.send({"shell"}, now=now + timedelta(seconds=9)) == 0
    assert watchdog.send({"shell"}, now=now + timedelta(seconds=11)) == 1
    one = Canary.objects.get()
    assert (one.queue, one.number, one.since, one.sends) == ("shell", 2, now, 2)
    watchdog.taken("shell", by="w", now=now)
    one.refresh_from_db()
    assert (one.since, one.sends, one.taken_by) == (None, 0, "w")


def test_no_held_step_is_cut_off_while_its_worker_is_claimed_by_name():
    """`claim_step` and the registry name a worker alike: the list depends on it."""
    publish(("test.*", "allow"))
    claim = claim_step(Step.objects.get(job=submit(step("a"))).pk, 0, HERE, now=timezone.now())
    assert claim is not None and claim.step.claimed_by == HERE.worker


# what people see


def test_the_dashboard_and_the_back_office_tell_what_workers_do_and_drain_them():
    publish(("test.*", "allow"))
    a_row(HERE.worker, busy=1, rss_bytes=80_000_000)
    a_row("git@b", told="restart", told_why="it took nothing")
    begin(Step.objects.get(job=submit(step("a"))))
    root = User.objects.create_superuser("root", password="x")
    client = web.signed_in(root)
    page = client.get("/").content.decode()
    assert "1 step now" in page and "76 MiB" in page and "it took nothing" in page and "restarting" in page
    listed = client.get("/admin/agents/workerprocess/").content.decode()
    assert "1 of 4" in listed and "healthy" in listed
    assert "test.note" in client.get(f"/admin/agents/workerprocess/{quote(HERE.worker)}/change/").content.decode()
    answer = client.post(
        "/admin/agents/workerprocess/", {"action": "drain", "_selected_action": [HERE.worker]}, follow=True
    )
    assert f"Draining {HERE.worker}." in answer.content.decode()
    assert WorkerProcess.objects.get(name=HERE.worker).told == "drain"
    assert Record.objects.filter(event="worker.told", target_id=HERE.worker, actor_id=str(root.pk)).exists()
