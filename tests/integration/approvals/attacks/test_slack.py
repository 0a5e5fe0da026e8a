"""Attacks on Slack's door: replays, forgeries, broken headers, accounts of others, messages that were about another call."""

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from celery import current_app
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from approvals import notify
from approvals.models import ApprovalRequest, ChannelIdentity, Notification, SeenSignature, Vote
from approvals.slack import api, identities
from tests import slackserver
from tests.factories import approvals
from tests.slackserver import SECRET, TEAM, SlackServer, signed
from tools.spec import Risk, RiskScore

pytestmark = pytest.mark.django_db

LOW = RiskScore(level=Risk.LOW, reasons=())
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def slack(settings, monkeypatch) -> Iterator[SlackServer]:
    monkeypatch.setattr(current_app, "send_task", lambda name, args, **options: None)
    monkeypatch.setattr(api, "TIMEOUT_S", 120)  # no test depends on how fast the server answers
    monkeypatch.setattr(api, "HURRY_S", 120)
    with slackserver.running() as server:
        settings.SLACK_API_URL, settings.SLACK_BOT_TOKEN = server.url, slackserver.TOKEN
        settings.SLACK_SIGNING_SECRET, settings.SLACK_CHANNEL = SECRET, slackserver.CHANNEL
        yield server


def linked(user: User, account: str) -> User:
    ChannelIdentity.objects.create(user=user, channel="slack", team=TEAM, external_id=account, linked_at=timezone.now())
    return user


def asked(slack: SlackServer, **fields: Any) -> tuple[ApprovalRequest, dict[str, Any]]:
    """A request, and its message in Slack."""
    request = approvals.request(**{"risk": LOW, **fields})
    before = set(slack.messages)
    row = Notification.objects.get(request=request, channel="slack", kind="request")
    assert notify.deliver(row.pk, now=timezone.now())
    (key,) = set(slack.messages) - before
    return request, slack.messages[key]


def send(body: bytes, headers: dict[str, str]) -> int:
    return Client().post("/slack/interactivity/", body, content_type=FORM, headers=headers).status_code


def state(request: ApprovalRequest) -> str:
    return ApprovalRequest.objects.values_list("state", flat=True).get(pk=request.pk)


def test_a_replayed_request_is_refused_and_does_nothing(slack):
    linked(approvals.approvers("grace")[0], "U0GRACE")
    request, message = asked(slack, quorum=2)
    body, headers = signed(slack.press(message, "approve", account="U0GRACE"))
    assert send(body, headers) == 200
    votes = Vote.objects.count()
    Vote.objects.all().delete()  # as after a vote that was taken back: the replay must not bring it back
    assert send(body, headers) == 409
    assert send(body, {**headers, "X-Slack-Retry-Num": "1"}) == 409
    assert votes == 1 and not Vote.objects.exists()
    assert state(request) == "pending"


def test_a_signature_is_remembered_for_longer_than_it_holds(slack):
    linked(approvals.approvers("grace")[0], "U0GRACE")
    _, message = asked(slack, quorum=2)
    body, headers = signed(slack.press(message, "approve", account="U0GRACE"))
    assert send(body, headers) == 200
    SeenSignature.objects.update(at=timezone.now() - timedelta(seconds=301))
    assert send(body, headers) == 409


@pytest.mark.parametrize(
    "changes",
    [
        {"X-Slack-Signature": "v0=" + "0" * 64},
        {"X-Slack-Signature": ""},
        {"X-Slack-Signature": "v0="},
        {"X-Slack-Signature": "v1=" + "0" * 64},
        {"X-Slack-Signature": "v0=" + "ä" * 64},
        {"X-Slack-Request-Timestamp": "now"},
        {"X-Slack-Request-Timestamp": "1e9"},
        {"X-Slack-Request-Timestamp": ""},
        {"X-Slack-Request-Timestamp": "-1"},
        {"X-Slack-Request-Timestamp": "9" * 400},
        {"X-Slack-Request-Timestamp": "\u0661\u0667" + "\u0660" * 8},
        {"X-Slack-Request-Timestamp": " 1700000000"},
    ],
)
def test_a_forged_signature_or_a_broken_header_is_refused(slack, changes):
    linked(approvals.approvers("grace")[0], "U0GRACE")
    request, message = asked(slack)
    body, headers = signed(slack.press(message, "approve", account="U0GRACE"))
    assert send(body, {**headers, **changes}) == 401
    assert state(request) == "pending" and not SeenSignature.objects.exists()


@pytest.mark.parametrize("seconds", [-600, 600, -(10**9)])
def test_a_signature_of_another_time_is_refused(slack, seconds):
    linked(approvals.approvers("grace")[0], "U0GRACE")
    request, message = asked(slack)
    body, headers = signed(slack.press(message, "approve", account="U0GRACE"), at=time.time() + seconds)
    assert send(body, headers) == 401
    assert state(request) == "pending"


def test_a_body_that_was_changed_or_is_no_text_is_refused(slack):
    linked(approvals.approvers("grace")[0], "U0GRACE")
    request, message = asked(slack)
    body, headers = signed(slack.press(message, "approve", account="U0OTHER"))
    assert send(body.replace(b"U0OTHER", b"U0GRACE"), headers) == 401
    assert send(b"\xff\xfe\x00" + body, headers) == 401
    assert send(b"", headers) == 401
    assert send(b"x" * 300_000, headers) == 413
    assert state(request) == "pending"


def test_a_secret_of_another_app_signs_nothing_here(slack, settings):
    linked(approvals.approvers("grace")[0], "U0GRACE")
    request, message = asked(slack)
    body, headers = signed(slack.press(message, "approve", account="U0GRACE"), secret="another")
    assert send(body, headers) == 401
    settings.SLACK_SIGNING_SECRET = " "
    body, headers = signed(slack.press(message, "approve", account="U0GRACE"), secret=" ")
    assert send(body, headers) == 401
    assert state(request) == "pending"


def test_an_account_of_another_workspace_with_the_same_id_is_nobody(slack):
    linked(approvals.approvers("grace")[0], "U0GRACE")
    request, message = asked(slack)
    press = slack.press(message, "approve", account="U0GRACE", team={"id": "T0EVIL"})
    assert send(*signed(press)) == 200
    assert state(request) == "pending" and not Vote.objects.exists()


def test_a_button_of_one_request_does_not_decide_another_nor_one_whose_call_has_changed(slack):
    linked(approvals.approvers("grace")[0], "U0GRACE")
    one, message = asked(slack)
    other, _ = asked(slack, command="git push origin evil", parent_id="another")
    ApprovalRequest.objects.filter(pk=other.pk).update(digest="f" * 64)
    swapped = slack.press(message, "approve", account="U0GRACE")
    swapped["actions"][0]["value"] = f"{other.pk}:{one.digest}"
    assert send(*signed(swapped)) == 200
    ApprovalRequest.objects.filter(pk=one.pk).update(digest="e" * 64)
    assert send(*signed(slack.press(message, "approve", account="U0GRACE"))) == 200
    assert (state(one), state(other)) == ("pending", "pending") and not Vote.objects.exists()


@pytest.mark.parametrize("value", ["", ":", "x:y", "0" * 400, "' OR 1=1 --", "\x00", "{}:{}"])
def test_a_button_that_carries_nonsense_decides_nothing(slack, value):
    linked(approvals.approvers("grace")[0], "U0GRACE")
    request, message = asked(slack)
    press = slack.press(message, "approve", account="U0GRACE")
    press["actions"][0]["value"] = value
    assert send(*signed(press)) == 200
    assert state(request) == "pending"


def test_nobody_links_an_account_that_slack_knows_as_another_person_s(slack):
    """Mallory sends grace a link that would make mallory's account hers: it says whose it is, and is refused."""
    (grace,) = approvals.approvers("grace")
    slack.people["U0MALLORY"] = "mallory@example.invalid"
    path = urlsplit(identities.link_for(identities.Account(team=TEAM, user="U0MALLORY", name="<b>grace</b>"))).path
    client = Client()
    client.force_login(grace)
    page = client.get(path).content.decode()
    assert "U0MALLORY" in page and "<b>grace</b>" not in page
    assert client.post(path).status_code == 409
    slack.people.clear()  # Slack does not say
    assert client.post(path).status_code == 409
    slack.broken = "ratelimited"
    assert client.post(path).status_code == 409
    assert not ChannelIdentity.objects.exists()


def test_a_link_to_an_account_is_not_made_up_used_twice_or_used_late(slack, monkeypatch):
    grace, alan = approvals.approvers("grace", "alan")
    slack.people["U0GRACE"] = grace.email
    path = urlsplit(identities.link_for(identities.Account(team=TEAM, user="U0GRACE"))).path
    client, other = Client(), Client()
    client.force_login(grace)
    other.force_login(alan)
    token = path.split("/")[3]
    for wrong in (token[:-1] + "x", token.replace(token[3], "A", 1) + "A", "x", "a:b:c"):
        assert client.post(f"/slack/link/{wrong}/").status_code == 404
    assert client.post(path).status_code == 303
    ChannelIdentity.objects.all().delete()
    assert client.post(path).status_code == 409
    monkeypatch.setattr(identities, "GOOD_S", -1)
    late = urlsplit(identities.link_for(identities.Account(team=TEAM, user="U0GRACE"))).path
    assert client.post(late).status_code == 404
    assert not ChannelIdentity.objects.exists()


def test_nobody_unlinks_another_s_account(slack):
    grace, alan = approvals.approvers("grace", "alan")
    linked(grace, "U0GRACE")
    client = Client()
    client.force_login(alan)
    client.post(f"/slack/unlink/{ChannelIdentity.objects.get().pk}/")
    assert ChannelIdentity.objects.count() == 1


def test_who_left_decides_nothing_by_an_account_that_is_still_linked(slack):
    (grace,) = approvals.approvers("grace")
    linked(grace, "U0GRACE")
    request, message = asked(slack)
    User.objects.filter(pk=grace.pk).update(is_active=False)
    assert send(*signed(slack.press(message, "approve", account="U0GRACE"))) == 200
    assert state(request) == "pending" and not Vote.objects.exists()


def test_text_of_others_is_no_markup_in_slack(slack):
    approvals.approvers("grace")
    lie = "<!channel> <@U1> <https://evil.example|Approve> *bold* `x` \u202e&"
    _, message = asked(slack, command=lie, title=lie, context={"agent": lie, "requester": lie, "goal": lie})
    assert "<!channel>" not in message["text"] and "&lt;!channel&gt;" in message["text"]
    types = []

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            if "text" in part and isinstance(part["text"], str):
                types.append(part["type"])
                assert "\u202e" not in part["text"]
            for one in part.values():
                walk(one)
        elif isinstance(part, list):
            for one in part:
                walk(one)

    walk(message["blocks"])
    assert set(types) == {"plain_text", "text"}
    assert message["parse"] == "none" and message["link_names"] is False
