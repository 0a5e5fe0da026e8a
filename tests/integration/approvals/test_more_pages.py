"""Grants, deputies, emergencies, figures and edits on their pages: what they do, and for whom."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from approvals.models import ApprovalRequest, BreakGlass, Comment, Delegation, Grant, Vote
from approvals.web import figures
from tests.factories import approvals, people, screens

pytestmark = pytest.mark.django_db(transaction=True)


def signed_in(user, **options) -> Client:
    client = Client(**options)
    client.force_login(user)
    return client


def state(request) -> str:
    return ApprovalRequest.objects.values_list("state", flat=True).get(pk=request.pk)


@pytest.fixture
def medium():
    approvals.approvers("grace")
    from tools.spec import Risk

    return screens.shell(screens.policy(), 1, level=Risk.MEDIUM)


def test_what_is_done_with_a_request_is_done_by_a_form_and_by_nobody_else(medium):
    grace = people.user("grace")
    comment = Comment.objects.create(request=medium, user=grace, text="why?", channel="page", at=timezone.now())
    at = medium.get_absolute_url()
    posts = [f"{at}ask/", f"{at}questions/{comment.pk}/", f"{at}take-back/"]
    pages = [f"{at}edit/", f"{at}together/", f"{at}grant/", f"{at}break-glass/"]
    stranger, strict = signed_in(people.user("stranger")), signed_in(grace, enforce_csrf_checks=True)
    for path in posts:
        assert signed_in(grace).get(path).status_code == 405, path
    for path in [*posts, *pages]:
        assert Client().post(path)["Location"].startswith("/accounts/login/"), path
        assert stranger.post(path, {"text": "x", "reason": "x" * 30}).status_code == 404, path
        assert strict.post(path, {"text": "x"}).status_code == 403, path
    for path in pages:
        answer = signed_in(grace).get(path)
        assert (answer["Cache-Control"], answer["Referrer-Policy"]) == ("no-store", "same-origin")
    other = approvals.request()
    moved = f"{other.get_absolute_url()}questions/{comment.pk}/"
    assert signed_in(other.requester).post(moved, {"text": "x"}).status_code == 404, "it is of another request"
    assert (state(medium), Comment.objects.get().state, Vote.objects.count()) == ("pending", "open", 0)


def test_a_grant_is_given_with_the_approval_shown_and_revoked(medium):
    client = signed_in(people.user("grace"))
    path = f"{medium.get_absolute_url()}grant/"
    given = {"pattern:command": "pytest -q tests/*", "minutes": "20", "uses": "3"}
    tried = client.post(path, {**given, "step": "try"}).content.decode()
    assert "would have fitted" in tried and state(medium) == "pending" and not Grant.objects.exists()
    for wrong in ({"minutes": "600"}, {"minutes": "many"}, {"uses": "0"}, {"pattern:command": "rm *"}):
        answer = client.post(path, {**given, **wrong, "step": "give"})
        assert answer.status_code == 400 and 'role="alert"' in answer.content.decode(), wrong
    assert not Grant.objects.exists()
    assert client.post(path, {**given, "step": "give"}).status_code == 303
    grant = Grant.objects.get()
    assert (state(medium), grant.uses_max, grant.matcher) == ("approved", 3, {"command": "pytest -q tests/*"})
    page = client.get("/approvals/grants/").content.decode()
    assert "0 of 3 used" in page and "given by grace" in page
    stranger = signed_in(people.user("stranger"))
    assert "0 of 3 used" not in stranger.get("/approvals/grants/").content.decode()
    stranger.post(f"/approvals/grants/{grant.pk}/revoke/")
    assert Grant.objects.get().revoked_at is None
    assert client.get(f"/approvals/grants/{grant.pk}/revoke/").status_code == 405
    client.post(f"/approvals/grants/{grant.pk}/revoke/")
    assert Grant.objects.get().revoked_by.username == "grace"
    assert "revoked by grace" in client.get("/approvals/grants/").content.decode()


def test_no_grant_is_offered_for_high_risk():
    (grace,) = approvals.approvers("grace")
    request = approvals.request(decision=screens.asking(screens.policy()))
    client = signed_in(grace)
    assert "grant/" not in client.get(request.get_absolute_url()).content.decode()
    answer = client.post(f"{request.get_absolute_url()}grant/", {"step": "give", "minutes": "5", "uses": "1"})
    assert answer.status_code == 403 and "high risk" in answer.content.decode() and state(request) == "pending"


def test_a_deputy_is_named_sees_the_request_and_decides_in_that_place():
    grace, alan = approvals.approvers("grace")[0], people.user("alan")
    request = approvals.request()
    today = timezone.now().date()
    form = {"deputy": "alan", "first_day": str(today), "last_day": str(today + timedelta(days=2)), "reason": "away"}
    client, deputy = signed_in(grace), signed_in(alan)
    assert deputy.get(request.get_absolute_url()).status_code == 404
    for wrong in (
        {"deputy": "nobody"},
        {"deputy": "grace"},
        {"last_day": "2020-01-01"},
        {"first_day": "x"},
        {"last_day": "9999-12-31"},
    ):
        assert client.post("/approvals/deputies/", {**form, **wrong}).status_code == 400, wrong
    assert not Delegation.objects.exists()
    assert client.post("/approvals/deputies/", form).status_code == 303
    assert "decides for" in deputy.get("/approvals/deputies/").content.decode()
    assert request.command in deputy.get("/approvals/").content.decode()
    assert deputy.post(request.get_absolute_url(), {"verdict": "approve"}).status_code == 303
    assert "alan</strong> for grace" in client.get(request.get_absolute_url()).content.decode()
    given = Delegation.objects.get()
    signed_in(people.user("mallory")).post(f"/approvals/deputies/{given.pk}/end/")
    assert Delegation.objects.get().revoked_at is None
    client.post(f"/approvals/deputies/{given.pk}/end/")
    assert Delegation.objects.get().revoked_at is not None


def test_an_emergency_has_a_page_of_its_own_and_somebody_else_reviews_it(settings):
    grace, root = approvals.approvers("grace")[0], people.user("root", is_superuser=True)
    request = approvals.request(quorum=1, group="others")
    people.user("cleo", groups=("others",))
    grace.groups.add(request.approvers)
    path = f"{request.get_absolute_url()}break-glass/"
    client, reviewer = signed_in(grace), signed_in(root)
    assert client.post(path, {"reason": "The shop is down, all of it."}).status_code == 403
    grace.user_permissions.add(Permission.objects.get(codename="break_the_glass"))
    client = signed_in(type(grace).objects.get(pk=grace.pk))
    assert "break-glass" in client.get(request.get_absolute_url()).content.decode()
    short = client.post(path, {"reason": "short"})
    assert short.status_code == 400 and "At least 20 characters" in short.content.decode()
    settings.STEP_UP = True
    assert "second factor" in client.get(path).content.decode()
    assert client.post(path, {"reason": "The shop is down, all of it."}).status_code == 403
    settings.STEP_UP = False
    assert client.post(path, {"reason": "The shop is down, all of it."}).status_code == 303
    assert state(request) == "approved"
    glass = BreakGlass.objects.get()
    assert "The shop is down" in reviewer.get("/approvals/reviews/").content.decode()
    own = {"verdict": "justified", "words": "I say so."}
    client.post(f"/approvals/reviews/{glass.pk}/", own)
    assert BreakGlass.objects.get().verdict == "open"
    reviewer.post(f"/approvals/reviews/{glass.pk}/", {"verdict": "unjustified", "words": "It could wait."})
    assert BreakGlass.objects.get().verdict == "unjustified"
    assert "It could wait." in client.get(request.get_absolute_url()).content.decode()


def test_an_edit_that_is_none_says_why_and_keeps_what_was_written():
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    path = f"{request.get_absolute_url()}edit/"
    client = signed_in(grace)
    same = client.post(path, {"argument:branch": "main", "argument:remote": "origin", "step": "check"})
    assert same.status_code == 400 and "the arguments that it has" in same.content.decode()
    broken = client.post(f"{path}?json", {"arguments": "{oops", "json": "1", "step": "check"})
    assert broken.status_code == 400 and "not JSON" in broken.content.decode()
    assert "{oops" in broken.content.decode(), "what was written stays"
    deep = client.post(path, {"arguments": "[" * 100_000, "step": "save"})
    assert deep.status_code == 400 and "nested too deeply" in deep.content.decode()
    for unkept in ('{"branch": NaN}', '{"branch": "\\ud800"}'):
        answer = client.post(f"{path}?json", {"arguments": unkept, "json": "1", "step": "check"})
        assert answer.status_code == 400 and "not JSON" in answer.content.decode()
    listed = client.post(path, {"arguments": "[1]", "step": "save"})
    assert listed.status_code == 400 and "JSON object" in listed.content.decode()
    shown = client.post(path, {"argument:branch": "ma\u202ein", "argument:remote": "origin", "step": "check"})
    page = shown.content.decode()
    assert '<span class="diff-del">-main</span>' in page and "⟦U+202E⟧" in page
    saved = client.post(path, {"arguments": '{"branch": "x"}', "step": "save"})
    assert saved.status_code == 400, "nothing here can be edited: no step waits for it"
    assert state(request) == "pending"
    denied = signed_in(people.user("noa", groups=("approvers",)))
    client.post(request.get_absolute_url(), {"verdict": "approve"})
    assert denied.get(path).status_code == 403


def test_figures_of_rules_count_what_people_did():
    (grace,) = approvals.approvers("grace")
    now = timezone.now()
    for number, (to, took) in enumerate([("approved", 2)] * 11 + [("denied", 400), ("expired", 3600), ("pending", 0)]):
        one = approvals.request(title=f"request {number}")
        created = now - timedelta(days=1)
        decided = None if to == "pending" else created + timedelta(seconds=took)
        ApprovalRequest.objects.filter(pk=one.pk).update(state=to, created_at=created, decided_at=decided)
    (found,) = figures.figures(grace, now)
    assert (found.asked, found.approve_rate, found.median) == (14, 92, "2 s")
    assert [(name, number) for name, number, _, _ in found.shares] == [("approved", 11), ("denied", 1), ("expired", 1)]
    assert [bar.number for bar in found.bars] == [11, 0, 0, 1, 0, 0, 0]
    assert found.advice == ""
    ApprovalRequest.objects.filter(state="denied").update(state="approved")
    (found,) = figures.figures(grace, now)
    assert "does the rule need to ask" in found.advice
    assert figures.figures(people.user("stranger"), now) == []
    page = signed_in(grace).get("/approvals/rules/").content.decode()
    assert "<svg" in page and "style=" not in page
