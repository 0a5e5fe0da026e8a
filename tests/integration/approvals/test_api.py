"""Requests by REST."""

from types import SimpleNamespace
from uuid import uuid4

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from approvals.decisions import decide
from approvals.models import ApprovalRequest, Vote
from audit.models import Record
from tests.factories import approvals, people

pytestmark = pytest.mark.django_db

LIST = "/api/v1/approvals"


def client(user, *scopes: str) -> APIClient:
    """A session, or with scopes a token of them."""
    made = APIClient()
    made.force_authenticate(user, token=SimpleNamespace(scopes=list(scopes)) if scopes else None)
    return made


def address(request: ApprovalRequest, action: str = "") -> str:
    return f"{LIST}/{request.pk}" + (f"/{action}" if action else "")


def test_a_request_is_read_with_its_exact_call_and_reading_decides_nothing():
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    before = Record.objects.count()
    api = client(grace, "approvals:read")
    for _ in range(3):
        body = api.get(address(request)).json()
        assert api.head(address(request)).status_code == 200
    assert body["call"]["arguments"] == {"remote": "origin", "branch": "main"}
    assert (body["digest"], body["command"], body["rule"]) == (request.digest, request.command, "git-push")
    assert (body["may_decide"], body["why_not"], body["votes"]) == (True, "", [])
    assert body["page"].endswith(request.get_absolute_url())
    assert body["url"].endswith(address(request))
    assert Record.objects.count() == before


def test_the_list_is_filtered_and_paged():
    (grace,) = approvals.approvers("grace")
    made = [approvals.request() for _ in range(3)]
    decide(request_id=made[0].pk, by=grace, verdict="approve", reason="", channel="page", now=timezone.now())
    api = client(grace)

    def ids(query: str = "") -> set[str]:
        return {one["id"] for one in api.get(f"{LIST}{query}").json()["results"]}

    assert ids() == {str(one.pk) for one in made}
    assert ids("?state=approved") == {str(made[0].pk)}
    assert ids("?state=approved&state=pending") == {str(one.pk) for one in made}
    assert ids(f"?parent={made[1].parent_id}") == {str(made[1].pk)}
    assert ids("?needs=me") == {str(one.pk) for one in made[1:]}
    first = api.get(f"{LIST}?limit=2").json()
    second = api.get(first["next"]).json()
    assert [len(page["results"]) for page in (first, second)] == [2, 1]
    assert second["next"] is None


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=open", "state"),
        ("nothing=1", "nothing"),
        ("limit=0", "limit"),
        ("cursor=x", "cursor"),
        ("needs=you", "needs"),
    ],
)
def test_a_wrong_query_is_a_problem_that_names_the_field(query, field):
    (grace,) = approvals.approvers("grace")
    answer = client(grace).get(f"{LIST}?{query}")
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    assert answer.json()["errors"][0]["field"] == field


def test_approve_and_deny_call_the_one_decision_function():
    (grace,) = approvals.approvers("grace")
    first, second = approvals.request(), approvals.request()
    api = client(grace, "approvals:decide")
    answer = api.post(address(first, "approve"))
    assert (answer.status_code, answer.json()["state"]) == (200, "approved")
    assert answer.json()["votes"][0] | {"at": None} == {
        "user": "grace",
        "verdict": "approve",
        "reason": "",
        "channel": "api",
        "at": None,
        "on_behalf_of": None,
        "withdrawn_at": None,
    }
    answer = api.post(address(second, "deny"), {"reason": "red tests"})
    assert (answer.json()["state"], answer.json()["answer"]) == ("denied", "red tests")


def test_an_answer_to_a_question():
    ada = people.user("ada")
    question = approvals.question(requester=ada)
    answer = client(ada).post(address(question, "answer"), {"answer": "main"})
    assert (answer.status_code, answer.json()["answer"]) == (200, "main")
    assert client(ada).post(address(approvals.question(requester=ada), "approve")).status_code == 409


def test_a_token_needs_the_scope():
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    assert client(grace, "approvals:read").post(address(request, "approve")).status_code == 403
    assert client(grace, "jobs:read").get(LIST).status_code == 403
    assert client(grace, "approvals:decide").get(address(request)).status_code == 403
    assert APIClient().get(LIST).status_code == 401
    assert not Vote.objects.exists()


def test_a_session_needs_a_csrf_token_to_decide():
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    api = APIClient(enforce_csrf_checks=True)
    api.force_login(grace)
    assert api.get(address(request)).status_code == 200
    assert api.post(address(request, "approve")).status_code == 403
    assert not Vote.objects.exists()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "reason"),
        ({"reason": ""}, "reason"),
        ({"reason": "   "}, "reason"),
        ({"reason": 7}, "reason"),
        ({"reason": None}, "reason"),
        ({"reason": "x" * 4001}, "reason"),
        ({"reason": "a\u0000b"}, "reason"),
        ({"reason": "ok", "verdict": "approve"}, "verdict"),
    ],
)
def test_a_bad_denial_is_a_problem_that_names_the_field(body, field):
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    answer = client(grace).post(address(request, "deny"), body)
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    assert field in {error["field"] for error in answer.json()["errors"]}
    assert not Vote.objects.exists()


@pytest.mark.parametrize("body", [[], "approve", 1, None])
def test_a_body_that_is_no_object_is_refused(body):
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    assert client(grace).post(address(request, "deny"), body, format="json").status_code == 400
    assert not Vote.objects.exists()


def test_refusals_are_problems_with_stable_codes():
    grace, ada = approvals.approvers("grace", "ada")
    request = approvals.request(requester=ada)
    answer = client(ada).post(address(request, "approve"))
    assert (answer.status_code, answer.json()["code"]) == (403, "not_eligible")
    assert "Nobody approves their own" in answer.json()["detail"]
    client(grace).post(address(request, "approve"))
    answer = client(grace).post(address(request, "deny"), {"reason": "late"})
    assert (answer.status_code, answer.json()["code"]) == (409, "already_decided")
    for user, path in ((people.user("stranger"), address(request)), (grace, f"{LIST}/{uuid4()}")):
        answer = client(user).get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    answer = client(people.user("stranger")).post(address(request, "approve"))
    assert answer.status_code == 404


def test_the_openapi_document_declares_every_operation():
    answer = APIClient().get("/api/schema?format=json")
    operations = {
        operation["operationId"]
        for path, methods in answer.json()["paths"].items()
        if "/approvals" in path
        for operation in methods.values()
    }
    assert operations >= {
        "list_approvals",
        "get_approval",
        "approve_approval",
        "deny_approval",
        "answer_approval",
        "edit_approval",
        "ask_about_approval",
        "answer_comment",
        "take_back_approval",
        "break_glass",
        "list_alike_approvals",
        "decide_alike_approvals",
        "propose_grant",
        "give_grant",
    }
