"""Old jobs' logs: in files, out of the tables, and as readable as before."""

import gzip
import json
import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, transaction
from django.utils import timezone

from agents import archive, feed, tasks
from agents.models import ArchivedLog, FeedEntry, Job
from audit.models import Record
from tests.factories.people import user
from tests.integration.agents import web
from tools import workspaces

pytestmark = pytest.mark.django_db

STRANGE = "a\u2028b\x85c\x1d ünï\r\n\\n\n"


@pytest.fixture(autouse=True)
def _folder(settings, tmp_path):
    settings.ARCHIVE_DIR = tmp_path / "archive"
    archive._member.cache_clear()


def ended(days_ago: float, *, lines: int = 3, state: str = "succeeded") -> Job:
    """A job that ended so long ago, with a feed of so many log lines and its last state."""
    at = timezone.now() - timedelta(days=days_ago)
    job = web.job(user("ada"), state=state, finished_at=at if state in {"succeeded", "failed"} else None)
    step = web.step(job, key="a", tool="shell.exec")
    entries = [
        feed.Entry(kind="log", data={"stream": "stdout", "text": f"{n} {STRANGE}"}, step_id=step.pk)
        for n in range(lines)
    ]
    with transaction.atomic():
        feed.append(job.pk, entries, now=at)
        feed.append(job.pk, [feed.Entry(kind="job", data={"state": state})], now=at)
    job.refresh_from_db()
    return job


def told(entries: list[FeedEntry]) -> list[tuple]:
    return [(one.job_id, one.seq, one.step_id, one.kind, one.data, one.at) for one in entries]


def run(days: int = 90, **more) -> archive.Done:
    now = timezone.now()
    return archive.archive(now - timedelta(days=days), now=now, **more)


def test_an_old_jobs_feed_leaves_the_table_and_reads_as_before():
    old, young, running = ended(100), ended(10), ended(100, state="running")
    before = {job.pk: told(feed.entries(job.pk)) for job in (old, young, running)}
    done = run()
    assert (done.jobs, done.entries, done.left) == (1, old.feed_seq, False)
    assert not FeedEntry.objects.filter(job=old).exists()
    assert FeedEntry.objects.filter(job__in=[young, running]).count() == young.feed_seq + running.feed_seq
    assert {job.pk: told(feed.entries(job.pk)) for job in (old, young, running)} == before
    for after in range(old.feed_seq + 1):
        assert told(feed.entries(old.pk, after=after, limit=2)) == before[old.pk][after : after + 2]
    assert told(feed.tail(old.pk, limit=2)) == before[old.pk][-2:]
    assert run().jobs == 0, "nothing is left to do"


def test_the_file_is_plain_gzip_and_its_manifest_tells_of_it(capsys):
    jobs = sorted((ended(100, lines=n) for n in (1, 5)), key=lambda job: job.finished_at)
    run(batch=1)
    rows = ArchivedLog.objects.filter(job__in=jobs)
    (day,) = set(rows.values_list("day", flat=True))
    with gzip.open(archive.path_of(day), "rt", encoding="utf-8", newline="\n") as file:
        lines = [json.loads(line) for line in file.read().split("\n")[:-1]]
    assert [(line["job"], line["seq"]) for line in lines] == [
        (str(job.pk), seq) for job in jobs for seq in range(1, job.feed_seq + 1)
    ]
    manifest = json.loads(archive._manifest_path(day).read_text())
    assert (manifest["jobs"], manifest["entries"]) == (2, sum(job.feed_seq for job in jobs))
    assert list(archive.verify()) == []
    recorded = Record.objects.filter(event="feed.archived", target_id=day.isoformat())
    assert recorded.count() == 2, "a record a batch"
    with archive.path_of(day).open("r+b") as file:
        file.seek(20)
        file.write(b"x")
    assert [found for found, _ in archive.verify()] == [day]
    with pytest.raises(SystemExit):
        call_command("archive", "--verify", "--json")
    assert json.loads(capsys.readouterr().out)["whole"] is False


def test_a_run_that_was_killed_after_its_file_and_before_its_rows_is_done_again():
    first, second = ended(100), ended(100, lines=6)
    before = {job.pk: told(feed.entries(job.pk)) for job in (first, second)}
    assert run(batch=1, stop=iter([False, True]).__next__).left
    (row,) = ArchivedLog.objects.all()
    with archive.path_of(row.day).open("ab") as file:
        file.write(b"half a member of the batch that was not committed")
    assert run().jobs == 1
    assert {job.pk: told(feed.entries(job.pk)) for job in (first, second)} == before
    assert list(archive.verify()) == []
    assert not FeedEntry.objects.exists()


def test_a_file_shorter_than_its_rows_say_is_not_written_to():
    ended(100)
    run()
    (row,) = ArchivedLog.objects.all()
    with archive.path_of(row.day).open("r+b") as file:
        file.truncate(5)
    other = ended(100)
    with pytest.raises(archive.ArchiveUnreadable):
        run()
    assert FeedEntry.objects.filter(job=other).count() == other.feed_seq


def test_a_lost_file_is_told_in_the_log_and_breaks_no_page():
    job = ended(100)
    run()
    archive.path_of(ArchivedLog.objects.get().day).unlink()
    (note,) = feed.entries(job.pk)
    assert (note.kind, note.seq) == ("note", job.feed_seq)
    assert "cannot be read" in note.data["text"]
    answer = web.signed_in(user("ada")).get(f"/jobs/{job.pk}/")
    assert answer.status_code == 200
    assert "cannot be read" in answer.content.decode()


def test_a_retried_jobs_later_entries_follow_the_archived_ones_and_are_archived_too():
    job = ended(100)
    before = told(feed.entries(job.pk))
    run()
    later = timezone.now() - timedelta(days=95)
    Job.objects.filter(pk=job.pk).update(log_archived_at=None)
    with transaction.atomic():
        feed.append(job.pk, [feed.Entry(kind="note", data={"text": "again"})], now=later)
    whole = told(feed.entries(job.pk))
    assert whole[:-1] == before
    assert whole[-1][4] == {"text": "again"}
    assert told(feed.tail(job.pk, limit=2)) == whole[-2:]
    assert told(feed.entries(job.pk, limit=2)) == whole[:2]
    run()
    assert told(feed.entries(job.pk)) == whole
    assert ArchivedLog.objects.filter(job=job).count() == 2


def test_the_page_says_so_and_shows_the_log_and_the_api_gives_it():
    job = ended(100)
    run()
    client = web.signed_in(user("ada"))
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    assert "Log archived on" in page
    assert "ünï" in page
    events = client.get(f"/api/v1/jobs/{job.pk}/events").json()
    assert [one["seq"] for one in events["results"]] == list(range(1, job.feed_seq + 1))
    assert events["done"] is True


def test_one_archiver_at_a_time():
    ended(100)
    ready, go = threading.Event(), threading.Event()

    def other() -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT pg_advisory_lock({archive.LOCK})")
        ready.set()
        go.wait(60)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT pg_advisory_unlock({archive.LOCK})")
        connection.close()

    thread = threading.Thread(target=other)
    thread.start()
    try:
        assert ready.wait(60)
        with pytest.raises(archive.ArchiveBusy):
            run()
    finally:
        go.set()
        thread.join(60)
    assert run().jobs == 1


def test_the_command_and_the_nightly_task(settings, capsys):
    ended(100)
    ended(50)
    call_command("archive", "--older-than", "90d", "--json")
    assert json.loads(capsys.readouterr().out)["jobs"] == 1
    settings.ARCHIVE_AFTER_DAYS = 0
    tasks.archive_logs()
    assert ArchivedLog.objects.count() == 1, "0: never by itself"
    settings.ARCHIVE_AFTER_DAYS = 30
    tasks.archive_logs()
    assert ArchivedLog.objects.count() == 2


@pytest.mark.parametrize("age", ["", "90", "d90", "90 d", "999999d", "1y"])
def test_a_wrong_age_is_told(age):
    with pytest.raises(CommandError, match="90d"):
        call_command("archive", "--older-than", age)


def test_workspaces_are_cleaned_by_what_is_there(settings, django_assert_max_num_queries):
    week = timezone.now() - timedelta(days=8)
    old = [web.job(user("ada"), state="succeeded", finished_at=week) for _ in range(3)]
    young, running = web.job(user("ada"), state="failed"), web.job(user("ada"))
    stranger = str(uuid4())
    for name in (str(old[0].pk), str(young.pk), str(running.pk), stranger):
        workspaces.workspace_for(name)
    with django_assert_max_num_queries(2):
        tasks.clean_workspaces()
    left = set(workspaces.there())
    assert old[0].pk not in left
    assert {young.pk, running.pk} <= left
    assert stranger in {str(one) for one in left}, "of no job that it knows: left alone"
