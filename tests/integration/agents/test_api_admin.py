"""The back office: what it shows, what it refuses to change, what it records."""

import re

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from unfold.admin import ModelAdmin

from agents.models import Agent, ApiToken, Job, LlmCall, Repository, Step, WorkerProcess
from agents.submit import submit
from agents.tokens import create_token, well_formed
from audit.actor import Actor
from audit.models import Record
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.api import agent, step

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("test_tools")]


@pytest.fixture
def root() -> User:
    publish(("test.*", "allow"))
    return user("root", is_superuser=True, is_staff=True)


@pytest.fixture
def browser(root) -> Client:
    made = Client()
    made.force_login(root)
    return made


@pytest.fixture
def job(root) -> Job:
    return submit({"steps": [step(), step("b", needs=["a"])]}, user=root, now=timezone.now())[0]


def records(before: set) -> list[str]:
    return [event.body for event in Record.objects.exclude(pk__in=before)]


def seen() -> set:
    return set(Record.objects.values_list("pk", flat=True))


def test_every_page_of_ours_stands_on_unfold(browser):
    assert browser.get("/admin/").status_code == 200
    for model in (Agent, Repository, ApiToken, Job, Step, LlmCall, WorkerProcess, User, Group, PeriodicTask):
        assert isinstance(admin.site._registry[model], ModelAdmin), model


@pytest.mark.parametrize(
    "name",
    ["agents_agent", "agents_repository", "agents_apitoken", "agents_job", "agents_step", "agents_llmcall",
     "agents_workerprocess", "auth_user", "auth_group", "django_celery_beat_periodictask",
     "django_celery_beat_intervalschedule", "django_celery_beat_crontabschedule"],
)  # fmt: skip
def test_every_list_and_every_form_opens(browser, root, job, name):
    app, _, model = name.rpartition("_")
    agent()
    assert browser.get(f"/admin/{app}/{model}/").status_code == 200
    add = browser.get(f"/admin/{app}/{model}/add/")
    read_only = name in {"agents_job", "agents_step", "agents_llmcall", "agents_workerprocess"}
    assert add.status_code == (403 if read_only else 200)


def test_a_job_and_its_steps_are_shown_but_cannot_be_changed(browser, job):
    for path in (f"/admin/agents/job/{job.pk}/change/", f"/admin/agents/step/{job.steps.first().pk}/change/"):
        assert browser.get(path).status_code == 200
        assert browser.post(path, {"state": "succeeded"}).status_code == 403
    assert browser.post(f"/admin/agents/job/{job.pk}/delete/", {"post": "yes"}).status_code == 403
    job.refresh_from_db()
    assert job.state == "queued"


def test_cancelling_from_the_list_goes_through_the_service(browser, job):
    before = seen()
    browser.post("/admin/agents/job/", {"action": "cancel_jobs", "_selected_action": [str(job.pk)]})
    job.refresh_from_db()
    assert job.state == "cancelled"
    assert any("job.cancelled" in body for body in records(before))


def test_who_may_only_look_cannot_cancel(job):
    from django.contrib.auth.models import Permission

    looker = user("looker", is_staff=True)
    looker.user_permissions.add(Permission.objects.get(codename="view_job"))
    one = Client()
    one.force_login(looker)
    assert one.get("/admin/agents/job/").status_code == 200
    one.post("/admin/agents/job/", {"action": "cancel_jobs", "_selected_action": [str(job.pk)]})
    job.refresh_from_db()
    assert job.state == "queued"


def test_a_new_token_is_shown_once_and_recorded(browser, root):
    before = seen()
    response = browser.post(
        "/admin/agents/apitoken/add/", {"name": "ci", "user": root.pk, "scopes": ["jobs:read", "jobs:write"]}
    )
    assert response.status_code == 200, response.content
    assert "no-store" in response["Cache-Control"]
    secret = re.search(r"cs_[A-Za-z0-9_-]{49}", response.content.decode())
    assert secret is not None and well_formed(secret[0])
    row = ApiToken.objects.get()
    assert (row.name, row.scopes, row.user) == ("ci", ["jobs:read", "jobs:write"], root)
    assert any("token.created" in body for body in records(before))
    page = browser.get(f"/admin/agents/apitoken/{row.pk}/change/").content.decode()
    assert secret[0] not in page and row.token_sha256 not in page


def test_a_token_without_a_scope_is_not_made(browser, root):
    response = browser.post("/admin/agents/apitoken/add/", {"name": "ci", "user": root.pk})
    assert response.status_code == 200
    assert not ApiToken.objects.exists()


def test_staff_make_tokens_for_themselves_only(root):
    from django.contrib.auth.models import Permission

    staff = user("staff", is_staff=True)
    staff.user_permissions.add(*Permission.objects.filter(codename__in=["add_apitoken", "view_apitoken"]))
    one = Client()
    one.force_login(staff)
    one.post("/admin/agents/apitoken/add/", {"name": "ci", "user": root.pk, "scopes": ["jobs:read"]})
    assert not ApiToken.objects.exists()
    one.post("/admin/agents/apitoken/add/", {"name": "ci", "user": staff.pk, "scopes": ["jobs:read"]})
    assert ApiToken.objects.get().user == staff


def test_tokens_are_revoked_from_the_list(browser, root):
    row, _ = create_token(user=root, name="ci", scopes=["jobs:read"], now=timezone.now(), actor=Actor.system("test"))
    browser.post("/admin/agents/apitoken/", {"action": "revoke", "_selected_action": [str(row.pk)]})
    row.refresh_from_db()
    assert row.revoked_at is not None


def test_a_change_of_an_agent_is_recorded_with_who_and_which_fields(browser, root):
    one, before = agent(), seen()
    sent = {
        "name": one.name,
        "description": "new",
        "instructions": "Work.",
        "tools": "files.*,git.*",
        "model": "",
        "planning": "loop",
        "labels": "{}",
        "max_steps": 10,
        "max_tokens": 1000,
        "enabled": "on",
    }
    response = browser.post(f"/admin/agents/agent/{one.pk}/change/", sent)
    assert response.status_code == 302, response.content
    one.refresh_from_db()
    assert one.tools == ["files.*", "git.*"]
    body = next(body for body in records(before) if "admin.changed" in body)
    assert str(one.pk) in body and f'"{root.pk}"' in body
    assert "new" not in body


def test_a_repository_is_checked_as_over_the_api(browser, root):
    sent = {"name": "x", "url": "http://example.invalid/x", "default_branch": "main", "owner": root.pk}
    assert browser.post("/admin/agents/repository/add/", sent).status_code == 200
    assert not Repository.objects.exists()
    sent["url"] = "https://example.invalid/x"
    assert browser.post("/admin/agents/repository/add/", sent).status_code == 302
    assert Repository.objects.get().owner == root


def test_sharing_a_repository_by_object_permissions_is_recorded(browser, root):
    one = Repository.objects.create(name="x", url="https://example.invalid/x", owner=root)
    bob, before = user("bob"), seen()
    path = f"/admin/agents/repository/{one.pk}/permissions/"
    assert browser.get(path).status_code == 200
    response = browser.post(f"{path}user-manage/{bob.pk}/", {"permissions": ["view_repository"]})
    assert response.status_code == 302
    assert User.objects.get(pk=bob.pk).has_perm("agents.view_repository", one)
    body = next(body for body in records(before) if "admin.changed" in body)
    assert "view_repository" in body


def test_a_new_password_is_recorded_but_never_shown(browser):
    bob, before = user("bob"), seen()
    sent = {"password1": "correct horse battery", "password2": "correct horse battery", "usable_password": "true"}
    assert browser.get(f"/admin/auth/user/{bob.pk}/password/").status_code == 200
    response = browser.post(f"/admin/auth/user/{bob.pk}/password/", sent)
    assert response.status_code == 302
    assert User.objects.get(pk=bob.pk).check_password("correct horse battery")
    bodies = [body for body in records(before) if "admin.changed" in body]
    assert len(bodies) == 1
    assert "horse" not in bodies[0]


def test_nothing_recorded_is_deleted_in_bulk(browser):
    one = agent("spare")
    browser.post(
        "/admin/agents/agent/", {"action": "delete_selected", "_selected_action": [str(one.pk)], "post": "yes"}
    )
    assert Agent.objects.filter(pk=one.pk).exists()
    before = seen()
    browser.post(f"/admin/agents/agent/{one.pk}/delete/", {"post": "yes"})
    assert not Agent.objects.filter(pk=one.pk).exists()
    assert any('"deleted"' in body for body in records(before))


def test_a_schedule_can_be_made(browser):
    every = IntervalSchedule.objects.create(every=1, period="hours")
    sent = {"name": "hourly", "task": "approvals.deliver", "regtask": "", "interval": every.pk, "args": "[]",
            "kwargs": "{}", "headers": "{}", "enabled": "on"}  # fmt: skip
    response = browser.post("/admin/django_celery_beat/periodictask/add/", sent)
    assert response.status_code == 302, response.content
    assert PeriodicTask.objects.filter(name="hourly").exists()


def test_only_the_back_office_may_evaluate_scripts(browser):
    def script_src(path: str) -> str:
        policy = browser.get(path)["Content-Security-Policy"]
        return next(part.strip() for part in policy.split(";") if part.strip().startswith("script-src"))

    assert script_src("/admin/") == "script-src 'self' 'unsafe-eval'"
    assert script_src("/api/v1/me") == "script-src 'self'"
