"""The Slack app against a server that speaks Slack's Web API: messages, presses, modals, linked accounts."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import pytest
from celery import current_app
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from approvals import notify, outbox
from approvals.decisions import decide
from approvals.models import ApprovalRequest, ChannelIdentity, Notification, Vote
from approvals.slack import api, press
from approvals.taking_back import take_back
from audit.models import Record
from tests import slackserver
from tests.factories import approvals
from tests.slackserver import SlackServer, signed
from tools.spec import Risk, RiskScore

pytestmark = pytest.mark.django_db

LOW = RiskScore(level=Risk.LOW, reasons=("It reads.",))
ADDRESS = "/slack/interactivity/"


@pytest.fixture
def slack(settings, monkeypatch) -> Iterator[SlackServer]:
    monkeypatch.setattr(api, "TIMEOUT_S", 120)  # no test depends on how fast the server answers
    monkeypatch.setattr(api, "HURRY_S", 120)
    with slackserver.running() as server:
        settings.SLACK_API_URL, settings.SLACK_BOT_TOKEN = server.url, slackserver.TOKEN
        settings.SLACK_SIGNING_SECRET, settings.SLACK_CHANNEL = slackserver.SECRET, slackserver.CHANNEL
        yield server


@pytest.fixture(autouse=True)
def worker(monkeypatch) -> list[tuple[str, list[str]]]:
    """What was handed to the broker; `work` does it."""
    sent: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(current_app, "send_task", lambda name, args, **options: sent.append((name, args)))
    return sent


def work(sent: list[tuple[str, list[str]]]) -> None:
    """Does what the workers would, until nothing is left; mails stay."""
    while due := Notification.objects.filter(channel="slack", state="queued", not_before__lte=timezone.now()):
        for row in due.order_by("not_before", "pk"):
            notify.deliver(row.pk, now=timezone.now())
    for name, args in sent:
        if name == press.SAY:
            api.say(*args)
    sent.clear()


def linked(user: User, account: str = "U0GRACE") -> User:
    ChannelIdentity.objects.create(
        user=user, channel="slack", team=slackserver.TEAM, external_id=account, linked_at=timezone.now()
    )
    return user


def post(payload: dict[str, Any], **how: Any):
    body, headers = signed(payload, **how)
    return Client().post(ADDRESS, body, content_type="application/x-www-form-urlencoded", headers=headers)


def state(request: ApprovalRequest) -> str:
    return ApprovalRequest.objects.values_list("state", flat=True).get(pk=request.pk)


def words(message: dict[str, Any]) -> str:
    return json.dumps(message["blocks"], ensure_ascii=False)


def test_a_press_of_a_linked_account_approves_and_the_message_follows(slack, worker):
    linked(approvals.approvers("grace")[0])
    request = approvals.request(risk=LOW)
    work(worker)
    message = slack.only()
    assert list(slack.buttons(message)) == ["approve", "deny", "open"]
    assert "git push origin main" in words(message)
    answer = post(slack.press(message, "approve", account="U0GRACE"))
    assert (answer.status_code, answer.content) == (200, b"")
    assert state(request) == "approved"
    vote = Vote.objects.get(request=request)
    assert (vote.user.username, vote.channel) == ("grace", "slack")
    work(worker)
    assert "Approved by grace." in words(slack.only())
    assert not slack.buttons(slack.only())
    assert slack.said[0]["user"] == "U0GRACE" and slack.said[0]["text"] == "Approved."


@pytest.mark.django_db(transaction=True)
def test_presses_come_over_http_from_outside(slack, worker, live_server):
    linked(approvals.approvers("grace")[0])
    request = approvals.request(risk=LOW)
    work(worker)
    body, headers = signed(slack.press(slack.only(), "approve", account="U0GRACE"))
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    with urlopen(Request(live_server.url + ADDRESS, body, headers), timeout=60) as answer:
        assert answer.status == 200
    assert state(request) == "approved"


def test_a_denial_asks_for_its_reason_in_a_modal(slack, worker):
    linked(approvals.approvers("grace")[0])
    request = approvals.request(risk=LOW)
    work(worker)
    assert post(slack.press(slack.only(), "deny", account="U0GRACE")).status_code == 200
    assert state(request) == "pending"
    (view,) = slack.views
    answer = post(slack.submit(view, " ", account="U0GRACE"))
    assert answer.json() == {"response_action": "errors", "errors": {"reason": "Say why."}}
    assert state(request) == "pending"
    answer = post(slack.submit(view, "Use a <branch>.", account="U0GRACE"))
    assert (answer.status_code, answer.content) == (200, b"")
    request.refresh_from_db()
    assert (request.state, request.answer) == ("denied", "Use a <branch>.")
    work(worker)
    assert "Denied by grace." in words(slack.only()) and "Use a <branch>." in words(slack.only())


@pytest.mark.parametrize("how", ["high", "second factor"])
def test_what_is_for_the_page_has_a_link_only_and_a_press_made_up_decides_nothing(slack, worker, how):
    linked(approvals.approvers("grace")[0])
    request = approvals.request() if how == "high" else approvals.request(risk=LOW)
    if how != "high":
        ApprovalRequest.objects.filter(pk=request.pk).update(second_factor=True)
    work(worker)
    (button,) = slack.buttons(slack.only()).values()
    assert (button["action_id"], button["url"].partition("/a/")[1]) == ("open", "/a/")
    made_up = slack.press(slack.only(), "open", account="U0GRACE")
    made_up["actions"] = [{"action_id": "approve", "value": f"{request.pk}:{request.digest}"}]
    assert post(made_up).status_code == 200
    assert state(request) == "pending"
    work(worker)
    assert "page" in slack.said[-1]["text"]


def test_a_press_is_judged_as_a_vote_on_the_page_is(slack, worker):
    ada, grace = approvals.approvers("ada", "grace")
    linked(ada, "U0ADA")
    linked(grace)
    request = approvals.request(requester=ada, risk=LOW)
    work(worker)
    message = slack.only()
    post(slack.press(message, "approve", account="U0ADA"))
    work(worker)
    assert "own request" in slack.said[-1]["text"]
    grace.groups.clear()
    post(slack.press(message, "approve", account="U0GRACE"))
    work(worker)
    assert "Members of the group" in slack.said[-1]["text"]
    assert state(request) == "pending"
    assert not Vote.objects.exists()


def test_a_quorum_is_seen_to_grow_in_the_message(slack, worker):
    grace, alan = approvals.approvers("grace", "alan")
    linked(grace)
    request = approvals.request(risk=LOW, quorum=2)
    work(worker)
    post(slack.press(slack.only(), "approve", account="U0GRACE"))
    work(worker)
    assert "Approved so far by grace." in words(slack.only())
    assert "more are needed" in slack.said[-1]["text"]
    decide(request_id=request.pk, by=alan, verdict="approve", reason="", channel="page", now=timezone.now())
    work(worker)
    assert "Approved by alan." in words(slack.only())


def test_what_another_channel_decides_changes_the_message_and_taking_back_brings_the_buttons_back(slack, worker):
    (grace,) = approvals.approvers("grace")
    request = approvals.request(risk=LOW)
    work(worker)
    decide(request_id=request.pk, by=grace, verdict="approve", reason="", channel="api", now=timezone.now())
    work(worker)
    assert not slack.buttons(slack.only())
    take_back(request_id=request.pk, by=grace, channel="page", now=timezone.now())
    work(worker)
    assert "approve" in slack.buttons(slack.only())


def test_what_is_decided_while_its_message_is_under_way_changes_it_afterwards(slack, worker, monkeypatch):
    (grace,) = approvals.approvers("grace")
    request = approvals.request(risk=LOW)
    # in the sender's thread, between what it has read and what it writes
    channel = outbox.channels.named("slack")
    assert channel is not None
    send = channel.send

    def slow(message):
        place = send(message)
        if message.kind == "request":
            decide(request_id=request.pk, by=grace, verdict="deny", reason="No.", channel="page", now=timezone.now())
        return place

    monkeypatch.setattr(channel, "send", slow)
    work(worker)
    assert "Denied by grace." in words(slack.only())


def test_an_unknown_account_gets_a_link_to_itself_alone_and_decides_nothing(slack, worker, settings):
    (grace,) = approvals.approvers("grace")
    slack.people["U0GRACE"] = "Grace@example.invalid"
    request = approvals.request(risk=LOW)
    work(worker)
    post(slack.press(slack.only(), "approve", account="U0GRACE"))
    assert state(request) == "pending"
    work(worker)
    (said,) = slack.said
    (path,) = re.findall(r"/slack/link/\S+/", said["text"])
    assert Client().get(path).status_code == 302
    client = Client()
    client.force_login(grace)
    page = client.get(path)
    assert page.status_code == 200 and "u0grace" in page.content.decode()
    assert not ChannelIdentity.objects.exists()
    assert client.post(path).status_code == 303
    identity = ChannelIdentity.objects.get()
    assert (identity.user, identity.team, identity.external_id) == (grace, slackserver.TEAM, "U0GRACE")
    assert Record.objects.filter(event="identity.linked", target_id=str(grace.pk)).exists()
    post(slack.press(slack.only(), "approve", account="U0GRACE"))
    assert state(request) == "approved"
    assert client.post(path).status_code == 409
    assert "U0GRACE" in client.get("/slack/").content.decode()
    assert client.post(f"/slack/unlink/{identity.pk}/").status_code == 303
    assert not ChannelIdentity.objects.exists()


def test_like_requests_are_one_message_that_lists_them_and_follows_each(slack, worker):
    linked(approvals.approvers("grace")[0])
    asked = [approvals.request(risk=LOW, parent_id="job-1", title=f"change {number}") for number in range(3)]
    work(worker)
    assert len(slack.messages) == 1  # the first at once
    due = Notification.objects.filter(request=asked[1], channel="slack").get().not_before
    rows = Notification.objects.filter(channel="slack", state="queued").order_by("pk")
    assert notify.deliver(rows[0].pk, now=due)
    assert len(slack.messages) == 2
    (several,) = [one for one in slack.messages.values() if "alike" in one["text"]]
    assert "1. change 1" in words(several) and "2. change 2" in words(several) and "change 0" not in words(several)
    assert not Notification.objects.filter(channel="slack", state="queued").exists()
    grace = User.objects.get(username="grace")
    decide(request_id=asked[2].pk, by=grace, verdict="approve", reason="", channel="page", now=timezone.now())
    work(worker)
    (several,) = [one for one in slack.messages.values() if "alike" in one["text"]]
    assert "Approved by grace." in words(several)
    assert list(slack.buttons(several)) == ["open:1"]


@pytest.mark.parametrize(("error", "becomes"), [("ratelimited", "queued"), ("invalid_blocks", "failed")])
def test_what_slack_refuses_is_tried_again_where_that_may_help(slack, worker, error, becomes):
    approvals.approvers("grace")
    request = approvals.request(risk=LOW)
    slack.broken = error
    row = Notification.objects.get(request=request, channel="slack")
    assert not notify.deliver(row.pk, now=timezone.now())
    row.refresh_from_db()
    assert row.state == becomes and error in row.error and slackserver.TOKEN not in row.error


@pytest.mark.parametrize(
    "payload",
    ["[]", '"x"', "null", "{}", '{"type": "block_actions"}', '{"type": "block_actions", "actions": []}', "{"],
)
def test_what_is_no_press_is_refused_in_words(slack, payload):
    body, headers = slackserver.signed_text(payload)
    answer = Client().post(ADDRESS, body, content_type="application/x-www-form-urlencoded", headers=headers)
    assert answer.status_code == 400


def test_without_a_secret_there_is_no_door(settings):
    assert post({"type": "block_actions"}).status_code == 404


def test_workers_know_how_to_answer_whoever_pressed(slack):
    current_app.loader.import_default_modules()  # as a worker does when it starts
    current_app.tasks[press.SAY](slackserver.CHANNEL, "U0GRACE", "a <b> & c")
    assert slack.said == [{"channel": slackserver.CHANNEL, "user": "U0GRACE", "text": "a &lt;b&gt; &amp; c"}]


def test_the_menu_leads_to_the_accounts_where_slack_is_set_up(slack, settings):
    client = Client()
    client.force_login(approvals.approvers("grace")[0])
    assert 'href="/slack/"' in client.get("/approvals/").content.decode()
    settings.SLACK_SIGNING_SECRET = ""
    assert 'href="/slack/"' not in client.get("/approvals/").content.decode()
