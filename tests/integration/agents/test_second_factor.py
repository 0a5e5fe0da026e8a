"""One-time codes at sign-in and before what asks for them afresh."""

import json
import re
from datetime import timedelta

import pyotp
import pytest
from allauth.mfa.models import Authenticator
from django.test import Client
from django.utils import timezone

from agents.accounts import throttle
from approvals import rates
from audit.models import Record
from tests.factories import people

pytestmark = pytest.mark.django_db(transaction=True)
SET_UP, AGAIN = "/accounts/2fa/set-up/", "/accounts/2fa/again/"


@pytest.fixture
def ada():
    made = people.user("ada")
    made.set_password("right")
    made.save()
    for key in (throttle.key("ada", "127.0.0.1"), throttle.code_key(made.pk), throttle.address_key("127.0.0.1")):
        rates.forget(key)
    return made


def entered(**given: str) -> Client:
    client = Client()
    client.post("/accounts/login/", {"username": "ada", "password": "right", **given})
    return client


def set_up(client: Client) -> str:
    """The secret of the authenticator that this client's user has now."""
    asked = client.get(SET_UP)
    if asked.status_code == 302:
        assert client.post(asked["Location"], {"password": "right"}).status_code == 302
    page = client.get(SET_UP).content.decode()
    (secret,) = re.findall(r'<code class="key"[^>]*>([A-Z2-7]+)</code>', page)
    done = client.post(SET_UP, {"code": pyotp.TOTP(secret).now()})
    assert done.status_code == 302, done.content
    return secret


def test_who_sets_it_up_for_a_request_comes_back_to_it_and_to_no_other_server(ada):
    client = entered()
    set_up_for = f"{SET_UP}?next=%2Fapprovals%2F"
    asked = client.get(set_up_for)
    if asked.status_code == 302:
        back = client.post(asked["Location"], {"password": "right"})
        assert back["Location"] == set_up_for
    (secret,) = re.findall(r'<code class="key"[^>]*>([A-Z2-7]+)</code>', client.get(set_up_for).content.decode())
    done = client.post(set_up_for, {"code": pyotp.TOTP(secret).now()})
    assert '<a class="button primary" href="/approvals/">Done</a>' in client.get(done["Location"]).content.decode()
    elsewhere = client.get("/accounts/2fa/recovery-codes/?next=//evil.example/").content.decode()
    assert '<a class="button primary" href="/accounts/profile/">Done</a>' in elsewhere


def forget_codes() -> None:
    """As if the last code were minutes old."""
    for one in Authenticator.objects.filter(type="totp"):
        one.data.pop("last_counter", None)
        one.save()


def test_a_user_sets_it_up_and_the_password_alone_lets_nobody_in_any_more(ada):
    client = entered()
    secret = set_up(client)
    row = Authenticator.objects.get(type="totp")
    assert secret not in json.dumps(row.data), "the secret is encrypted"
    assert "Recovery codes" in client.get("/accounts/2fa/recovery-codes/").content.decode()
    assert Client().get(SET_UP).status_code == 302

    other = Client()
    first = other.post("/accounts/login/", {"username": "ada", "password": "right", "next": "/jobs/"})
    assert first["Location"] == "/accounts/2fa/code/"
    assert "_auth_user_id" not in other.session
    before = other.session.session_key
    assert other.get("/jobs/").status_code == 302
    assert "not right" in other.post(first["Location"], {"code": "000000"}).content.decode()
    done = other.post(first["Location"], {"code": pyotp.TOTP(secret).now()})
    assert (done.status_code, done["Location"]) == (302, "/jobs/")
    assert other.get("/jobs/").status_code == 200
    assert other.session.session_key != before, "a session from before the sign-in is none after it"
    found = [json.loads(one.body) for one in Record.objects.filter(event="auth.second_factor")]
    mine = [body["outcome"] for body in found if body["target"]["id"] == str(ada.pk)]
    assert sorted(one for one in mine if one != "added") == ["given", "refused"] and "added" in mine


def test_a_code_counts_once_and_a_recovery_code_too(ada):
    secret = set_up(entered())
    code = pyotp.TOTP(secret).now()
    assert "_auth_user_id" in _by_code(code).session
    assert "_auth_user_id" not in _by_code(code).session, "seen over a shoulder, it is worth nothing"
    recovery = Authenticator.objects.get(type="recovery_codes").wrap().get_unused_codes()[0]
    assert "_auth_user_id" in _by_code(recovery).session
    assert "_auth_user_id" not in _by_code(recovery).session


def _by_code(code: str) -> Client:
    client = entered()
    client.post("/accounts/2fa/code/", {"code": code})
    return client


def test_guessing_codes_is_slow(ada):
    secret = set_up(entered())
    client = entered()
    for _ in range(throttle.TRIES):
        client.post("/accounts/2fa/code/", {"code": "000000"})
    page = client.post("/accounts/2fa/code/", {"code": pyotp.TOTP(secret).now()}).content.decode()
    assert "Too many wrong codes" in page and "_auth_user_id" not in client.session


def test_a_fresh_factor_comes_back_to_where_it_was_asked_and_to_nowhere_else(ada):
    from django.contrib.auth.models import AnonymousUser

    from approvals.web import second_factor

    client = entered()
    secret = set_up(client)
    page = client.get(f"{AGAIN}?next=/approvals/1/")
    assert "last 5 minutes" in page.content.decode()
    request = page.wsgi_request
    assert second_factor.at(request) is None
    done = client.post(AGAIN, {"code": pyotp.TOTP(secret).now(), "next": "/approvals/1/"})
    assert done["Location"] == "/approvals/1/"
    request = client.get("/accounts/profile/").wsgi_request
    given = second_factor.at(request)
    assert given is not None and timezone.now() - timedelta(minutes=1) < given <= timezone.now()
    forget_codes()
    away = client.post(AGAIN, {"code": pyotp.TOTP(secret).now(), "next": "https://evil.example/"})
    assert away.status_code == 302 and "evil" not in away["Location"]
    request.user = people.user("bob")
    assert second_factor.at(request) is None, "another user's factor in this session is not theirs"
    request.user = AnonymousUser()
    assert second_factor.at(request) is None


def test_taking_it_away_asks_again_first(ada):
    client = entered()
    secret = set_up(client)
    session = client.session
    for one in session["account_authentication_methods"]:
        one["at"] -= 3600
    session["account_authentication_methods"] = session["account_authentication_methods"]
    session.save()
    asked = client.post("/accounts/2fa/remove/")
    assert asked.status_code == 302 and "reauthenticate" in asked["Location"]
    assert Authenticator.objects.filter(type="totp").exists()
    client.post("/accounts/reauthenticate/", {"password": "wrong"})
    client.post("/accounts/2fa/remove/")
    assert Authenticator.objects.filter(type="totp").exists()
    client.post(AGAIN, {"code": pyotp.TOTP(secret).now()})
    client.post("/accounts/2fa/remove/")
    assert not Authenticator.objects.exists()


def test_signing_up_and_resetting_passwords_have_no_address():
    for path in ("signup/", "password/reset/", "password/change/", "email/", "confirm-email/", "social/signup/"):
        assert Client().get(f"/accounts/{path}").status_code == 404, path
