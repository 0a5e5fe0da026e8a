"""Freeze windows in the admin, and what a server without policies says."""

import logging
from datetime import timedelta

import pytest
from django.core.checks import run_checks
from django.utils import timezone

from approvals.models import FreezeWindow
from approvals.policy import published
from approvals.policy.startup import say_where_nothing_runs
from tests.factories.log import events
from tests.factories.people import user
from tests.factories.policies import publish

pytestmark = pytest.mark.django_db(transaction=True)
ADMIN = "/admin/approvals/freezewindow/"


@pytest.fixture
def boss(client):
    made = user("boss", is_staff=True, is_superuser=True)
    client.force_login(made)
    return made


def form(**changes):
    now = timezone.now()
    given = {
        "name": "release",
        "reason": "We release.",
        "starts_at_0": f"{now:%Y-%m-%d}",
        "starts_at_1": "00:00:00",
        "ends_at_0": f"{now + timedelta(days=3):%Y-%m-%d}",
        "ends_at_1": "00:00:00",
        "environments": "prod*",
        "repositories": "",
        "tools": "git.push,git.push_tag",
        "effects": "once",
        "effect": "deny",
        "approvers": "",
        "quorum": "1",
        "enabled": "on",
    }
    return {**given, **changes}


def test_a_window_is_made_changed_and_deleted_in_the_admin_each_time_in_force_at_once(client, boss):
    publish(("*", "allow"))
    before = published.ids()
    answer = client.post(f"{ADMIN}add/", form())
    assert answer.status_code == 302, answer.content.decode()[-3000:]
    window = FreezeWindow.objects.get(name="release")
    assert (window.tools, window.environments, window.effects) == (["git.push", "git.push_tag"], ["prod*"], ["once"])
    made = published.ids()
    assert made == before | {window.revision}
    assert [freeze.name for freeze in published.of(made).freezes] == ["release"]
    assert client.post(f"{ADMIN}{window.pk}/change/", form(reason="Still.")).status_code == 302
    assert published.ids() not in (before, made)
    assert client.post(f"{ADMIN}{window.pk}/delete/", {"post": "yes"}).status_code == 302
    assert published.ids() == before
    assert [event for event, _ in events(window.pk, prefix="freeze.")] == ["freeze.changed"] * 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ends_at_0": "2020-01-01"}, "It must end after it starts."),
        ({"tools": "Git Push"}, "no pattern of tool names"),
        ({"effects": "write"}, "There is no effect"),
        ({"effect": "ask"}, "names no group of approvers"),
    ],
)
def test_a_window_that_could_not_work_is_refused(client, boss, changes, said):
    answer = client.post(f"{ADMIN}add/", form(**changes))
    assert answer.status_code == 200
    assert said in answer.content.decode().replace("&#x27;", "'")
    assert not FreezeWindow.objects.exists()


def test_a_window_that_is_over_or_off_is_no_part_of_what_is_in_force(boss):
    publish(("*", "allow"))
    now = timezone.now()
    long_ago = {"starts_at": now - timedelta(days=2), "ends_at": now - timedelta(days=1)}
    FreezeWindow.objects.create(name="over", reason="", **long_ago)
    FreezeWindow.objects.create(
        name="off", reason="", enabled=False, starts_at=now - timedelta(days=1), ends_at=now + timedelta(days=1)
    )
    assert published.of(published.ids()).freezes == ()


def test_where_no_policy_is_published_start_up_says_so(caplog):
    def found() -> list[str]:
        return [str(one.id) for one in run_checks(databases=["default"]) if str(one.id) == "countersign.W005"]

    with caplog.at_level(logging.ERROR, logger="approvals.policy.startup"):
        assert not say_where_nothing_runs()
    assert "policies.none_published" in caplog.text
    assert found() == ["countersign.W005"]
    publish(("*", "allow"))
    assert say_where_nothing_runs()
    assert found() == []
