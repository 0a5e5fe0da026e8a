"""`manage.py submit`, `watch` and `token`."""

import io
import json
import threading
import time
from contextlib import suppress
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from agents import feed
from agents.engine.cancel import cancel_job
from agents.management.commands.watch import clean
from agents.models import ApiToken, Job, Repository
from agents.tokens import well_formed
from agents.watching import follow, progress
from audit.actor import Actor
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.api import agent, nothing_is_left, step


@pytest.fixture
def root(test_tools):
    publish(("test.*", "allow"), ("llm.*", "allow"), ("workspace.*", "allow"))
    return user("root", is_superuser=True)


def run(*words: str) -> tuple[int, str]:
    """Exit code and standard output, as a shell would see them."""
    out, code = io.StringIO(), 0
    try:
        call_command(*words, stdout=out)
    except SystemExit as end:
        code = int(end.code or 0)
    except CommandError as error:
        code = error.returncode
        out.write(str(error))
    return code, out.getvalue()


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.django_db
def test_a_goal_is_submitted_for_the_only_superuser(root):
    agent()
    Repository.objects.create(name="sample", url="https://example.invalid/a", owner=root)
    code, out = run("submit", "do it", "--repository", "sample", "--label", "team=core", "--priority", "1", "--json")
    assert code == 0
    job = Job.objects.get(pk=json.loads(out)["job"])
    assert (job.owner, job.goal, job.priority, job.labels) == (root, "do it", 1, {"team": "core"})
    assert job.repository is not None and job.repository.name == "sample"


@pytest.mark.django_db
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_plan_comes_from_a_file_as_steps_or_as_the_api_takes_it(root, tmp_path, wrapped):
    steps = [step("a"), step("b", needs=["a"])]
    file = tmp_path / "plan.json"
    file.write_text(json.dumps({"steps": steps, "title": "From a file"} if wrapped else steps))
    code, out = run("submit", "--plan", str(file), "--title", "From a file")
    assert code == 0
    job = Job.objects.get()
    assert out.splitlines()[0] == str(job.pk)
    assert (job.kind, job.goal) == ("plan", "From a file")


@pytest.mark.django_db
def test_a_plan_comes_from_standard_input(root, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps([step()])))
    assert run("submit", "--plan", "-")[0] == 0
    assert Job.objects.count() == 1


@pytest.mark.django_db
def test_a_refused_submission_says_which_field_and_exits_with_3(root, tmp_path):
    file = tmp_path / "plan.json"
    file.write_text(json.dumps([step(tool="no.tool"), step("b", needs=["zz"])]))
    code, out = run("submit", "--plan", str(file))
    assert code == 3
    assert "steps[0].tool" in out and "steps[1].needs[0]" in out
    code, out = run("submit", "--plan", str(file), "--json")
    assert (code, json.loads(out)["code"]) == (3, "invalid_plan")
    assert nothing_is_left()


@pytest.mark.django_db
@pytest.mark.parametrize("words", [("submit",), ("submit", "x", "--as", "nobody"), ("submit", "--plan", "/no/such")])
def test_a_submission_that_cannot_be_understood_exits_with_3(root, words):
    agent()
    assert run(*words)[0] == 3
    assert nothing_is_left()


@pytest.mark.django_db
def test_who_submits_must_be_said_where_there_are_several_superusers(root):
    agent()
    user("second", is_superuser=True)
    code, out = run("submit", "x")
    assert code == 3 and "--as" in out
    assert run("submit", "x", "--as", "second")[0] == 0


@pytest.mark.django_db
@pytest.mark.parametrize(("state", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 2)])
def test_watch_exits_with_how_the_job_ended(root, tmp_path, state, code):
    job = _plan(root)
    Job.objects.filter(pk=job.pk).update(state=state, finished_at=timezone.now(), outcome="so it ended")
    found, out = run("watch", str(job.pk), "--json")
    assert found == code
    assert lines(out)[-1] == {"kind": "end", "job": str(job.pk), "state": state, "outcome": "so it ended"}
    assert "so it ended" in run("watch", str(job.pk))[1]


@pytest.mark.django_db
def test_watch_of_no_job_exits_with_3(root):
    assert run("watch", "nonsense")[0] == 3
    assert run("watch", "00000000-0000-7000-8000-000000000000")[0] == 3


@pytest.mark.django_db
def test_watch_gives_up_after_its_timeout_with_4(root):
    assert run("watch", str(_plan(root).pk), "--timeout", "0.1")[0] == 4


@pytest.mark.django_db(transaction=True)
def test_watch_shows_what_happens_while_it_happens(root):
    job = _plan(root)
    seen, ended = threading.Event(), threading.Event()
    got: list[tuple[str, dict]] = []

    def reader():
        try:
            for entry in follow(job.pk, timeout_s=60):
                if entry is None:
                    seen.set()
                else:
                    got.append((entry.kind, entry.data))
        finally:
            ended.set()
            connection.close()

    thread = threading.Thread(target=reader)
    thread.start()
    assert seen.wait(60)
    with transaction.atomic():
        feed.append(job.pk, [feed.Entry(kind="log", data={"stream": "stdout", "text": "hello\n"})], now=timezone.now())
    cancel_job(job.pk, by=Actor.user(root.pk), now=timezone.now())
    assert ended.wait(60)
    thread.join(60)
    assert ("log", {"stream": "stdout", "text": "hello\n"}) in got
    assert got[-1] == ("job", {"state": "cancelled"})


@pytest.mark.django_db(transaction=True)
def test_watch_goes_on_by_polling_where_redis_is_gone(root, monkeypatch):
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    job = _plan(root)
    nowhere = redis.Redis(host="127.0.0.1", port=1, retry=Retry(NoBackoff(), 0), socket_connect_timeout=0.2)
    monkeypatch.setattr(feed, "client", lambda: nowhere)
    done = threading.Thread(target=_cancel_later, args=(job.pk, root.pk))
    done.start()
    kinds = [entry.kind for entry in follow(job.pk, timeout_s=60) if entry is not None]
    done.join(60)
    assert kinds[-1] == "job"


@pytest.mark.django_db(transaction=True)
def test_submit_with_wait_ends_with_the_job(root, tmp_path):
    file = tmp_path / "plan.json"
    file.write_text(json.dumps([step()]))
    stop = threading.Event()

    def cancel_when_there():
        try:
            deadline = time.monotonic() + 30
            while not stop.wait(0.05) and time.monotonic() < deadline:
                job = Job.objects.first()
                if job is not None:
                    cancel_job(job.pk, by=Actor.user(root.pk), now=timezone.now())
                    return
        finally:
            connection.close()

    thread = threading.Thread(target=cancel_when_there)
    thread.start()
    code, out = run("submit", "--plan", str(file), "--wait", "--json")
    stop.set()
    thread.join(60)
    assert code == 2
    assert [lines(out)[0]["kind"], lines(out)[-1]["kind"]] == ["submitted", "end"]


@pytest.mark.django_db
def test_progress_is_one_line(root):
    assert progress(_plan(root).pk) == "queued · 0/1 steps · a test.note queued"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://x\x1b\\link", "link"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("tab\tstays\x08\x00", "tab\tstays"),
        ("\x9b31mx", "31mx"),
    ],
)
def test_output_of_tools_cannot_drive_the_terminal(text, shown):
    assert clean(text) == shown


@pytest.mark.django_db
def test_a_token_is_made_listed_and_revoked(root):
    code, out = run(
        "token", "create", "--user", "root", "--name", "ci", "--scope", "jobs:read", "--days", "7", "--json"
    )
    made = json.loads(out)
    assert code == 0 and well_formed(made["token"])
    row = ApiToken.objects.get(pk=made["id"])
    assert (row.scopes, row.name, row.expires_at is not None) == (["jobs:read"], "ci", True)
    code, out = run("token", "list", "--json")
    assert [one["id"] for one in json.loads(out)] == [made["id"]]
    assert made["token"] not in out + run("token", "list")[1]
    assert json.loads(run("token", "revoke", made["id"], "--json")[1]) == {"id": made["id"], "revoked": True}
    assert "before" in run("token", "revoke", made["id"])[1]
    assert run("token", "create", "--user", "nobody", "--name", "x", "--scope", "jobs:read")[0] == 3
    assert run("token", "revoke", "nonsense")[0] == 3


@pytest.mark.django_db
def test_a_plain_token_is_all_that_create_prints(root):
    code, out = run("token", "create", "--user", "root", "--name", "ci", "--scope", "jobs:write")
    assert code == 0 and well_formed(out.strip())


def _plan(owner) -> Job:
    from agents.submit import submit

    return submit({"steps": [step()]}, user=owner, now=timezone.now())[0]


def _cancel_later(job_id: UUID, user_id: int) -> None:
    try:
        with suppress(Job.DoesNotExist):
            cancel_job(job_id, by=Actor.user(user_id), now=timezone.now())
    finally:
        connection.close()
