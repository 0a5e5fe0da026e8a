"""Who may read the log, and what they see: API, admin; and what Django's own doings leave in it."""

import json
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.auth.signals import user_login_failed
from django.db import transaction
from django.test import Client
from rest_framework.permissions import IsAuthenticated
from rest_framework.test import APIRequestFactory, force_authenticate

from audit import erase
from audit.actor import Actor, Target
from audit.api import views
from audit.api.permissions import AUDITORS, HasScope
from audit.kinds import Event
from audit.models import Record
from audit.selectors import about, records
from tests.integration.audit.conftest import Log, write_one

pytestmark = pytest.mark.django_db


def _get(view: Any, user: User | None, query: str = "", token: Any = None, **kwargs: Any) -> Any:
    request = APIRequestFactory().get(f"/?{query}")
    if user is not None:
        force_authenticate(request, user=user, token=token)
    response = view.as_view()(request, **kwargs)
    return response.render()


def _list(user: User, query: str = "") -> list[dict[str, Any]]:
    response = _get(views.RecordList, user, query)
    assert response.status_code == 200, response.content
    return list(json.loads(response.content)["results"])


@pytest.fixture
def staff() -> User:
    made = User.objects.create_user("staff", is_staff=True)
    made.user_permissions.add(Permission.objects.get(content_type__app_label="audit", codename="view_record"))
    return made


@pytest.fixture
def written() -> None:
    """A few records in the test's own transaction."""
    with transaction.atomic():
        for number in range(5):
            write_one(str(number))
        write_one("step", target=Target(type="step", id="s1"), actor=Actor.agent("planner", on_behalf_of=7))


# who


def test_who_has_the_permission_and_auditors_may_read_and_nobody_else(staff: User, written: None):
    nobody = User.objects.create_user("nobody")
    clerk = User.objects.create_user("clerk", is_staff=True)
    auditor = User.objects.create_user("auditor")
    auditor.groups.add(Group.objects.create(name=AUDITORS))
    for view, kwargs in (
        (views.RecordList, {}),
        (views.Status, {}),
        (views.RecordDetail, {"record_id": Record.objects.first().pk}),
    ):
        assert _get(view, staff, **kwargs).status_code == 200
        assert _get(view, auditor, **kwargs).status_code == 200
        assert _get(view, nobody, **kwargs).status_code == 403
        assert _get(view, clerk, **kwargs).status_code == 403, "the log holds what jobs of others said and did"
        assert _get(view, None, **kwargs).status_code in {401, 403}


def test_a_token_needs_the_scope(staff: User, written: None):
    assert _get(views.RecordList, staff, token=SimpleNamespace(scopes=["jobs:read"])).status_code == 403
    assert _get(views.RecordList, staff, token=SimpleNamespace(scopes=["audit:read"])).status_code == 200
    assert _get(views.RecordList, staff, token=SimpleNamespace()).status_code == 403


def test_a_scope_is_no_login():
    permission = HasScope("jobs:read")
    assert permission is HasScope("jobs:read")
    assert permission().has_permission(SimpleNamespace(auth=None), None)  # type: ignore[arg-type]
    assert IsAuthenticated in views.AuditView.permission_classes


def test_nothing_can_be_written(staff: User):
    for method in ("post", "put", "patch", "delete"):
        request = getattr(APIRequestFactory(), method)("/", {})
        force_authenticate(request, user=staff)
        assert views.RecordList.as_view()(request).status_code == 405


# what


def test_records_come_newest_first_by_pages(staff: User, written: None):
    assert [entry["event"] for entry in _list(staff)][-1] == "key.add"
    first = json.loads(_get(views.RecordList, staff, "limit=4").content)
    assert len(first["results"]) == 4
    cursor = first["next"].partition("?")[2]
    second = json.loads(_get(views.RecordList, staff, cursor).content)
    ids = [entry["id"] for entry in first["results"] + second["results"]]
    assert ids == sorted(set(ids), reverse=True)
    assert len(ids) == 7


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("event=job.submitted", 6),
        ("target=job-3", 1),
        ("target_type=step", 1),
        ("actor=planner", 1),
        ("actor_type=user", 5),
        ("outcome=refused", 0),
        ("after=2020-01-01T00:00:00Z", 7),
        ("before=2020-01-01T00:00:00Z", 0),
        ("event=job.submitted&actor_type=agent", 1),
    ],
)
def test_records_are_found_by_what_they_say(staff: User, written: None, query: str, count: int):
    assert len(_list(staff, query)) == count


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "cursor=x", "after=yesterday", "colour=red", "event="])
def test_a_malformed_query_is_refused(staff: User, written: None, query: str):
    assert _get(views.RecordList, staff, query).status_code == 400


def test_one_record_has_its_values_and_its_proof(staff: User, written: None):
    record = Record.objects.get(target_id="job-3")
    shown = json.loads(_get(views.RecordDetail, staff, record_id=record.pk).content)
    assert shown["payload"] == {"arguments": {"argv": ["true", "3"], "ratio": 0.5}}
    assert shown["context"] == {"number": "3"}
    assert shown["actor"] == {"type": "user", "id": "7", "on_behalf_of": None}
    assert (shown["body"], shown["kid"], shown["index"]) == (record.body, record.kid, None)
    with transaction.atomic():
        erase.erase(record.pk, actor=Actor.user(1))
    shown = json.loads(_get(views.RecordDetail, staff, record_id=record.pk).content)
    assert shown["payload"] == {"arguments": None}
    assert _get(views.RecordDetail, staff, record_id=uuid4()).status_code == 404


def test_a_record_says_its_place_once_it_has_one(log: Log):
    (identifier,) = log.write()
    assert records().get(pk=identifier).index is None
    log.settle()
    assert records().get(pk=identifier).index == log.index_of(identifier)


def test_records_about_something_come_in_the_order_of_time(written: None):
    assert [record.target_id for record in about(["job-2", "job-4"])] == ["job-2", "job-4"]


# the admin


@pytest.fixture
def admin(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root", password="of tests"))
    return client


def test_the_admin_shows_records_readably_and_escaped(admin: Client, log: Log):
    (identifier,) = log.write(payload={"reason": "<script>alert(1)</script>"})
    log.settle()
    listing = admin.get("/admin/audit/record/").content.decode()
    assert "job.submitted" in listing
    assert "The log is being signed." in listing
    page = admin.get(f"/admin/audit/record/{identifier}/change/").content.decode()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page
    assert admin.get("/admin/audit/record/?event=job.submitted").status_code == 200
    assert admin.get(f"/admin/audit/record/?q={identifier}").status_code == 200
    assert admin.get("/admin/audit/checkpoint/").status_code == 200
    checkpoint = admin.get("/admin/audit/checkpoint/1/change/").content.decode()
    assert "countersign.local/audit" in checkpoint


def test_the_admin_changes_nothing(admin: Client, written: None):
    record = Record.objects.first()
    assert admin.get("/admin/audit/record/add/").status_code == 403
    assert admin.post(f"/admin/audit/record/{record.pk}/change/", {"event": "x"}).status_code == 403
    assert admin.post(f"/admin/audit/record/{record.pk}/delete/", {"post": "yes"}).status_code == 403


def test_staff_without_the_permission_do_not_see_records(client: Client, written: None):
    client.force_login(User.objects.create_user("clerk", is_staff=True))
    assert client.get("/admin/audit/record/").status_code == 403


# what Django does


def _only(event: Event) -> Record:
    return Record.objects.get(event=event)


def test_signing_in_and_out_is_recorded(client: Client):
    user = User.objects.create_user("ada", password="of tests")
    assert client.login(username="ada", password="of tests")
    client.logout()
    for event in (Event.AUTH_SIGNED_IN, Event.AUTH_SIGNED_OUT):
        record = _only(event)
        assert (record.actor_type, record.actor_id, record.target_id) == ("user", str(user.pk), str(user.pk))
        assert "ada" not in record.body


@pytest.mark.parametrize("name", ["nul\0", "\ud800", "x" * 5000, None])
def test_whatever_name_was_typed_can_be_recorded(name: str | None):
    user_login_failed.send(sender=__name__, credentials={"username": name}, request=None)
    assert _only(Event.AUTH_FAILED).target_id == "unknown"


@pytest.mark.parametrize("name", ["ada", "nobody"])
def test_failing_to_sign_in_is_recorded_and_the_name_can_be_erased(client: Client, name: str):
    user = User.objects.create_user("ada", password="of tests")
    assert not client.login(username=name, password="wrong")
    record = _only(Event.AUTH_FAILED)
    assert (record.outcome, record.target_id) == ("refused", str(user.pk) if name == "ada" else "unknown")
    assert "wrong" not in record.body
    assert {part.slot for part in record.payloads.all()} >= {"name"}
    assert not any("wrong" in (part.value or "") for part in record.payloads.all())


def test_what_is_changed_in_the_admin_is_recorded(admin: Client):
    group = {"name": "operators", "permissions": []}
    assert admin.post("/admin/auth/group/add/", group).status_code == 302
    made = Group.objects.get(name="operators")
    assert admin.post(f"/admin/auth/group/{made.pk}/change/", {**group, "name": "approvers"}).status_code == 302
    assert admin.post(f"/admin/auth/group/{made.pk}/delete/", {"post": "yes"}).status_code == 302
    found = [
        json.loads(record.body) for record in Record.objects.filter(event=Event.ADMIN_CHANGED).order_by("created_at")
    ]
    assert [body["context"]["action"] for body in found] == ["added", "changed", "deleted"]
    assert {body["target"]["type"] for body in found} == {"auth.group"}
    assert {body["target"]["id"] for body in found} == {str(made.pk)}


def test_rows_cannot_be_deleted_in_bulk_past_the_log(admin: Client):
    groups = [Group.objects.create(name=name) for name in ("one", "two")]
    answer = admin.post(
        "/admin/auth/group/",
        {"action": "delete_selected", "_selected_action": [group.pk for group in groups], "post": "yes"},
    )
    assert answer.status_code in {200, 302}
    assert Group.objects.count() == 2
