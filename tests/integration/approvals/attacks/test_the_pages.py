"""Attacks on the pages: forged forms, guessed and forwarded links, scanners, redirects, text that lies."""

import re
from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from approvals import links, rates
from approvals.models import ApprovalLink, ApprovalRequest, Vote
from approvals.web import guessing
from tests.factories import approvals, people
from tools.spec import Call, Risk, RiskScore

pytestmark = pytest.mark.django_db

LOW = RiskScore(level=Risk.LOW, reasons=())
LIE = "rm -rf \u202e/gpj.photo\u202c build\u200b\u2066x\u2069 <img src=x onerror=alert(1)> ]]> --> {{7*7}}"


@pytest.fixture(autouse=True)
def nothing_was_guessed() -> Iterator[None]:
    _forget()
    yield
    _forget()  # other tests come from this address too


def _forget() -> None:
    for name in ("links", "links:127.0.0.1", "links:192.0.2.66", "links:192.0.2.67"):
        rates.forget(name)


def signed_in(user: User, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(user)
    return client


def state(request: ApprovalRequest) -> str:
    return ApprovalRequest.objects.values_list("state", flat=True).get(pk=request.pk)


def link_to(request: ApprovalRequest, user: User) -> str:
    _, url = links.issue(request, recipient_id=user.pk, channel="email", now=timezone.now())
    return urlsplit(url).path


class Links(HTMLParser):
    """What a scanner finds to follow in a page: every address, whatever it hangs on."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = {"href", "src", "action", "formaction", "hx-get", "data-href", "data-url"}
        self.found += [value for name, value in attributes if name in names and value]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", ""])
def test_csrf_a_form_of_another_site_decides_nothing(origin):
    (grace,) = approvals.approvers("grace")
    request = approvals.request(risk=LOW)
    client = signed_in(grace, enforce_csrf_checks=True)
    client.get(request.get_absolute_url())
    headers = {"Origin": origin} if origin else {}
    form = {"verdict": "approve", "csrfmiddlewaretoken": "a" * 64}
    assert client.post(request.get_absolute_url(), form, headers=headers).status_code == 403
    answer = client.post(
        f"/api/v1/approvals/{request.pk}/approve", {}, content_type="application/json", headers=headers
    )
    assert answer.status_code == 403
    assert state(request) == "pending" and not Vote.objects.exists()


def test_csrf_every_form_under_approvals_and_slack_takes_a_token():
    """Whatever page is added, a POST to it without a token is refused before its view runs."""
    from approvals.web.urls import urlpatterns

    (grace,) = approvals.approvers("grace")
    request = approvals.request(risk=LOW)
    client = signed_in(grace, enforce_csrf_checks=True)
    exempt = []
    for pattern in urlpatterns:
        address = "/" + re.sub(r"<uuid:\w+>", str(request.pk), re.sub(r"<str:\w+>", "x" * 43, str(pattern.pattern)))
        assert "<" not in address, address
        if client.post(address, {"verdict": "approve"}).status_code != 403:
            exempt.append(pattern.name)
    assert exempt == ["slack-interactivity"]  # its signature is what counts there


def test_a_guessed_token_finds_nothing_and_is_compared_by_its_hash_only():
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    token = link_to(request, grace).split("/")[2]
    nearly = token[:-1] + ("A" if token[-1] != "A" else "B")
    with CaptureQueriesContext(connection) as queries:
        assert Client().get(f"/a/{nearly}/").status_code == 404
    sent = " ".join(query["sql"] for query in queries)
    assert nearly not in sent and links._digest(nearly) in sent
    assert token not in str(list(ApprovalLink.objects.values()))
    for wrong in ("", "x", "a" * 42, "a" * 44, "%00" * 43, "a" * 42 + "%0a", "ä" * 43, "../" * 14 + "a"):
        assert Client().get(f"/a/{wrong}/").status_code == 404


def test_guessing_tokens_is_throttled_by_address_and_in_all(monkeypatch):
    monkeypatch.setattr(guessing, "WINDOW_S", 3600)
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    path = link_to(request, grace)
    guesser = Client(REMOTE_ADDR="192.0.2.66")
    statuses = [guesser.get(f"/a/{'g' * 43}/").status_code for _ in range(guessing.OF_ADDRESS + 1)]
    assert statuses == [404] * guessing.OF_ADDRESS + [429]
    assert guesser.get(path).status_code == 429
    made_up = guesser.get(path, headers={"X-Forwarded-For": "192.0.2.1"})
    assert made_up.status_code == 429
    assert Client(REMOTE_ADDR="192.0.2.67").get(path).status_code == 302  # others still come in
    monkeypatch.setattr(guessing, "IN_ALL", guessing.OF_ADDRESS)
    assert Client(REMOTE_ADDR="192.0.2.67").get(path).status_code == 429
    assert signed_in(grace, REMOTE_ADDR="192.0.2.67").get(path).status_code == 302


def test_following_good_links_is_never_throttled():
    (grace,) = approvals.approvers("grace")
    path = link_to(approvals.request(), grace)
    client = Client()
    assert {client.get(path).status_code for _ in range(guessing.OF_ADDRESS * 2)} == {302}


def test_a_forwarded_link_makes_the_other_person_sign_in_and_be_judged():
    (grace,) = approvals.approvers("grace")
    request = approvals.request(risk=LOW)
    path = link_to(request, grace)
    answer = Client().get(path)
    assert answer.status_code == 302 and answer["Location"].startswith("/accounts/login/?next=/a/")
    assert str(request.pk) not in answer["Location"]
    stranger = signed_in(people.user("mallory"))
    assert stranger.get(path, follow=True).status_code == 404
    assert stranger.post(request.get_absolute_url(), {"verdict": "approve"}).status_code == 404
    requester = signed_in(request.requester)
    assert requester.post(request.get_absolute_url(), {"verdict": "approve"}).status_code == 403
    assert state(request) == "pending" and not Vote.objects.exists()


def test_a_scanner_that_follows_every_link_and_submits_no_form_decides_nothing():
    """It has the session of somebody who may decide, as one on their own machine would."""
    (grace,) = approvals.approvers("grace")
    request = approvals.request(risk=LOW)
    client = signed_in(grace)
    seen: set[str] = set()
    waiting = [link_to(request, grace), request.get_absolute_url(), "/approvals/", "/slack/"]
    while waiting and len(seen) < 60:
        path = waiting.pop(0)
        if path in seen or not path.startswith(("/approvals/", "/a/", "/slack/", "/jobs/")):
            continue
        seen.add(path)
        for ask in (client.get, client.head, client.options):
            answer = ask(path)
        answer = client.get(path)
        if answer.status_code in {301, 302, 303}:
            waiting.append(answer["Location"])
        elif "text/html" in answer.get("Content-Type", ""):
            found = [urlsplit(one) for one in Links(answer.content.decode()).found]
            waiting += [
                one.path + (f"?{one.query}" if one.query else "") for one in found if not one.netloc and one.path
            ]
    assert request.get_absolute_url() in seen
    assert state(request) == "pending" and not Vote.objects.exists()
    assert ApprovalRequest.objects.get(pk=request.pk).excluded_ids == [request.requester_id]


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "\\\\evil.example",
        "https:evil.example",
        "javascript:alert(1)",
        "/%09/evil.example",
        "http:///evil.example",
        "https://testserver@evil.example/",
        "https://testserver.evil.example/",
    ],
)
def test_open_redirect_signing_in_leads_to_no_other_site(target):
    grace = people.user("grace")
    grace.set_password("right horse")
    grace.save()
    for address in ("/accounts/login/", "/admin/login/"):
        form = {"username": "grace", "login": "grace", "password": "right horse", "next": target}
        answer = Client().post(address, form, query_params={"next": target}, follow=False)
        place = urlsplit(answer.get("Location", "/"))
        assert place.netloc in {"", "testserver"} and place.scheme in {"", "http", "https"}, answer["Location"]
        assert not answer.get("Location", "/").startswith(("//", "/\\", "\\"))


@pytest.mark.parametrize("path", ["//evil.example/a/x/", "/a/https://evil.example/", "/a/%2f%2fevil.example/"])
def test_open_redirect_a_link_that_is_made_up_leads_nowhere(path):
    answer = Client().get(path, follow=True)
    assert answer.status_code == 404
    assert all(not urlsplit(step).netloc for step, _ in answer.redirect_chain)


def test_html_and_bidirectional_text_are_shown_as_what_they_are():
    (grace,) = approvals.approvers("grace")
    request = approvals.request(
        command=LIE,
        title=LIE,
        preview=LIE,
        call=Call(tool="git.push", schema_version=1, arguments={"branch": LIE}, workspace_id="w"),
        context={"agent": LIE, "requester": LIE, "repository": LIE, "goal": LIE, "reason": LIE},
        risk=RiskScore(level=Risk.LOW, reasons=(LIE,)),
    )
    client = signed_in(grace)
    for path in (request.get_absolute_url(), "/approvals/", f"{request.get_absolute_url()}status/"):
        page = client.get(path).content.decode()
        assert "<img src=x" not in page
        assert not set("\u202e\u202c\u200b\u2066\u2069") & set(page), path
        assert ">49<" not in page
    page = client.get(request.get_absolute_url()).content.decode()
    assert "⟦U+202E⟧" in page and "⟦U+200B⟧" in page and "&lt;img src=x onerror" in page


def test_clock_skew_what_has_expired_by_the_clock_of_whoever_asks_is_over():
    """A page's process whose clock runs behind the database's opens nothing that is closed in the rows."""
    (grace,) = approvals.approvers("grace")
    request = approvals.request(risk=LOW, expires_s=60)
    path = link_to(request, grace)
    late = request.expires_at + timedelta(seconds=1)
    with pytest.raises(links.LinkExpired):
        links.find(path.split("/")[2], now=late)
    ApprovalRequest.objects.filter(pk=request.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert signed_in(grace).post(request.get_absolute_url(), {"verdict": "approve"}).status_code in {404, 409}
    ApprovalRequest.objects.filter(pk=request.pk).update(state="expired", expires_at=late + timedelta(days=1))
    assert signed_in(grace).post(request.get_absolute_url(), {"verdict": "approve"}).status_code in {404, 409}
    assert not Vote.objects.exists()
