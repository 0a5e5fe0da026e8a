"""The hot path writes what the general code writes, and leaves to it what it does not know."""

import base64
import json
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.db import connection, connections, transaction
from django.utils import timezone

from agents import feed
from agents.engine import publisher
from agents.engine.execute import Delivery, execute
from agents.engine.hot import newcomers, turn, work
from agents.engine.hot.values import Claim, Claimed, Otherwise, Settled, Success
from agents.engine.intake import NewJob, NewStep, create_job
from agents.models import Attempt, FeedEntry, Job, RateLimit, Step
from agents.states import JobState, StepState
from audit.actor import Actor
from audit.enrolment import process_key
from audit.models import Payload, Record
from tests.factories.people import user
from tests.factories.policies import publish
from tools.errors import PermitMismatch, PermitSpent
from tools.models import Permit
from tools.permits import Spent
from tools.spec import Result

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]

HERE = Delivery(queue="shell", worker="test@here", task_id="t-1")
DONE = Result(ok=True, summary="done", text="all of it", data={"n": 1})


@pytest.fixture(autouse=True)
def _enrolled_and_allowed(test_tools):
    publish(("test.*", "allow", "call.risk in ['low', 'medium']"))
    submit(step("first"))  # its records enrol this process's key
    assert process_key().enrolled


def step(key: str, *needs: str, tool: str = "test.note", **arguments: object) -> NewStep:
    return NewStep(key=key, tool=tool, arguments=arguments, needs=needs)


def submit(*steps: NewStep) -> Job:
    owner = user("ada")
    new = NewJob(owner=owner, kind="plan", goal="a plan", steps=steps)
    return create_job(new, now=timezone.now(), actor=Actor.user(owner.pk))


DIAMOND = (step("a", text="a"), step("b", "a"), step("c", "a", tool="test.read"), step("d", "b", "c"))


def run_all(job: Job, *, follow: bool = False) -> Job:
    """Plays the workers, until nothing is queued."""
    for _ in range(30):
        waiting = list(Step.objects.filter(job=job, state=StepState.QUEUED).order_by("seq"))
        if not waiting:
            break
        for one in waiting:
            execute(one.pk, one.attempt, HERE, may_follow=lambda: follow)
    job.refresh_from_db()
    return job


def claim(one: Step) -> Any:
    return turn.take([Claim(step_id=one.pk, fence=one.attempt, delivery=HERE, since=time.monotonic())])[0]


def success(claimed: Claimed, *, follow: bool = False) -> Success:
    return Success(claimed=claimed, result=DONE, delivery=HERE, follow=follow, since=time.monotonic())


def only(job: Job, key: str = "a") -> Step:
    return Step.objects.get(job=job, key=key)


def rows(job: Job) -> dict[str, Any]:
    """All that a job left, without what differs from run to run: ids, times and signatures."""
    ids = {str(job.pk): "JOB"}
    steps = list(Step.objects.filter(job=job).order_by("seq"))
    for one in steps:
        ids |= {str(one.pk): f"STEP {one.key}", str(one.permit_id): f"PERMIT {one.key}"}
    records = Record.objects.filter(target_id__in=[str(job.pk), *(str(one.pk) for one in steps)]).order_by("id")
    found = {
        "job": _plain(job, ids),
        "steps": [_plain(one, ids) for one in steps],
        "attempts": [_plain(one, ids) for one in Attempt.objects.filter(step__job=job).order_by("step__seq", "number")],
        "permits": sorted(
            (_plain(one, ids) for one in Permit.objects.filter(pk__in=[one.permit_id for one in steps])), key=str
        ),
        "feed": [(one.kind, one.data, ids.get(str(one.step_id))) for one in feed.entries(job.pk)],
        "records": [_record(one, ids) for one in records],
    }
    return found


def _plain(row: Any, ids: dict[str, str]) -> dict[str, Any]:
    """Times as whether they are there; an id of its own, and what an id stands for."""
    plain = {}
    for field in row._meta.concrete_fields:
        value = getattr(row, field.attname)
        if hasattr(value, "isoformat"):
            value = "a time"
        text = ids.get(str(value))
        plain[field.attname] = text if text is not None else value
    if row._meta.model_name in {"attempt", "permit"}:
        del plain["id"]
    plain.pop("digest", None)  # holds the workspace's name, which is the job's id
    return plain


def _record(record: Record, ids: dict[str, str]) -> Any:
    body = json.loads(record.body)
    slots = {one.slot: json.loads(one.value) for one in Payload.objects.filter(record=record)}
    context = {name: ids.get(str(value), value) for name, value in body["context"].items()}
    context.pop("digest", None)
    target = {**body["target"], "id": ids[body["target"]["id"]]}
    return body["event"], body["actor"], target, body["outcome"], context, sorted(body["commit"]), slots


def test_both_paths_leave_the_same_rows(monkeypatch):
    answers: list[Any] = []
    real = turn._take
    monkeypatch.setattr(turn, "_take", lambda *a, **k: answers.extend(found := real(*a, **k)) or found)
    hot = rows(run_all(submit(*DIAMOND)))
    assert [type(answer) for answer in answers] == [Claimed, Settled] * 4, "nothing was left to the general code"
    monkeypatch.setattr(work, "run", lambda *_, **__: False)
    reference = rows(run_all(submit(*DIAMOND)))
    assert hot == reference


def test_a_new_job_is_the_same_by_both_paths(monkeypatch):
    made: list[bool] = []
    real = newcomers.create
    monkeypatch.setattr(newcomers, "create", lambda *a, **k: made.append(real(*a, **k)) or made[-1])
    steps = (*DIAMOND, step("e", tool="test.once", text="é"))
    hot = rows(submit(*steps))
    assert made == [True], "it was not left to the general code"
    monkeypatch.setattr(newcomers, "create", lambda *_, **__: False)
    assert hot == rows(submit(*steps))


def test_a_new_job_that_is_not_plain_is_left_to_the_general_code(monkeypatch):
    monkeypatch.setattr(newcomers, "decide", lambda *_: None)  # the policies say anything but yes
    assert rows(submit(*DIAMOND))["steps"][0]["state"] == StepState.QUEUED


def test_a_thread_that_goes_on_leaves_the_same_rows_but_for_what_nobody_could_see(monkeypatch, settings):
    settings.STEPS_PER_TASK = 64
    job = run_all(submit(*DIAMOND), follow=True)
    followed = rows(job)
    monkeypatch.setattr(work, "run", lambda *_, **__: False)
    reference = rows(run_all(submit(*DIAMOND)))
    assert followed["steps"] == reference["steps"]
    assert followed["attempts"] == reference["attempts"]
    assert sorted(followed["permits"], key=str) == sorted(reference["permits"], key=str)
    assert sorted(followed["records"], key=str) == sorted(reference["records"], key=str)
    told = [one for one in reference["feed"] if one[1].get("state") != "queued"]
    assert sorted((one for one in followed["feed"] if one[1].get("state") != "queued"), key=str) == sorted(
        told, key=str
    )


@pytest.mark.parametrize(("most", "ran"), [(1, 1), (3, 3), (64, 5)])
def test_a_thread_goes_on_with_a_chain_as_far_as_it_may(test_tools, settings, most, ran):
    settings.STEPS_PER_TASK = most
    job = submit(*(step(f"s{n}", *([f"s{n - 1}"] if n else []), text=str(n)) for n in range(5)))
    execute(only(job, "s0").pk, 0, HERE, may_follow=lambda: True)
    assert [text for _, text in test_tools.RAN] == ["0", "1", "2", "3", "4"][:ran]


def test_a_thread_goes_on_to_the_end_of_a_chain(test_tools, settings):
    settings.STEPS_PER_TASK = 64
    job = submit(*(step(f"s{n}", *([f"s{n - 1}"] if n else []), text=str(n)) for n in range(5)))
    execute(only(job, "s0").pk, 0, HERE, may_follow=lambda: True)
    job.refresh_from_db()
    assert job.state == JobState.SUCCEEDED
    assert [text for _, text in test_tools.RAN] == ["0", "1", "2", "3", "4"]
    assert [entry.seq for entry in FeedEntry.objects.filter(job=job).order_by("seq")] == list(
        range(1, job.feed_seq + 1)
    )


def test_a_worker_that_drains_does_not_go_on():
    job = submit(step("a"), step("b", "a"))
    execute(only(job).pk, 0, HERE, may_follow=lambda: False)
    assert only(job, "b").state == StepState.QUEUED


def test_records_of_one_statement_follow_each_other():
    run_all(submit(*DIAMOND), follow=True)
    followed = [prev for prev in Record.objects.values_list("prev", flat=True) if prev is not None]
    assert len(followed) == len(set(followed)), "two records follow the same one"


def test_two_needs_that_end_in_one_turn_release_what_needs_both():
    job = submit(step("a"), step("b"), step("c", "a", "b"))
    held = [claim(only(job, "a")), claim(only(job, "b"))]
    first, second = turn.take([success(one, follow=True) for one in held])
    assert (first, type(second)) == (Settled(), Settled)
    assert isinstance(second, Settled)
    assert second.next is not None
    assert (second.next.key, only(job, "c").state) == ("c", StepState.RUNNING)


def test_many_threads_with_doubled_messages_run_every_step_once(test_tools):
    jobs = [submit(step("a", text=f"{n}a"), step("b", "a", text=f"{n}b")) for n in range(6)]
    messages = [only(job).pk for job in jobs] * 3
    gate = threading.Barrier(len(messages))
    raised: list[BaseException] = []

    def consume(step_id: Any) -> None:
        try:
            gate.wait(60)
            execute(step_id, 0, HERE, may_follow=lambda: True)
        except BaseException as error:
            raised.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=consume, args=[one]) for one in messages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for job in jobs:
        run_all(job)
    assert not raised
    assert sorted(text for _, text in test_tools.RAN) == sorted(f"{n}{key}" for n in range(6) for key in "ab")
    assert Attempt.objects.filter(step__job__in=jobs).count() == 12


@pytest.mark.parametrize(
    "changes",
    [
        {"cancel_requested": True},
        {"not_before": timezone.now() - timedelta(minutes=1)},
        {"kind": "chunk"},
        {"timeout_s": 5},
        {"approval_id": "00000000-0000-7000-8000-000000000000"},
        {"target_state": {"target": "x"}},
        {"workspace_of": "00000000-0000-7000-8000-000000000000"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_step_that_is_not_plain_is_left_to_the_general_code(changes):
    one = only(submit(step("a")))
    Step.objects.filter(pk=one.pk).update(**changes)
    assert claim(one) is Otherwise.GENERAL
    assert not Attempt.objects.filter(step=one).exists()


@pytest.mark.parametrize("changes", [{"cancel_requested": True}, {"state": "paused"}, {"concurrency_key": "deploy"}])
def test_a_job_that_is_not_plain_is_left_to_the_general_code(changes):
    one = only(submit(step("a")))
    Job.objects.filter(pk=one.job_id).update(**changes)
    assert claim(one) is Otherwise.GENERAL


def test_a_limited_tool_is_left_to_the_general_code_and_others_are_not():
    note, read = only(submit(step("a"))), only(submit(step("a", tool="test.read")))
    RateLimit.objects.create(name="notes", pattern="test.no*", calls=5, window_s=60)
    assert claim(note) is Otherwise.GENERAL
    assert isinstance(claim(read), Claimed)


@pytest.mark.parametrize("changes", [{"condition": "true"}, {"template": {"text": "x"}}, {"timeout_s": 5}])
def test_what_follows_is_left_to_the_general_code_where_it_is_not_plain(changes):
    job = submit(step("a"), step("b", "a"))
    Step.objects.filter(job=job, key="b").update(**changes)
    claimed = claim(only(job))
    assert turn.take([success(claimed, follow=True)]) == [Otherwise.GENERAL]
    assert only(job).state == StepState.RUNNING


def test_what_the_policies_do_not_allow_is_left_to_the_general_code():
    job = submit(step("a"), step("b", "a"))
    claimed = claim(only(job))
    publish(("test.*", "deny"))
    assert turn.take([success(claimed)]) == [Otherwise.GENERAL]


def test_a_settlement_after_the_lease_was_lost_changes_nothing():
    job = submit(step("a"))
    claimed = claim(only(job))
    Step.objects.filter(pk=claimed.step_id).update(attempt=2)
    assert turn.take([success(claimed)]) == [Otherwise.GENERAL]
    assert only(job).state == StepState.RUNNING


def test_a_permit_that_was_withdrawn_stops_the_claim():
    one = only(submit(step("a")))
    Permit.objects.filter(pk=one.permit_id).update(expires_at=timezone.now() - timedelta(minutes=1))
    assert claim(one) is Otherwise.GENERAL
    assert (only(one.job).state, Attempt.objects.filter(step=one).count()) == (StepState.QUEUED, 0)


def test_a_once_step_keeps_its_permit_until_the_door():
    one = only(submit(step("a", tool="test.once")))
    claimed = claim(one)
    assert isinstance(claimed, Claimed)
    assert claimed.permit == one.permit_id
    assert Permit.objects.get(pk=one.permit_id).spent_at is None


def test_a_connection_that_was_cut_is_replaced():
    one = only(submit(step("a")))
    other = connections.create_connection("default")
    try:
        with other.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
    finally:
        other.close()
    assert isinstance(claim(one), Claimed)


def test_a_wish_that_cannot_be_written_leaves_all_to_the_general_code(monkeypatch):
    one = only(submit(step("a")))
    monkeypatch.setattr("agents.engine.hot.claims.begin", lambda *_, **__: 1 / 0)
    assert claim(one) is Otherwise.GENERAL
    monkeypatch.undo()
    assert isinstance(claim(one), Claimed), "nothing is locked or written"


def test_a_job_whose_lock_is_held_is_waited_for():
    one = only(submit(step("a")))
    locked, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT 1 FROM agents_job WHERE id = %s FOR UPDATE", [one.job_id])
            locked.set()
            go_on.wait(60)
            cursor.execute("COMMIT")
        connections.close_all()

    holder = threading.Thread(target=hold)
    holder.start()
    assert locked.wait(60)
    assert claim(one) is Otherwise.BUSY, "nobody waits in the name of others"
    threading.Timer(0.2, go_on.set).start()
    wish = Claim(step_id=one.pk, fence=0, delivery=HERE, since=time.monotonic())
    assert isinstance(turn.take([wish], patient=True)[0], Claimed)
    holder.join(60)


def test_the_message_is_what_celery_would_send():
    one = only(submit(step("a")))
    client = publisher.client()
    client.delete("shell")
    current_app.send_task("agents.run_step", args=[str(one.pk), 3], queue="shell", ignore_result=True)
    assert publisher.push("shell", [("agents.run_step", one.pk, 3)]) == 1
    theirs, ours = json.loads(client.rpop("shell")), json.loads(client.rpop("shell"))
    assert base64.b64decode(theirs.pop("body")) == base64.b64decode(ours.pop("body"))
    for message in (theirs, ours):  # what differs from message to message
        headers, properties = message["headers"], message["properties"]
        assert headers["id"] == headers["root_id"] == properties["correlation_id"]
        for name in ("id", "root_id"):
            assert len(headers.pop(name)) == 36
        for name in ("correlation_id", "delivery_tag", "reply_to"):
            assert len(properties.pop(name)) == 36
    assert ours == theirs


def test_nothing_to_send_asks_the_broker_for_nothing(caplog):
    assert publisher.push("shell", []) == 0
    assert "step.publish_failed" not in caplog.text


def test_other_brokers_get_celerys_own_messages(settings, monkeypatch):
    sent: list[Any] = []
    settings.CELERY_BROKER_URL = "amqp://elsewhere//"
    monkeypatch.setattr(
        current_app, "send_task", lambda name, args, **options: sent.append((name, args, options["queue"]))
    )
    one = only(submit(step("a")))
    assert publisher.push("shell", [("agents.run_step", one.pk, 0)]) == 1
    assert sent[-1] == ("agents.run_step", [str(one.pk), 0], "shell")


def test_a_proof_is_good_for_one_call_of_its_digest():
    proof = Spent(id=only(submit(step("a"))).pk, subject="s", digest="a" * 64)
    with pytest.raises(PermitMismatch):
        proof.use("b" * 64)
    assert proof.use("a" * 64) == "s"
    with pytest.raises(PermitSpent):
        proof.use("a" * 64)


def test_inside_a_transaction_of_the_caller_the_general_code_works():
    with transaction.atomic():
        assert not work.run(only(submit(step("a"))).pk, 0, HERE, may_follow=lambda: True)
