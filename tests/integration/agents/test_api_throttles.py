"""The API bounds how often one caller asks; each caller has a count of its own."""

import pytest
from django.utils import timezone

from agents.tokens import create_token
from approvals import rates
from audit.actor import Actor
from tests.factories.people import user
from tests.integration.agents.api import client, problem

pytestmark = pytest.mark.django_db

ME, DOCS = "/api/v1/me", "/api/docs"


@pytest.fixture(autouse=True)
def few(settings):
    settings.API_RATES = {"anonymous": 2, "user": 3, "token": 4}


def bearer(person):
    _, secret = create_token(
        user=person, name="ci", scopes=["jobs:read"], now=timezone.now(), actor=Actor.system("test")
    )
    made = client()
    made.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return made


def test_too_many_requests_are_a_problem_that_says_when_to_come_back():
    asking = client(user("ada"))
    for _ in range(3):
        assert asking.get(ME).status_code == 200
    refused = asking.get(ME)
    problem(refused, 429, "throttled")
    assert 1 <= int(refused["Retry-After"]) <= 60


def test_each_token_each_user_and_each_address_counts_alone():
    ada, bob = user("ada"), user("bob")
    first, second = bearer(ada), bearer(ada)
    for _ in range(4):
        assert first.get(ME).status_code == 200
    assert first.get(ME).status_code == 429
    assert second.get(ME).status_code == 200
    assert client(ada).get(ME).status_code == 200
    assert client(bob).get(ME).status_code == 200
    for address, answers in (("192.0.2.1", [200, 200, 429]), ("192.0.2.2", [200])):
        rates.forget(f"api:anonymous:{address}")
        assert [client().get(DOCS, REMOTE_ADDR=address).status_code for _ in answers] == answers


def test_a_forged_header_makes_nobody_somebody_else():
    rates.forget("api:anonymous:192.0.2.3")
    answers = [
        client().get(DOCS, REMOTE_ADDR="192.0.2.3", HTTP_X_FORWARDED_FOR=f"198.51.100.{n}").status_code
        for n in range(3)
    ]
    assert answers == [200, 200, 429]


def test_a_rate_of_zero_is_no_bound(settings):
    settings.API_RATES = {"anonymous": 0, "user": 0, "token": 0}
    asking = client(user("ada"))
    assert {asking.get(ME).status_code for _ in range(10)} == {200}
