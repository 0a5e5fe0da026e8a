"""The page in a real browser, at the width of a phone."""

import re

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from approvals import notify
from approvals.models import ApprovalRequest, MailboxMessage, Notification
from tests.factories import approvals, people
from tools.spec import Call

pytestmark = pytest.mark.django_db(transaction=True)

PHONE = {"width": 390, "height": 844}
LONG = "git push origin " + "a-very-long-branch-name-without-any-space-" * 20 + "\u202egnp.exe"


@pytest.fixture
def page(browser, live_server):
    context = browser.new_context(viewport=PHONE, device_scale_factor=2, has_touch=True)
    opened = context.new_page()
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    yield opened
    context.close()
    assert problems == []


def sign_in(page, live_server, user, path: str) -> None:
    user.set_password("a-long-password")
    user.save()
    page.goto(live_server.url + path)
    page.fill("input[name=username]", user.username)
    page.fill("input[name=password]", "a-long-password")
    page.click("main button[type=submit]")


def fits(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def hostile(**changes) -> ApprovalRequest:
    return approvals.request(
        command=LONG,
        call=Call(
            tool="git.push",
            schema_version=1,
            arguments={"branch": LONG, "notes": "line\n" * 100},
            workspace_id="w",
        ),
        preview="diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n+" + "new" * 200,
        context={"agent": "helper", "repository": "shop", "goal": LONG, "reason": LONG},
        **changes,
    )


def test_from_the_mail_to_an_approval_on_a_phone(page, live_server, settings):
    settings.PUBLIC_URL = live_server.url
    settings.EMAIL_BACKEND = "approvals.channels.mailbox.MailboxBackend"
    settings.MAILBOX_ENABLED = True
    (grace,) = approvals.approvers("grace")
    request = hostile()
    notify.deliver(Notification.objects.get(request=request).pk, now=timezone.now())
    sign_in(page, live_server, grace, "/mailbox/")
    page.click("main .items a")
    page.get_by_role("link", name="Follow the link in this mail").wait_for()
    assert fits(page)
    page.frame_locator("iframe").get_by_role("link", name="Read it all and decide").click()
    page.wait_for_url(re.compile(r"/approvals/[0-9a-f-]{36}/$"))
    page.get_by_role("button", name="Approve exactly this").wait_for()
    assert fits(page)
    command = page.locator("#command")
    assert "⟦U+202E⟧" in command.inner_text()
    assert command.evaluate("node => node.scrollWidth <= node.clientWidth")
    page.get_by_role("button", name="Approve exactly this").click()
    page.get_by_text("by grace").first.wait_for()
    assert ApprovalRequest.objects.get(pk=request.pk).state == "approved"
    assert MailboxMessage.objects.count() == 1


def test_denying_with_a_reason(page, live_server):
    (grace,) = approvals.approvers("grace")
    request = hostile()
    sign_in(page, live_server, grace, request.get_absolute_url())
    page.get_by_role("button", name="Deny").click()  # the browser itself asks for the reason
    assert ApprovalRequest.objects.get(pk=request.pk).state == "pending"
    page.get_by_label("Reason for denying").fill("The tests are red.")
    page.get_by_role("button", name="Deny").click()
    page.get_by_text("The tests are red.").wait_for()
    assert ApprovalRequest.objects.get(pk=request.pk).state == "denied"


def test_both_decisions_are_in_reach_and_cover_no_text(page, live_server):
    (grace,) = approvals.approvers("grace")
    sign_in(page, live_server, grace, hostile().get_absolute_url())
    approve, bar = page.get_by_role("button", name="Approve exactly this"), page.locator(".decide-bar")
    assert page.locator("#command .hidden-mark").count()
    expect(bar).not_to_have_class(re.compile("sticks"))  # something is hidden in the call: the button waits at the end
    page.goto(live_server.url + approvals.request(preview="a line\n" * 200, title="plain").get_absolute_url())
    expect(bar).to_have_class(re.compile("sticks"))
    expect(approve).to_be_in_viewport(ratio=1)
    page.evaluate("scrollTo(0, 900)")
    expect(approve).to_be_in_viewport(ratio=1)
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    above = page.locator("article > section").last.bounding_box()
    assert above["y"] + above["height"] <= bar.bounding_box()["y"], "the bar lies on the last card"
    page.evaluate("scrollTo(0, 0)")
    page.get_by_role("link", name="Deny…").click()
    expect(page.get_by_label("Reason for denying")).to_be_in_viewport(ratio=1)
    expect(page.get_by_label("Reason for denying")).to_be_focused()
    assert fits(page)


def test_deciding_needs_no_javascript(browser, live_server):
    (grace,) = approvals.approvers("grace")
    yes, no = approvals.request(), approvals.request(requester=people.user("bob"))
    page = browser.new_context(viewport=PHONE, java_script_enabled=False).new_page()
    sign_in(page, live_server, grace, yes.get_absolute_url())
    page.get_by_role("button", name="Approve exactly this").click()
    page.get_by_text("Your approval counts.").wait_for()
    page.goto(live_server.url + no.get_absolute_url())
    page.get_by_role("link", name="Deny…").click()
    page.get_by_label("Reason for denying").fill("Not today.")
    page.get_by_role("button", name="Deny").click()
    page.get_by_text("Not today.").wait_for()
    page.context.close()
    states = ApprovalRequest.objects.in_bulk([yes.pk, no.pk])
    assert (states[yes.pk].state, states[no.pk].state) == ("approved", "denied")


def test_the_admin_publishes_and_decides_through_its_dialogs(browser, live_server):
    from tests.integration.approvals.test_admin import change, draft

    root = people.user("root", groups=("approvers",), is_staff=True, is_superuser=True)
    request, version = approvals.request(), draft()
    page = browser.new_context().new_page()
    sign_in(page, live_server, root, "/")
    page.goto(live_server.url + change(version))
    page.get_by_role("link", name="Publish").click()
    page.get_by_role("button", name="Publish").click()
    page.get_by_text("house@1 is in force.").wait_for()
    page.goto(live_server.url + change(request))
    page.get_by_role("link", name="Deny").click()
    page.get_by_label("Reason").fill("red")
    page.get_by_role("button", name="Deny").click()
    page.get_by_text("The request is denied.").wait_for()
    assert ApprovalRequest.objects.get(pk=request.pk).state == "denied"
    page.context.close()
