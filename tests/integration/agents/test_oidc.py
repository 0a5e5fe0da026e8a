"""The company's accounts, against a real provider on this machine."""

import json
from urllib.parse import urlsplit

import httpx2
import pytest
from allauth.socialaccount.models import SocialAccount
from cryptography.hazmat.primitives.asymmetric import rsa
from django.contrib.auth.models import Group, User
from django.core.checks import run_checks
from django.test import Client

from audit.models import Record
from tests.factories import oidc, people

pytestmark = pytest.mark.django_db
START, PROFILE = "/accounts/oidc/sso/login/", "/accounts/profile/"


@pytest.fixture(scope="module")
def served():
    with oidc.running() as provider:
        yield provider


@pytest.fixture
def provider(served, settings):
    was = dict(vars(served))
    settings.OIDC_ISSUER = served.issuer
    app = {
        "provider_id": "sso",
        "name": "Acme",
        "client_id": served.client_id,
        "secret": served.client_secret,
        "settings": {"server_url": served.issuer, "oauth_pkce_enabled": True},
    }
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": [app]}}
    yield served
    vars(served).update(was)


def there_and_back(client: Client, **given: str):
    """What the server answers to the browser that comes back from the provider."""
    to = client.post(START, given)
    assert to.status_code == 302, to.content
    back = httpx2.get(to["Location"], trust_env=False)
    assert back.status_code == 302
    return client.get(back.headers["location"].removeprefix("http://testserver"))


def link(user: User, sub: str = "u-1") -> SocialAccount:
    return SocialAccount.objects.create(user=user, provider="sso", uid=sub)


def signed_in(client: Client) -> str:
    pk = client.session.get("_auth_user_id")
    return User.objects.get(pk=pk).username if pk else ""


def test_a_linked_account_signs_in_and_comes_back_to_where_it_was_going(provider):
    link(people.user("ada"))
    client = Client()
    before = client.session.session_key
    answer = there_and_back(client, next="/jobs/")
    assert (answer.status_code, answer["Location"]) == (302, "/jobs/")
    assert signed_in(client) == "ada"
    assert client.session.session_key != before
    asked = provider.authorized[-1]
    assert asked["code_challenge_method"] == "S256" and asked["redirect_uri"].endswith("/accounts/oidc/sso/callback/")
    page = Client().get("/accounts/login/?next=/jobs/")
    assert "Sign in with" in page.content.decode()
    assert provider.issuer in page["Content-Security-Policy"]


def test_nobody_becomes_somebody_by_a_name_or_an_address(provider):
    people.user("grace")  # the same name and address as the person there
    client = Client()
    answer = there_and_back(client)
    assert answer.status_code == 403 and "not linked here" in answer.content.decode()
    assert signed_in(client) == "" and User.objects.filter(username__startswith="grace").count() == 1


def test_sign_up_only_where_it_is_configured_and_without_rights(provider, settings):
    settings.OIDC_SIGN_UP = True
    client = Client()
    assert there_and_back(client, next="//evil.example/")["Location"] == "/"
    made = User.objects.get(username="grace")
    assert signed_in(client) == "grace"
    assert not made.is_staff and not made.is_superuser and not made.groups.exists() and not made.has_usable_password()
    made.is_active = False
    made.save()
    other = Client()
    assert there_and_back(other).status_code == 403 and signed_in(other) == ""
    provider.person = {**provider.person, "sub": "u-2"}  # somebody else with the same address: refused alike
    assert there_and_back(other).status_code == 403 and signed_in(other) == ""


def test_groups_follow_the_claim_where_they_are_named(provider, settings):
    ada = people.user("ada", groups=("approvers", "own"))
    link(ada)
    Group.objects.create(name="sre")
    provider.person = {**provider.person, "groups": ["ops", "unknown", "own"]}
    there_and_back(Client())
    assert set(ada.groups.values_list("name", flat=True)) == {"approvers", "own"}, "off by default"
    settings.OIDC_GROUPS_CLAIM, settings.OIDC_GROUPS = "groups", {"ops": "sre", "deciders": "approvers"}
    there_and_back(Client())
    assert set(ada.groups.values_list("name", flat=True)) == {"own", "sre"}
    (change,) = [
        body
        for body in map(json.loads, Record.objects.filter(event="admin.changed").values_list("body", flat=True))
        if body["target"] == {"type": "auth.user", "id": str(ada.pk)}
    ]
    assert (change["context"]["given"], change["context"]["taken"]) == (["sre"], ["approvers"])


@pytest.mark.parametrize(
    "broken",
    [
        {"signs": rsa.generate_private_key(public_exponent=65537, key_size=2048)},
        {"tamper": {"aud": "somebody else"}},
        {"tamper": {"iss": "https://evil.example"}},
        {"tamper": {"exp": 1}},
        {"userinfo": {"sub": "another"}},
        {"claimed": "https://evil.example"},
    ],
    ids=["another key", "another audience", "another issuer", "over", "another person", "another provider"],
)
def test_a_token_that_is_not_for_us_signs_nobody_in(provider, broken):
    link(people.user("ada"))
    vars(provider).update(broken)
    client = Client()
    answer = there_and_back(client)
    assert answer.status_code == 401 and "did not work" in answer.content.decode()
    assert signed_in(client) == ""


def test_a_provider_that_is_away_is_said(settings, provider):
    settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"][0]["settings"]["server_url"] = "http://127.0.0.1:1"
    answer = Client().post(START)
    assert answer.status_code == 503 and "did not work" in answer.content.decode()


def test_an_answer_that_nobody_asked_for_is_refused(provider):
    link(people.user("ada"))
    first, other = Client(), Client()
    to = first.post(START)
    back = urlsplit(httpx2.get(to["Location"], trust_env=False).headers["location"])
    assert other.get(f"{back.path}?{back.query}").status_code == 401, "it was asked for in another session"
    assert first.get(f"{back.path}?{back.query}").status_code == 302
    assert Client().get(f"{back.path}?error=access_denied").status_code in {302, 401}


def test_a_user_links_and_unlinks_their_own_account(provider):
    ada = people.user("ada")
    ada.set_password("right")
    ada.save()
    client = Client()
    client.force_login(ada)
    assert "Link" in client.get(PROFILE).content.decode()
    asked = there_and_back(client, process="connect", next=PROFILE)
    if asked["Location"].startswith("/accounts/reauthenticate/"):
        asked = client.post(asked["Location"], {"password": "right"})
    assert asked.status_code == 302 and SocialAccount.objects.get().user == ada
    one = SocialAccount.objects.get()
    stranger = Client()
    stranger.force_login(people.user("bob"))
    assert stranger.post(f"/accounts/oidc/{one.pk}/unlink/").status_code == 404
    client.post(f"/accounts/oidc/{one.pk}/unlink/")
    assert not SocialAccount.objects.exists()
    assert Record.objects.filter(event="identity.unlinked").exists()


def test_without_a_provider_there_is_no_such_address():
    assert Client().post(START).status_code == 404
    assert "Sign in with" not in Client().get("/accounts/login/").content.decode()


def test_half_a_configuration_is_an_error_of_the_check(provider, settings):
    def found() -> set[str]:
        return {one.id for one in run_checks(include_deployment_checks=True) if str(one.id).startswith("countersign.")}

    assert "countersign.E005" not in found() and {"countersign.W106", "countersign.W107"} <= found()
    settings.OIDC_GROUPS = {"ops": "sre"}
    assert "countersign.E005" in found()
    settings.OIDC_GROUPS_CLAIM, settings.STEP_UP = "groups", True
    assert not {"countersign.E005", "countersign.W107"} & found()
    settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"][0]["secret"] = ""
    assert "countersign.E005" in found()
