"""Workspaces end: of jobs that are over, of no job, where room is needed; and nothing that a crash leaves stays."""

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from django.conf import settings as configured
from django.contrib.auth.models import User
from django.core.management import call_command
from django.utils import timezone
from pytest_django import Settings

from agents import cleaning
from agents.models import Job
from tests.integration.agents import web
from tools import quota, workspaces

pytestmark = pytest.mark.django_db
NOW = timezone.now()


@pytest.fixture
def owner() -> User:
    return User.objects.create_user("cleaner")


@pytest.fixture(autouse=True)
def folder(settings: Settings) -> Iterator[Path]:
    """Workspaces of these tests alone."""
    settings.WORKSPACE_DIR = Path(configured.WORKSPACE_DIR).parent / f"cleaning-{uuid4().hex}"
    yield settings.WORKSPACE_DIR
    for name in workspaces.there():
        workspaces.remove(str(name))


def ended(owner: User, *, hours_ago: float, state: str = "succeeded", fill: int = 0) -> Job:
    job = web.job(owner, state=state, finished_at=NOW - timedelta(hours=hours_ago))
    made = workspaces.workspace_for(str(job.pk))
    (made.tree / "file").write_bytes(os.urandom(fill))
    quota.note(made)
    return job


def left() -> set[UUID]:
    return set(workspaces.there())


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_a_workspace_outlives_its_job_for_so_many_hours(state: str, owner: User, settings: Settings) -> None:
    settings.WORKSPACE_KEEP_HOURS = 10
    over = ended(owner, hours_ago=11, state=state)
    young = ended(owner, hours_ago=9, state=state)
    running = web.job(owner)
    workspaces.workspace_for(str(running.pk))
    assert cleaning.clean_workspaces(now=NOW).ended == 1
    assert left() == {young.pk, running.pk}
    assert over.pk not in left()


def test_a_workspace_of_no_job_goes_after_a_week(owner: User) -> None:
    young, old = uuid4(), uuid4()
    for name in (young, old):
        workspaces.workspace_for(str(name))
    long_ago = (NOW - timedelta(days=8)).timestamp()
    os.utime(workspaces.place_of(str(old)).root, (long_ago, long_ago))
    assert cleaning.clean_workspaces(now=NOW).orphans == 1
    assert left() == {young}


def test_what_killed_workers_left_is_found(owner: User, folder: Path) -> None:
    job = web.job(owner)
    root = workspaces.workspace_for(str(job.pk)).root
    places = [folder / ".probe-abc", folder / f"{workspaces.GONE}{uuid4()}-1", root / "handover-1", root / "handover-2"]
    for place in places:
        (place / "below").mkdir(parents=True)
        (place / "below" / "file").touch()
        (place / "below").chmod(0)
    long_ago = (NOW - timedelta(hours=7)).timestamp()
    for place in places[:3]:
        os.utime(place, (long_ago, long_ago))
    assert cleaning.clean_workspaces(now=NOW).leftovers == 3
    assert [place.exists() for place in places] == [False, False, False, True]
    assert left() == {job.pk}


def test_where_all_hold_too_much_the_oldest_that_ended_go(owner: User, settings: Settings) -> None:
    settings.WORKSPACES_TOTAL_MB = 4
    oldest, older, young = (ended(owner, hours_ago=hours, fill=2 * quota.MIB) for hours in (3, 2, 1))
    running = web.job(owner)
    place = workspaces.workspace_for(str(running.pk))
    (place.tree / "large").write_bytes(os.urandom(quota.MIB // 2))  # and never measured: its worker was killed
    assert cleaning.clean_workspaces(now=NOW).for_room == 2
    assert left() == {young.pk, running.pk}
    quota.admit(place, by_itself=False)
    assert {oldest.pk, older.pk}.isdisjoint(left())


def test_the_command_lists_and_cleans(owner: User, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    settings.WORKSPACE_QUOTA_MB = 1
    large, over = ended(owner, hours_ago=1, fill=2 * quota.MIB), ended(owner, hours_ago=1000)
    call_command("workspace", "list", "--measure", "--json")
    told = json.loads(capsys.readouterr().out)
    assert [one["job"] for one in told["workspaces"]] == [str(large.pk), str(over.pk)]
    assert "MiB are allowed" in told["workspaces"][0]["problem"]
    call_command("workspace", "list")
    assert "FULL" in capsys.readouterr().out
    call_command("workspace", "clean", "--json")
    assert json.loads(capsys.readouterr().out)["ended"] == 1
    assert left() == {large.pk}
