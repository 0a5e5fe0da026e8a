"""Who may edit people in the back office does not thereby get more than they have; what is given is recorded."""

import json

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from agents.models import Repository
from audit.models import Record
from tests.factories.people import user

pytestmark = pytest.mark.django_db


@pytest.fixture
def approvers() -> Group:
    return Group.objects.create(name="approvers")


@pytest.fixture
def helper(approvers) -> User:
    """Staff with every permission over users and groups, and nothing else."""
    made = user("helper", is_staff=True)
    made.user_permissions.add(*Permission.objects.filter(content_type__app_label="auth"))
    return made


def browser(person: User) -> Client:
    made = Client()
    made.force_login(person)
    return made


def form_of(person: User, **changes: object) -> dict[str, object]:
    return {"username": person.username, "email": person.email, "is_active": "on", "date_joined_0": "2026-01-01",
            "date_joined_1": "00:00:00", **changes}  # fmt: skip


def powers() -> list[dict]:
    bodies = [json.loads(one.body) for one in Record.objects.filter(event="admin.changed")]
    return [body for body in bodies if body["context"].get("action") == "powers"]


def test_staff_who_edit_users_make_nobody_an_approver(helper, approvers):
    bob = user("bob")
    everything = {"is_staff": "on", "is_superuser": "on", "groups": [approvers.pk],
                  "user_permissions": [Permission.objects.get(codename="publish_policyversion").pk]}  # fmt: skip
    for person in (bob, helper):
        browser(helper).post(f"/admin/auth/user/{person.pk}/change/", form_of(person, **everything))
        person = User.objects.get(pk=person.pk)
        assert not person.is_superuser
        assert not person.groups.exists()
        assert not person.user_permissions.filter(codename="publish_policyversion").exists()
    assert not User.objects.get(pk=bob.pk).is_staff


def test_staff_who_edit_users_take_over_nobody_who_holds_power(helper, approvers):
    approver = user("approver", groups=("approvers",))
    root = user("root", is_superuser=True, is_staff=True)
    sent = {"password1": "correct horse battery", "password2": "correct horse battery", "usable_password": "true"}
    for person in (approver, root):
        assert browser(helper).post(f"/admin/auth/user/{person.pk}/password/", sent).status_code == 403
        assert browser(helper).post(f"/admin/auth/user/{person.pk}/change/", form_of(person, email="x@y.example")).status_code == 403  # fmt: skip
        assert browser(helper).post(f"/admin/auth/user/{person.pk}/delete/", {"post": "yes"}).status_code == 403
        assert not User.objects.get(pk=person.pk).check_password("correct horse battery")


def test_staff_who_edit_users_still_help_those_without_power(helper):
    bob = user("bob")
    assert browser(helper).post(f"/admin/auth/user/{bob.pk}/change/", form_of(bob, first_name="Bob")).status_code == 302
    assert User.objects.get(pk=bob.pk).first_name == "Bob"


def test_staff_who_edit_groups_give_them_no_permission(helper, approvers):
    sent = {"name": "renamed", "permissions": [Permission.objects.get(codename="publish_policyversion").pk]}
    assert browser(helper).post(f"/admin/auth/group/{approvers.pk}/change/", sent).status_code == 302
    approvers.refresh_from_db()
    assert approvers.name == "renamed"
    assert not approvers.permissions.exists()


def test_making_somebody_an_approver_is_recorded_with_the_group(approvers):
    root, bob = user("root", is_superuser=True, is_staff=True), user("bob")
    browser(root).post(f"/admin/auth/user/{bob.pk}/change/", form_of(bob, groups=[approvers.pk], is_staff="on"))
    assert bob.groups.get() == approvers
    browser(root).post(f"/admin/auth/user/{bob.pk}/change/", form_of(bob, is_staff="on"))
    given, taken = powers()[::-1] if powers()[0]["context"]["taken"] else powers()
    group = f"group:{approvers.pk}:approvers"
    assert given["actor"]["id"] == str(root.pk)
    assert given["target"] == {"type": "auth.user", "id": str(bob.pk)}
    assert (given["context"]["given"], given["context"]["taken"]) == ([group, "is_staff"], [])
    assert (taken["context"]["given"], taken["context"]["taken"]) == ([], [group])


def test_what_a_group_may_do_is_recorded(approvers):
    root = user("root", is_superuser=True, is_staff=True)
    permission = Permission.objects.get(codename="publish_policyversion")
    sent = {"name": "approvers", "permissions": [permission.pk]}
    browser(root).post(f"/admin/auth/group/{approvers.pk}/change/", sent)
    (body,) = powers()
    assert body["target"] == {"type": "auth.group", "id": str(approvers.pk)}
    assert body["context"]["given"] == ["permission:approvals.publish_policyversion"]


def test_a_refused_sharing_is_not_recorded_as_one(helper):
    one = Repository.objects.create(name="x", url="https://example.invalid/x", owner=user("root"))
    before = Record.objects.filter(event="admin.changed").count()
    path = f"/admin/agents/repository/{one.pk}/permissions/user-manage/{helper.pk}/"
    browser(helper).post(path, {"permissions": ["view_repository"]})
    assert not User.objects.get(pk=helper.pk).has_perm("agents.view_repository", one)
    assert Record.objects.filter(event="admin.changed").count() == before


def test_schedules_are_changed_one_by_one_where_it_is_recorded():
    root = user("root", is_superuser=True, is_staff=True)
    every = IntervalSchedule.objects.create(every=1, period="hours")
    task = PeriodicTask.objects.create(name="hourly", task="approvals.deliver", interval=every)
    path = "/admin/django_celery_beat/periodictask/"
    browser(root).post(path, {"action": "disable_tasks", "_selected_action": [str(task.pk)]})
    task.refresh_from_db()
    assert task.enabled
