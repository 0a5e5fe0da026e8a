"""Guessing passwords is slow, on both doors; who knows theirs is let in again."""

import json

import pytest
import redis
from django.test import Client
from redis.backoff import NoBackoff
from redis.retry import Retry

from agents import rates
from agents.web import signin
from audit.models import Record
from tests.factories.people import user

pytestmark = pytest.mark.django_db

DOORS = ("/accounts/login/", "/admin/login/")


@pytest.fixture(autouse=True)
def nothing_was_tried():
    for name in ("ada", "bob", "nobody"):
        for address in ("127.0.0.1", "192.0.2.7"):
            rates.forget(signin.key(name, address))


@pytest.fixture
def ada():
    made = user("ada", is_staff=True)
    made.set_password("right")
    made.save()
    return made


def enter(door: str, password: str, name: str = "ada", address: str = "127.0.0.1"):
    return Client(REMOTE_ADDR=address).post(door, {"username": name, "password": password})


def failures(outcome: str) -> list[dict]:
    bodies = [json.loads(one.body) for one in Record.objects.filter(event="auth.failed")]
    return [body for body in bodies if body["outcome"] == outcome]


@pytest.mark.parametrize("door", DOORS)
def test_after_ten_wrong_passwords_the_right_one_waits_too(ada, door):
    for _ in range(signin.TRIES):
        assert "correct" in enter(door, "wrong").content.decode()
    refused = enter(door, "right")
    assert refused.status_code == 200
    assert "Try again in" in refused.content.decode() and "minute" in refused.content.decode()
    assert "_auth_user_id" not in refused.wsgi_request.session


def test_both_doors_count_together(ada):
    for number in range(signin.TRIES):
        enter(DOORS[number % 2], "wrong")
    for door in DOORS:
        assert "Try again in" in enter(door, "right").content.decode()


def test_others_and_other_addresses_are_not_held_up(ada):
    bob = user("bob")
    bob.set_password("right")
    bob.save()
    for _ in range(signin.TRIES + 1):
        enter(DOORS[0], "wrong")
    assert enter(DOORS[0], "right", "bob").status_code == 302
    assert enter(DOORS[0], "right", address="192.0.2.7").status_code == 302


def test_the_right_password_starts_the_count_anew(ada):
    for _ in range(3):
        for _ in range(signin.TRIES - 1):
            enter(DOORS[0], "wrong")
        assert enter(DOORS[0], "right").status_code == 302


def test_a_name_in_capitals_is_the_same_name(ada):
    for number in range(signin.TRIES):
        enter(DOORS[0], "wrong", "ada" if number % 2 else "ADA ")
    assert "Try again in" in enter(DOORS[0], "right").content.decode()


def test_being_held_up_is_recorded_once_and_names_the_user(ada):
    for _ in range(signin.TRIES + 5):
        enter(DOORS[0], "wrong")
    assert len(failures("refused")) == signin.TRIES
    held = failures("throttled")
    assert len(held) == 1
    assert held[0]["target"] == {"type": "user", "id": str(ada.pk)}
    assert "ada" not in json.dumps(held), "a name may be a password typed into the wrong field"


def test_names_that_do_not_exist_are_held_up_alike():
    for _ in range(signin.TRIES):
        enter(DOORS[0], "wrong", "nobody")
    assert "Try again in" in enter(DOORS[0], "wrong", "nobody").content.decode()


def test_the_wait_ends(ada):
    for _ in range(signin.TRIES + 1):
        enter(DOORS[0], "wrong")
    key = signin.key("ada", "127.0.0.1")
    assert 0 < rates.hit(key, window_s=signin.WINDOW_S).left_s <= signin.WINDOW_S
    rates.forget(key)  # as Redis does when the time is over
    assert enter(DOORS[0], "right").status_code == 302


def test_without_redis_people_still_sign_in(ada, monkeypatch):
    away = redis.Redis(host="127.0.0.1", port=1, retry=Retry(NoBackoff(), 0), socket_connect_timeout=1)
    monkeypatch.setattr(rates, "_away_until", 0.0)  # and again when the test is over
    monkeypatch.setattr(rates, "client", lambda: away)
    assert enter(DOORS[0], "right").status_code == 302
