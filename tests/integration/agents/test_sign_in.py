"""Guessing passwords is slow, by name and by address; who knows theirs is let in again. There is one door."""

import json

import pytest
import redis
from django.test import Client
from redis.backoff import NoBackoff
from redis.retry import Retry

from agents.accounts import throttle
from approvals import rates
from audit.models import Record
from tests.factories.people import user

pytestmark = pytest.mark.django_db

DOOR = "/accounts/login/"


@pytest.fixture(autouse=True)
def nothing_was_tried():
    for name in ("ada", "bob", "nobody"):
        for address in ("127.0.0.1", "192.0.2.7"):
            rates.forget(throttle.key(name, address))
            rates.forget(throttle.address_key(address))
        rates.forget(throttle.name_key(name))


@pytest.fixture
def ada():
    made = user("ada", is_staff=True)
    made.set_password("right")
    made.save()
    return made


def enter(password: str, name: str = "ada", address: str = "127.0.0.1"):
    return Client(REMOTE_ADDR=address).post(DOOR, {"username": name, "password": password})


def failures(outcome: str) -> list[dict]:
    bodies = [json.loads(one.body) for one in Record.objects.filter(event="auth.failed")]
    return [body for body in bodies if body["outcome"] == outcome]


def test_after_ten_wrong_passwords_the_right_one_waits_too(ada):
    for _ in range(throttle.TRIES):
        assert "correct" in enter("wrong").content.decode()
    refused = enter("right")
    assert refused.status_code == 200
    assert "Try again in" in refused.content.decode() and "minute" in refused.content.decode()
    assert "_auth_user_id" not in refused.wsgi_request.session


def test_the_back_office_has_no_door_of_its_own(ada):
    answer = Client().post("/admin/login/?next=/admin/", {"username": "ada", "password": "right"})
    assert (answer.status_code, answer["Location"]) == (302, "/accounts/login/?next=%2Fadmin%2F")
    ada.is_staff = False
    ada.save()
    client = Client()
    client.force_login(ada)
    assert client.get("/admin/login/").status_code == 403


def test_one_name_tried_from_many_addresses_is_held_up_too(ada, monkeypatch):
    monkeypatch.setattr(throttle, "NAME_TRIES", 3)
    for number in range(3):
        enter("wrong", address=f"198.51.100.{number}")
    assert "Try again in" in enter("right", address="198.51.100.9").content.decode()
    assert len(failures("throttled")) == 1


def test_one_address_that_tries_many_names_is_held_up_and_one_that_succeeds_is_not(ada, monkeypatch):
    monkeypatch.setattr(throttle, "ADDRESS_TRIES", 3)
    for number in range(3):
        enter("wrong", name=f"guess-{number}", address="192.0.2.7")
    assert "from your address" in enter("right", address="192.0.2.7").content.decode()
    for _ in range(5):
        assert enter("right").status_code == 302


def test_others_and_other_addresses_are_not_held_up(ada):
    bob = user("bob")
    bob.set_password("right")
    bob.save()
    for _ in range(throttle.TRIES + 1):
        enter("wrong")
    assert enter("right", "bob").status_code == 302
    assert enter("right", address="192.0.2.7").status_code == 302


def test_the_right_password_starts_the_count_anew(ada):
    for _ in range(3):
        for _ in range(throttle.TRIES - 1):
            enter("wrong")
        assert enter("right").status_code == 302


def test_a_name_in_capitals_is_the_same_name(ada):
    for number in range(throttle.TRIES):
        enter("wrong", "ada" if number % 2 else "ADA ")
    assert "Try again in" in enter("right").content.decode()


def test_being_held_up_is_recorded_once_and_names_the_user(ada):
    for _ in range(throttle.TRIES + 5):
        enter("wrong")
    assert len(failures("refused")) == throttle.TRIES
    held = failures("throttled")
    assert len(held) == 1
    assert held[0]["target"] == {"type": "user", "id": str(ada.pk)}
    assert "ada" not in json.dumps(held), "a name may be a password typed into the wrong field"


def test_names_that_do_not_exist_are_held_up_alike():
    for _ in range(throttle.TRIES):
        enter("wrong", "nobody")
    assert "Try again in" in enter("wrong", "nobody").content.decode()


def test_the_wait_ends(ada):
    for _ in range(throttle.TRIES + 1):
        enter("wrong")
    key = throttle.key("ada", "127.0.0.1")
    assert 0 < rates.hit(key, window_s=throttle.WINDOW_S).left_s <= throttle.WINDOW_S
    rates.forget(key)  # as Redis does when the time is over
    assert enter("right").status_code == 302


def test_without_redis_people_still_sign_in(ada, monkeypatch):
    away = redis.Redis(host="127.0.0.1", port=1, retry=Retry(NoBackoff(), 0), socket_connect_timeout=1)
    monkeypatch.setattr(rates, "_away_until", 0.0)  # and again when the test is over
    monkeypatch.setattr(rates, "client", lambda: away)
    assert enter("right").status_code == 302
