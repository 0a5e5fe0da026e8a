"""API tokens: what they open, how they end, and that this is recorded."""

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from agents.errors import InvalidInput
from agents.models import ApiToken
from agents.tokens import create_token, new_secret, revoke_token, sha256
from audit.actor import Actor
from audit.models import Record
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.api import JOBS, client, problem, step

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("test_tools")]
ROOT = Actor.system("test")


def bearer(secret: str) -> APIClient:
    made = APIClient()
    made.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return made


def token(
    *scopes: str, owner: User | None = None, now: datetime | None = None, expires_at: datetime | None = None
) -> tuple[ApiToken, str]:
    return create_token(
        user=owner or user("ada"),
        name="ci",
        scopes=scopes or ["jobs:read"],
        now=now or timezone.now(),
        actor=ROOT,
        expires_at=expires_at,
    )


def test_a_token_opens_what_its_user_may_see():
    publish(("test.*", "allow"))
    _, secret = token("jobs:read", "jobs:write")
    made = bearer(secret).post(JOBS, {"steps": [step()]})
    assert made.status_code == 201
    assert bearer(secret).get(made.json()["url"]).status_code == 200
    _, other = token("jobs:read", owner=user("bob"))
    problem(bearer(other).get(made.json()["url"]), 404, "not_found")


def test_only_its_hash_is_kept():
    row, secret = token()
    assert row.token_sha256 == sha256(secret)
    stored = {str(value) for value in ApiToken.objects.filter(pk=row.pk).values().get().values()}
    assert not any(secret in value for value in stored)


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [("jobs:read", {"GET"}), ("jobs:write", {"POST"}), ("approvals:decide", set()), ("audit:read", set())],
)
def test_a_token_does_what_its_scopes_say_and_no_more(scope, allowed):
    publish(("test.*", "allow"))
    one = bearer(token(scope)[1])
    for method, response in (("GET", one.get(JOBS)), ("POST", one.post(JOBS, {"steps": [step()]}))):
        if method in allowed:
            assert response.status_code in {200, 201}
        else:
            assert response.status_code == 403
            assert response["Content-Type"] == "application/problem+json"


def test_any_token_may_ask_who_it_is():
    body = bearer(token("approvals:decide")[1]).get("/api/v1/me").json()
    assert body["token"]["scopes"] == ["approvals:decide"]


def test_a_superusers_token_is_held_to_its_scopes_too():
    root = user("root", is_superuser=True)
    assert bearer(token("jobs:read", owner=root)[1]).post(JOBS, {"goal": "x"}).status_code == 403


@pytest.mark.parametrize("word", ["Bearer", "bearer"])
def test_me_tells_the_token_and_its_scopes(word):
    _, secret = token("jobs:read")
    one = APIClient()
    one.credentials(HTTP_AUTHORIZATION=f"{word} {secret}")
    body = one.get("/api/v1/me").json()
    assert (body["username"], body["token"]["scopes"], body["token"]["name"]) == ("ada", ["jobs:read"], "ci")
    assert client(user("ada")).get("/api/v1/me").json()["token"] is None


def test_a_mistyped_token_is_refused_without_asking_the_database():
    _, secret = token()
    with CaptureQueriesContext(connection) as queries:
        response = bearer(secret[:-1] + ("0" if secret[-1] != "0" else "1")).get(JOBS)
    problem(response, 401, "token_malformed")
    assert response["WWW-Authenticate"].startswith("Bearer")
    assert len(queries) == 0


@pytest.mark.parametrize("header", ["Bearer", "Bearer a b", "Bearer cs_x", "Bearer \xff"])
def test_a_header_that_holds_no_token_is_refused(header):
    one = APIClient()
    one.credentials(HTTP_AUTHORIZATION=header)
    problem(one.get(JOBS), 401, "token_malformed")


def test_a_token_that_never_was_is_refused():
    problem(bearer(new_secret()).get(JOBS), 401, "token_unknown")


def test_an_expired_token_is_refused():
    now = timezone.now()
    _, secret = token(now=now - timedelta(days=2), expires_at=now - timedelta(days=1))
    problem(bearer(secret).get(JOBS), 401, "token_expired")


def test_a_revoked_token_is_refused_at_once():
    row, secret = token()
    assert bearer(secret).get(JOBS).status_code == 200
    assert revoke_token(row, now=timezone.now(), actor=ROOT) is True
    problem(bearer(secret).get(JOBS), 401, "token_revoked")
    assert revoke_token(row, now=timezone.now(), actor=ROOT) is False


def test_a_deactivated_users_token_is_refused():
    ada = user("ada")
    _, secret = token(owner=ada)
    User.objects.filter(pk=ada.pk).update(is_active=False)
    problem(bearer(secret).get(JOBS), 401, "user_inactive")


def test_a_bad_token_is_not_covered_by_a_good_session():
    one = client(user("ada"))
    one.credentials(HTTP_AUTHORIZATION=f"Bearer {new_secret()}")
    problem(one.get(JOBS), 401, "token_unknown")


def test_its_use_is_noted_at_most_once_a_minute():
    row, secret = token()
    bearer(secret).get(JOBS)
    row.refresh_from_db()
    first = row.used_at
    assert first is not None
    bearer(secret).get(JOBS)
    row.refresh_from_db()
    assert row.used_at == first
    ApiToken.objects.update(used_at=first - timedelta(seconds=61))
    bearer(secret).get(JOBS)
    row.refresh_from_db()
    assert row.used_at is not None and row.used_at >= first


def test_its_first_use_of_an_hour_is_a_record():
    row, secret = token()

    def told() -> int:
        return Record.objects.filter(event="token.used", target_id=str(row.pk)).count()

    bearer(secret).get(JOBS)
    bearer(secret).get(JOBS)
    assert told() == 1
    ApiToken.objects.filter(pk=row.pk).update(used_at=timezone.now() - timedelta(seconds=3601))
    bearer(secret).get(JOBS)
    assert told() == 2


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"scopes": ["jobs:all"]}, "scopes"),
        ({"scopes": []}, "scopes"),
        ({"name": " "}, "name"),
        ({"expires_at": timezone.now() - timedelta(days=1)}, "expires_at"),
    ],
)
def test_a_token_that_makes_no_sense_is_not_made(changes, field):
    given = {
        "user": user("ada"),
        "name": "ci",
        "scopes": ["jobs:read"],
        "now": timezone.now(),
        "actor": ROOT,
        **changes,
    }
    with pytest.raises(InvalidInput) as caught:
        create_token(**given)
    assert caught.value.field == field
    assert not ApiToken.objects.exists()


def test_making_and_revoking_a_token_is_recorded_without_its_secret():
    before = set(Record.objects.values_list("pk", flat=True))
    row, secret = token()
    revoke_token(row, now=timezone.now(), actor=ROOT)
    bodies = [event.body for event in Record.objects.exclude(pk__in=before)]
    told = [body for body in bodies if str(row.pk) in body]
    assert len(told) == 2
    assert any("token.created" in body for body in told) and any("token.revoked" in body for body in told)
    assert not any(secret in body for body in bodies)
