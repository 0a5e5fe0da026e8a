"""What a job keeps: for those who see the job, as files to save, over the API and on its page."""

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings as configured
from django.core.management import CommandError, call_command
from django.http import StreamingHttpResponse
from django.utils import timezone
from pytest_django import Settings

from agents import tasks
from agents.models import Job, Step
from tests.factories.people import user
from tests.integration.agents import web
from tests.integration.agents.api import JOBS, client, problem
from tools import workspaces
from tools.artifacts import purging, store
from tools.artifacts.keeping import Wanted, keep
from tools.models import Artifact

pytestmark = pytest.mark.django_db
PAGE = b"<script>alert(1)</script>" * 10_000


@pytest.fixture(autouse=True)
def folder(settings: Settings) -> None:
    settings.ARTIFACT_DIR = Path(configured.DATA_DIR) / f"artifacts-{uuid4().hex}"


@pytest.fixture
def job() -> Job:
    return web.job(user("ada"))


@pytest.fixture
def step(job: Job) -> Step:
    return web.step(job, "keep")


def kept(job: Job, step: Step, name: str, content: bytes = PAGE, content_type: str = "text/html") -> Artifact:
    place = workspaces.workspace_for(str(job.pk))
    (place.tree / "file").write_bytes(content)
    made = keep(place, [Wanted(path="file", name=name, content_type=content_type)], subject=str(step.pk))[0]
    workspaces.remove(str(job.pk))
    return made


def body(response: StreamingHttpResponse) -> bytes:
    async def gather() -> bytes:
        return b"".join([part async for part in response])

    return async_to_sync(gather)()


def test_the_api_lists_reads_and_gives_them_out(job, step):
    made = kept(job, step, "report.html")
    one, url = client(user("ada")), f"{JOBS}/{job.pk}/artifacts"
    (listed,) = one.get(url).json()["results"]
    assert listed == one.get(f"{url}/{made.pk}").json()
    assert (listed["name"], listed["step"], listed["sha256"]) == (
        "report.html",
        str(step.pk),
        hashlib.sha256(PAGE).hexdigest(),
    )
    response = one.get(listed["content_url"])
    assert body(response) == PAGE
    assert response["Content-Length"] == str(len(PAGE))


@pytest.mark.parametrize(
    ("told", "sent"),
    [
        ("text/html", "application/octet-stream"),
        ("image/svg+xml", "application/octet-stream"),
        ("text/csv", "text/csv"),
    ],
)
def test_no_browser_shows_what_an_agent_made(job, step, told, sent):
    made = kept(job, step, 'a"b;ü.html', content_type=told)
    for response in (
        client(user("ada")).get(f"{JOBS}/{job.pk}/artifacts/{made.pk}/content"),
        web.signed_in(user("ada")).get(f"/jobs/{job.pk}/artifacts/{made.pk}"),
    ):
        assert response["Content-Type"] == sent
        assert response["Content-Disposition"].startswith("attachment; filename")
        assert '"b;' not in response["Content-Disposition"].replace('\\"', "")
        assert response["X-Content-Type-Options"] == "nosniff"
        assert response["Content-Security-Policy"] == "sandbox; default-src 'none'"
        assert response["Cache-Control"] == "private, no-store" or "no-store" in response["Cache-Control"]
        assert body(response) == PAGE


def test_a_steps_page_shows_what_is_a_picture_and_not_what_says_so(job, step):
    png, svg = b"\x89PNG\r\n\x1a\n" + b"\0" * 20, b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    shown = kept(job, step, "chart", png, "")
    others = [kept(job, step, "a.png", svg, "image/png"), kept(job, step, "b.svg", svg, "image/svg+xml")]
    kept(job, web.step(job, "another"), "elsewhere.png", png, "")
    assert [one.content_type for one in (shown, *others)] == ["image/png", "text/plain", "image/svg+xml"]
    ada = web.signed_in(user("ada"))
    page = ada.get(f"/jobs/{job.pk}/?step=keep").content.decode()
    assert page.count('<img src="/jobs/') == 1 and f'<img src="/jobs/{job.pk}/artifacts/{shown.pk}"' in page
    assert ada.get(f"/jobs/{job.pk}/artifacts/{shown.pk}")["Content-Type"] == "image/png"


def test_they_are_there_for_the_jobs_people_only(job, step):
    made = kept(job, step, "x")
    other = web.job(user("bob"))
    for who, owner in (("bob", job), ("bob", other)):
        for path in ("", f"/{made.pk}", f"/{made.pk}/content"):
            if owner is other and not path:
                continue
            problem(client(user(who)).get(f"{JOBS}/{owner.pk}/artifacts{path}"), 404, "not_found")
    assert web.signed_in(user("bob")).get(f"/jobs/{job.pk}/artifacts/{made.pk}").status_code == 404
    assert client(user("bob")).delete(f"{JOBS}/{job.pk}/artifacts/{made.pk}").status_code == 404
    assert Artifact.objects.get().purged_at is None


def test_somebody_who_may_change_the_job_takes_one_away(job, step):
    made = kept(job, step, "x")
    one, url = client(user("ada")), f"{JOBS}/{job.pk}/artifacts/{made.pk}"
    assert one.delete(url).status_code == 204
    assert not store.place(made.sha256).exists()
    assert one.delete(url).status_code == 204
    read = one.get(url).json()
    assert (read["purged_why"], read["content_url"]) == ("taken away by a person", None)
    problem(one.get(f"{url}/content"), 410, "gone")
    assert web.signed_in(user("ada")).get(f"/jobs/{job.pk}/artifacts/{made.pk}").status_code == 410


def test_a_damaged_one_is_not_given_out(job, step):
    made = kept(job, step, "x")
    store.place(made.sha256).write_bytes(b"something else")
    problem(client(user("ada")).get(f"{JOBS}/{job.pk}/artifacts/{made.pk}/content"), 410, "gone")


def test_the_page_lists_them_and_says_what_became_of_them(job, step):
    kept(job, step, web.HOSTILE.replace("/", "") + ".txt", b"one")
    gone = kept(job, step, "old.txt", b"two")
    purging.purge([gone.pk], actor=purging.SWEEPER, why="kept for 30 days", now=timezone.now())
    shown = web.signed_in(user("ada")).get(f"/jobs/{job.pk}/").content.decode()
    assert "2 artifacts" in shown
    assert "no longer kept: kept for 30 days" in shown
    assert f"/jobs/{job.pk}/artifacts/{gone.pk}" not in shown
    assert "<script>alert" not in shown
    assert "\u202e" not in shown


def test_beat_sweeps_them(job, step, settings):
    settings.ARTIFACT_KEEP_DAYS = 1
    made = kept(job, step, "x")
    Artifact.objects.update(created_at=timezone.now() - timedelta(days=2))
    tasks.purge_artifacts()
    assert not store.place(made.sha256).exists()


def test_the_command_lists_sweeps_and_verifies(job, step, settings, capsys):
    made = kept(job, step, "a\u202eb.txt", b"content")
    call_command("artifact", "list", "--job", str(job.pk))
    assert "a\\u202eb.txt" in capsys.readouterr().out
    call_command("artifact", "list", "--json")
    assert json.loads(capsys.readouterr().out)["artifacts"][0]["sha256"] == made.sha256
    call_command("artifact", "verify")
    store.place(made.sha256).write_bytes(b"other")
    with pytest.raises(SystemExit):
        call_command("artifact", "verify", "--json")
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["problems"][0]["sha256"] == made.sha256
    settings.ARTIFACT_KEEP_DAYS = 1
    Artifact.objects.update(created_at=timezone.now() - timedelta(days=2))
    call_command("artifact", "sweep", "--json")
    assert json.loads(capsys.readouterr().out)["by_age"] == 1
    with pytest.raises(CommandError):
        call_command("artifact", "list", "--job", "no id")
