"""The pages about approvals in a real browser: what people do there, and that everybody can read them."""

import re
from datetime import timedelta
from urllib.parse import urlsplit

import pyotp
import pytest
from allauth.mfa.adapter import get_adapter
from allauth.mfa.models import Authenticator
from axe_playwright_python.base import AXE_SCRIPT
from django.conf import settings as configured
from django.test import Client
from django.utils import timezone
from playwright.sync_api import expect

from agents.accounts import throttle
from agents.models import Step
from approvals import links, rates
from approvals.models import ApprovalRequest, Vote
from tests.factories import approvals, people, policies, screens
from tests.integration.agents import web
from tools.spec import Call, Risk, RiskScore

pytestmark = pytest.mark.django_db(transaction=True)

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
LOW = RiskScore(level=Risk.LOW, reasons=())
SERIOUS = {"serious", "critical"}


@pytest.fixture
def opened(browser, live_server):
    """`opened(user)`: a page of a browser in which this user is signed in; nothing may fail on any of them."""
    contexts, problems = [], []

    def open_(user=None, **options):
        context = browser.new_context(base_url=live_server.url, viewport=PHONE, **options)
        contexts.append(context)
        if user is not None:
            client = Client()
            client.force_login(user)
            value = client.cookies[configured.SESSION_COOKIE_NAME].value
            context.add_cookies([{"name": configured.SESSION_COOKIE_NAME, "value": value, "url": live_server.url}])
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        return page

    yield open_
    for context in contexts:
        context.close()
    # a refusal is a page of its own with its own status, which browsers note
    assert [one for one in problems if "the server responded with a status of 4" not in one] == []


def state(request) -> str:
    return ApprovalRequest.objects.values_list("state", flat=True).get(pk=request.pk)


def link_to(request, user) -> str:
    _, url = links.issue(request, recipient_id=user.pk, channel="email", now=timezone.now())
    return urlsplit(url).path


def test_two_people_make_a_quorum_and_one_takes_back_meanwhile(opened):
    grace, bea = approvals.approvers("grace", "bea")
    request = approvals.request(quorum=2)
    first, second = opened(grace), opened(bea)
    first.goto(request.get_absolute_url())
    first.get_by_role("button", name="Approve exactly this").click()
    expect(first.get_by_text("1 of 2, by members of approvers: grace")).to_be_visible()
    first.get_by_role("button", name="Take back").click()
    expect(first.get_by_text("Taken back.")).to_be_visible()
    first.get_by_role("button", name="Approve exactly this").click()
    expect(first.get_by_text("1 of 2")).to_be_visible()
    second.goto(request.get_absolute_url())
    second.get_by_role("button", name="Approve exactly this").click()
    expect(second.get_by_text("by grace, bea.")).to_be_visible()
    assert state(request) == "approved"
    first.reload()
    first.get_by_role("button", name="Take back").click()
    expect(first.get_by_text("1 of 2, by members of approvers: bea")).to_be_visible()
    assert state(request) == "pending"


def test_what_expired_while_one_read_is_not_approved(opened):
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    page = opened(grace)
    page.goto(request.get_absolute_url())
    ApprovalRequest.objects.filter(pk=request.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    page.get_by_role("button", name="Approve exactly this").click()
    expect(page.get_by_role("alert")).to_contain_text("The time for this request is over.")
    assert state(request) == "pending" and not Vote.objects.exists()


def test_a_forwarded_link_and_the_session_of_another(opened, live_server):
    grace, bea = approvals.approvers("grace", "bea")
    request = approvals.request()
    stranger = opened(people.user("stranger"))
    stranger.goto(link_to(request, grace))
    expect(stranger.get_by_role("heading", name="Nothing here for you")).to_be_visible()
    other = opened(bea)
    other.goto(link_to(request, grace))
    expect(other.get_by_text("sent to somebody else")).to_be_visible()
    # she signs out elsewhere and somebody else signs in, in the same browser, while the page stands open
    client = Client()
    client.force_login(people.user("mallory"))
    session = {"name": configured.SESSION_COOKIE_NAME, "value": client.cookies[configured.SESSION_COOKIE_NAME].value}
    other.context.add_cookies([{**session, "url": live_server.url}])
    other.get_by_role("button", name="Approve exactly this").click()
    expect(other.get_by_role("heading", name="Nothing here for you")).to_be_visible()
    assert state(request) == "pending" and not Vote.objects.exists()


def test_a_scanner_that_follows_every_link_decides_nothing(opened, live_server):
    world = screens.world()
    before = list(ApprovalRequest.objects.order_by("pk").values_list("pk", "state"))
    votes = Vote.objects.count()
    page = opened(world.grace)
    todo, done = [link_to(world.low, world.grace)], set()
    while todo:
        path = todo.pop()
        done.add(path)
        page.goto(path)
        found = page.eval_on_selector_all("a[href]", "all => all.map(one => one.href)")
        for address in found:
            parts = urlsplit(address)
            ours = address.startswith(live_server.url) and parts.path.startswith(("/approvals/", "/a/"))
            where = f"{parts.path}?{parts.query}" if parts.query else parts.path
            # of lines alike one stands for all
            depth = str(world.low.pk) in where or not re.search(r"[0-9a-f-]{36}", where)
            if ours and depth and where not in done and where not in todo:
                todo.append(where)
    assert any("edit" in one for one in done) and any("together" in one for one in done) and len(done) > 8
    assert list(ApprovalRequest.objects.order_by("pk").values_list("pk", "state")) == before
    assert Vote.objects.count() == votes


def test_high_risk_takes_a_second_factor_and_comes_back_to_the_same_request(opened, settings):
    settings.STEP_UP = True
    (grace,) = approvals.approvers("grace")
    rates.forget(throttle.code_key(grace.pk))
    request = approvals.request()
    page = opened(grace)
    page.goto(request.get_absolute_url())
    expect(page.get_by_text("set one up", exact=True)).to_be_visible()
    assert not page.get_by_role("button", name="Approve exactly this").count()
    secret = pyotp.random_base32()
    Authenticator.objects.create(user=grace, type="totp", data={"secret": get_adapter().encrypt(secret)})
    page.reload()
    page.get_by_role("link", name="Second factor, then approve").click()
    page.get_by_label("Code").fill("000000")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("This code is not right")).to_be_visible()
    page.get_by_label("Code").fill(pyotp.TOTP(secret).now())
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url(f"**{request.get_absolute_url()}")
    page.get_by_role("button", name="Approve exactly this").click()
    expect(page.get_by_text("with a second factor")).to_be_visible()
    assert state(request) == "approved"


def test_like_requests_of_low_risk_are_decided_together_those_ticked_and_no_other(opened):
    (grace,) = approvals.approvers("grace")
    version = screens.policy()
    members = [screens.shell(version, number) for number in range(3)]
    page = opened(grace, java_script_enabled=False)
    page.goto("/approvals/")
    page.get_by_role("link", name="Decide 3 alike together…").click()
    for one in members:
        expect(page.get_by_text(one.command, exact=True)).to_be_visible()
    page.locator(f'input[value="{members[1].pk}"]').uncheck()
    page.get_by_role("button", name="Approve the ticked ones").click()
    expect(page.get_by_text("Decided: 2 requests.")).to_be_visible()
    assert [state(one) for one in members] == ["approved", "pending", "approved"]


def test_editing_shows_what_would_change_and_has_it_decided_anew(opened):
    grace, ada = approvals.approvers("grace")[0], people.user("ada")
    policies.publish(("*", "ask"))
    step = web.step(
        web.job(ada), state="waiting_approval", tool="files.write", arguments={"path": "a.txt", "content": "one\ntwo\n"}
    )
    call = {"tool": "files.write", "schema_version": 1, "arguments": step.arguments, "workspace_id": "w"}
    request = web.request(step, call=call, command="files.write a.txt")
    page = opened(grace, java_script_enabled=False)
    page.goto(request.get_absolute_url())
    page.get_by_role("link", name="Edit the call…").click()
    page.get_by_label("content").fill("one\nthree\n")
    page.get_by_role("button", name="Show what would change").click()
    expect(page.locator(".diff-del")).to_have_text("-two")
    expect(page.locator(".diff-add")).to_have_text("+three")
    page.get_by_role("button", name="Edit it so").click()
    expect(page.get_by_text("Edited.")).to_be_visible()
    assert state(request) == "void"
    assert Step.objects.get(pk=step.pk).arguments == {"path": "a.txt", "content": "one\nthree\n"}


def test_asking_back_and_answering_without_javascript(opened):
    (grace,) = approvals.approvers("grace")
    request = approvals.request(context={"requester": "ada"})
    page = opened(grace, java_script_enabled=False)
    page.goto(request.get_absolute_url())
    page.get_by_label("Ask back").fill("Which <b>tests</b>?\u202e")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.get_by_text("ada is asked.")).to_be_visible()
    owner = opened(request.requester, java_script_enabled=False)
    owner.goto(request.get_absolute_url())
    expect(owner.get_by_text("Which <b>tests</b>?⟦U+202E⟧")).to_be_visible()
    owner.get_by_label("Your answer").fill("All of them.")
    owner.get_by_role("button", name="Answer").click()
    page.reload()
    expect(page.get_by_text("All of them.")).to_be_visible()
    assert state(request) == "pending"


def test_keys_move_the_focus_and_decide_nothing(opened):
    (grace,) = approvals.approvers("grace")
    low = {"risk": LOW, "call": Call(tool="shell.run", schema_version=1, arguments={}, workspace_id="w")}
    first = approvals.request(title="first", expires_s=600, **low)
    approvals.request(title="second", expires_s=900, **low)
    page = opened(grace)
    page.goto("/approvals/")
    page.keyboard.press("j")
    expect(page.get_by_role("link", name="first")).to_be_focused()
    page.keyboard.press("j")
    expect(page.get_by_role("link", name="second")).to_be_focused()
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{first.get_absolute_url()}")
    page.keyboard.press("a")
    expect(page.get_by_role("button", name="Approve exactly this")).to_be_focused()
    page.keyboard.press("d")
    expect(page.get_by_label("Reason for denying")).to_be_focused()
    page.keyboard.type("ad")
    expect(page.get_by_label("Reason for denying")).to_have_value("ad")
    assert state(first) == "pending"


@pytest.mark.timeout(480)
def test_everybody_can_read_every_page_and_nothing_scrolls_sideways(opened):
    world = screens.world()
    secret = pyotp.random_base32()
    stranger = opened()
    page = opened(world.grace)
    found = check(stranger, "/accounts/login/")
    for path in ["/", *world.paths, world.question.get_absolute_url(), "/accounts/profile/", "/mailbox/"]:
        found += check(page, path)
    Authenticator.objects.create(user=world.grace, type="totp", data={"secret": get_adapter().encrypt(secret)})
    found += check(page, "/accounts/2fa/again/?next=/approvals/")
    assert found == []


def check(page, path: str) -> list[str]:
    """What is seriously wrong with a page at both widths; colours are the same at both."""
    page.set_viewport_size(PHONE)
    page.goto(path)
    found = []
    for width in (PHONE, DESK):
        page.set_viewport_size(width)
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            found.append(f"{path} scrolls sideways at {width['width']} px")
        rules = "{}" if width == PHONE else "{'color-contrast': {enabled: false}}"
        options = f"{{resultTypes: ['violations'], rules: {rules}}}"
        # one evaluation: nothing of it stays in the page
        result = page.evaluate(f"(() => {{ {AXE_SCRIPT}; return axe.run({options}); }})()")
        found += [
            f"{path} at {width['width']} px: {one['id']}: {one['help']}: {[node['html'][:120] for node in one['nodes']]}"
            for one in result["violations"]
            if one["impact"] in SERIOUS
        ]
    return found
