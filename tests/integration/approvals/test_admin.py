"""The admin: drafts are edited, everything else is looked at or goes through the services."""

from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from approvals.models import ApprovalRequest, Policy, PolicyRule, PolicyVersion, Vote
from approvals.policy import versions
from tests.factories import approvals, people
from tests.factories.log import events

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(people.user("root", is_staff=True, is_superuser=True))
    return client


def staff(name: str, *codes: str, groups: tuple[str, ...] = ()) -> Client:
    user = people.user(name, is_staff=True, groups=groups)
    user.user_permissions.set(Permission.objects.filter(codename__in=codes, content_type__app_label="approvals"))
    client = Client()
    client.force_login(User.objects.get(pk=user.pk))
    return client


def change(row: Any) -> str:
    return reverse(f"admin:approvals_{row._meta.model_name}_change", args=[row.pk])


def act(client: Client, row: Any, name: str, **data: str) -> Any:
    path = reverse(f"admin:approvals_{row._meta.model_name}_{name}", args=[row.pk])
    return client.post(path, {"_form_submitted": "on", **data})


def looked_at(client: Client, row: Any, name: str) -> int:
    return client.get(reverse(f"admin:approvals_{row._meta.model_name}_{name}", args=[row.pk])).status_code


def draft() -> PolicyVersion:
    policy = Policy.objects.create(name="house")
    version = versions.new_draft(policy, by=None)
    PolicyRule.objects.create(version=version, order=1, name="one", tools=["git.*"], effect="allow")
    PolicyRule.objects.create(version=version, order=2, name="two", tools=["*"], effect="deny")
    return version


def form_of(version: PolicyVersion, **changes: str) -> dict[str, str]:
    """What the browser would post for this version, with changes."""
    return {"notes": version.notes} | changes


@pytest.mark.parametrize("model", ["policy", "policyversion", "approvalrequest", "vote", "notification"])
def test_every_list_and_page_opens(admin, model):
    (grace,) = approvals.approvers("grace")
    request = approvals.request(command="<script>x</script>\u202e")
    Vote.objects.create(request=request, user=grace, verdict="approve", channel="page", at=timezone.now())
    versions.publish(draft().pk, by=None, now=timezone.now())
    answer = admin.get(reverse(f"admin:approvals_{model}_changelist"))
    assert answer.status_code == 200
    row = answer.context["cl"].queryset.first()
    page = admin.get(change(row))
    assert page.status_code == 200
    assert "<script>x" not in page.content.decode()
    assert admin.get(reverse(f"admin:approvals_{model}_changelist"), {"q": "x"}).status_code == 200


def test_a_drafts_notes_are_edited_and_the_edit_recorded(admin):
    version = draft()
    assert admin.post(change(version), form_of(version, notes="narrower")).status_code == 302
    version.refresh_from_db()
    assert version.notes == "narrower"
    assert events(version.pk, prefix="admin.changed") == [("admin.changed", "ok")]


def test_published_versions_are_shown_and_never_edited(admin):
    version = versions.publish(draft().pk, by=None, now=timezone.now())
    assert admin.get(change(version)).status_code == 200
    assert admin.post(change(version), form_of(version, **{"notes": "x"})).status_code == 403
    assert (
        admin.post(reverse("admin:approvals_policyversion_delete", args=[version.pk]), {"post": "yes"}).status_code
        == 403
    )
    version.refresh_from_db()
    assert version.notes == ""


def test_publishing_is_a_post_by_the_service_and_says_what_is_wrong(admin):
    version = draft()
    assert looked_at(admin, version, "publish") == 200
    version.refresh_from_db()
    assert version.status == "draft"
    assert act(admin, version, "publish").status_code == 302
    version.refresh_from_db()
    assert (version.status, version.published_by.username) == ("published", "root")
    assert ("policy.published", "ok") in events(version.pk)
    bad = versions.new_draft(version.policy, source=version, by=None)
    group = Group.objects.create(name="empty")
    bad.rules.filter(name="one").update(effect="ask", approvers=group)
    act(admin, bad, "publish")
    assert "nobody active" in admin.get(change(bad)).content.decode()
    bad.refresh_from_db()
    assert bad.status == "draft"


def test_a_new_draft_is_a_copy_and_changes_nothing(admin):
    version = versions.publish(draft().pk, by=None, now=timezone.now())
    for row, name in ((version, "new_draft"), (version.policy, "new_draft")):
        assert looked_at(admin, row, name) == 200
    assert PolicyVersion.objects.count() == 1
    answer = act(admin, version, "new_draft")
    made = PolicyVersion.objects.get(number=2)
    assert answer["Location"] == change(made)
    assert (made.status, made.rules.count(), made.created_by.username) == ("draft", 2, "root")
    act(admin, version.policy, "new_draft")
    assert PolicyVersion.objects.get(number=3).rules.count() == 2


def test_retiring_leaves_nothing_in_force(admin):
    version = versions.publish(draft().pk, by=None, now=timezone.now())
    act(admin, version, "retire")
    version.refresh_from_db()
    assert version.status == "retired"


def test_publishing_needs_its_permission():
    version = draft()
    editor = staff("editor", "view_policyversion", "change_policyversion", "view_policyrule", "change_policyrule")
    assert editor.get(change(version)).status_code == 200
    assert act(editor, version, "publish").status_code == 403
    publisher = staff("publisher", "view_policyversion", "publish_policyversion")
    assert publisher.post(change(version), form_of(version)).status_code == 403
    assert act(publisher, version, "publish").status_code == 302
    version.refresh_from_db()
    assert version.status == "published"


def test_a_policy_that_was_published_keeps_its_name(admin):
    version = versions.publish(draft().pk, by=None, now=timezone.now())
    inline = {f"versions-{name}": "0" for name in ("TOTAL_FORMS", "INITIAL_FORMS", "MIN_NUM_FORMS", "MAX_NUM_FORMS")}
    answer = admin.post(change(version.policy), {"name": "other", "description": "new words", **inline})
    assert answer.status_code == 302
    version.policy.refresh_from_db()
    assert (version.policy.name, version.policy.description) == ("house", "new words")


def test_requests_are_decided_by_the_one_function_and_never_by_looking():
    request = approvals.request()
    grace = staff("grace", "view_approvalrequest", groups=("approvers",))
    assert looked_at(grace, request, "approve") == 200
    assert not Vote.objects.exists()
    assert act(grace, request, "approve").status_code == 302
    request.refresh_from_db()
    assert request.state == "approved"
    assert Vote.objects.get().channel == "admin"


def test_denying_in_the_admin_needs_a_reason():
    request = approvals.request()
    grace = staff("grace", "view_approvalrequest", groups=("approvers",))
    assert act(grace, request, "deny").status_code == 200  # the dialog again, with its error
    request.refresh_from_db()
    assert request.state == "pending"
    act(grace, request, "deny", reason="red")
    request.refresh_from_db()
    assert (request.state, request.answer) == ("denied", "red")


def test_a_superuser_does_not_decide_their_own_in_the_admin(admin):
    root = people.user("root", groups=("approvers",))
    request = approvals.request(requester=root)
    assert act(admin, request, "approve").status_code == 403
    request.refresh_from_db()
    assert request.state == "pending"


def test_requests_cannot_be_edited_added_or_deleted(admin):
    request = approvals.request()
    assert admin.post(change(request), {"state": "approved"}).status_code == 403
    assert admin.get(reverse("admin:approvals_approvalrequest_add")).status_code == 403
    assert admin.get(reverse("admin:approvals_approvalrequest_delete", args=[request.pk])).status_code == 403
    assert ApprovalRequest.objects.get().state == "pending"


def test_a_draft_is_deleted_one_by_one_and_that_is_recorded(admin):
    version = draft()
    assert (
        admin.post(reverse("admin:approvals_policyversion_delete", args=[version.pk]), {"post": "yes"}).status_code
        == 302
    )
    assert not PolicyVersion.objects.exists()
    assert events(version.pk, prefix="admin.changed") == [("admin.changed", "ok")]


@pytest.mark.parametrize(
    "path",
    [
        "approvalrequest/garbage/change/",
        "approvalrequest/garbage/approve/",
        "policyversion/garbage/publish/",
        "policyversion/garbage/new_draft/",
        "policy/garbage/new_draft/",
    ],
)
def test_an_address_that_names_nothing_is_no_fault(path):
    client = Client()
    client.force_login(people.user("root", is_staff=True, is_superuser=True))
    for ask in (client.get, client.post):
        assert ask(f"/admin/approvals/{path}").status_code in {302, 403, 404}
