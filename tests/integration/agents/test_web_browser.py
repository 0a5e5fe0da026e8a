"""The job page in a real browser: it follows the job, survives the server's restart and keeps hostile text as text."""

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from playwright.sync_api import Browser, BrowserContext, Page, expect

from agents import feed
from agents.models import Job, Step
from config.devstack.places import free_port
from tests.factories.people import user
from tests.integration.agents import api, web

pytestmark = pytest.mark.django_db(transaction=True)

WIDTHS = (360, 768, 1280)


@pytest.fixture(scope="module")
def server(django_db_setup, django_db_blocker) -> Iterator[web.Server]:
    with django_db_blocker.unblock(), web.served() as running:
        yield running


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context(viewport={"width": 1280, "height": 900})
    yield opened
    opened.close()


def visit(context: BrowserContext, server: web.Server, who: User, path: str) -> Page:
    """The page for this user; what the browser complains about stands in `page.wrong`."""
    value = web.signed_in(who).cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": value, "url": server.url}])
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console", lambda message: wrong.append(message.text) if "Content Security Policy" in message.text else None
    )
    page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.wrong = wrong  # type: ignore[attr-defined]
    page.goto(server.url + path)
    return page


def running_job() -> tuple[Job, Step]:
    job = web.job(user("ada"))
    step = web.step(job, state="running", tool="shell.exec", arguments={"argv": ["make"]})
    web.write(job, feed.Entry(kind="job", data={"state": "running"}), web.output(step, "before\n"))
    return job, step


def numbers(page: Page) -> list[int]:
    return [int(one) for one in page.eval_on_selector_all(".log-block", "all => all.map(one => one.dataset.seq)")]


def test_the_page_follows_its_job_to_the_end(server, context):
    job, step = running_job()
    page = visit(context, server, user("ada"), f"/jobs/{job.pk}/")
    log = page.locator("#log")
    expect(log).to_contain_text("before")
    expect(page.locator("#live")).to_have_text("live")
    web.write(job, web.output(step, "half a "), web.output(step, f"line {web.HOSTILE}\n"))
    expect(log).to_contain_text("half a line <script>alert('x')</script>")
    token = {"text": "I think so", "attempt": 1}
    web.write(job, feed.Entry(kind="token", data=token, step_id=step.pk))
    expect(page.locator(".log-token")).to_contain_text("I think so")
    Step.objects.filter(pk=step.pk).update(state="succeeded", lease_until=None)
    data = {"state": "succeeded", "key": "1.1", "tool": "shell.exec", "seq": 1, "attempt": 1}
    web.write(job, feed.Entry(kind="step", data=data, step_id=step.pk))
    expect(page.locator("#part-steps .badge")).to_have_text("succeeded")
    web.end(job, outcome=f"Done. {web.HOSTILE}")
    expect(page.locator("#live")).to_have_text("ended")
    expect(page.locator("#part-head")).to_contain_text("Outcome")
    expect(page.locator("#sentence")).to_contain_text("Succeeded after")
    expect(page.get_by_role("button", name="Cancel job")).to_have_count(0)
    assert page.locator("#log img, #log script, #part-head img, #part-head script").count() == 0
    assert page.wrong == []


def test_the_page_survives_a_restart_of_the_server_without_gap_or_double(context):
    job, step = running_job()
    port = free_port()
    with web.served(port) as first:
        page = visit(context, first, user("ada"), f"/jobs/{job.pk}/")
        expect(page.locator("#live")).to_have_text("live")
        web.write(job, web.output(step, "one\n", "stdout"), web.output(step, "two\n", "stderr"))
        expect(page.locator("#log")).to_contain_text("two")
    web.write(job, web.output(step, "three\n", "stdout"))
    with web.served(port):
        expect(page.locator("#log")).to_contain_text("three", timeout=60_000)
        web.write(job, web.output(step, "four\n", "stderr"))
        expect(page.locator("#log")).to_contain_text("four", timeout=60_000)
        text = page.locator("#log").inner_text()
        assert [text.count(word) for word in ("before", "one", "two", "three", "four")] == [1] * 5
        assert numbers(page) == sorted(set(numbers(page)))


def test_a_page_that_nobody_sees_holds_no_stream(server, context):
    job, step = running_job()
    page = visit(context, server, user("ada"), f"/jobs/{job.pk}/")

    def streams() -> int:
        return feed.client().pubsub_numsub(feed.channel(job.pk))[0][1]

    web.until(lambda: streams() == 1)
    hide = "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true}); document.dispatchEvent(new Event('visibilitychange')); }"
    page.evaluate(hide, True)
    expect(page.locator("#live")).to_have_text("paused")
    web.until(lambda: streams() == 0)
    web.write(job, web.output(step, "meanwhile\n"))
    page.evaluate(hide, False)
    expect(page.locator("#log")).to_contain_text("meanwhile")
    assert page.locator("#log").inner_text().count("meanwhile") == 1


def test_choosing_a_step_shows_it_and_back_goes_back(server, context):
    job = web.job(user("ada"), state="succeeded")
    web.step(job, "1.1", tool="files.read", result={"text": "the first output"})
    web.step(job, "1.2", tool="shell.exec", result={"text": "the second output"})
    page = visit(context, server, user("ada"), f"/jobs/{job.pk}/?step=1.1")
    expect(page.locator("#part-panel")).to_contain_text("the first output")
    page.locator("tr[data-key='1.2'] .lane").click()
    expect(page.locator("#part-panel")).to_contain_text("the second output")
    expect(page).to_have_url(f"{server.url}/jobs/{job.pk}/?step=1.2")
    page.go_back()
    expect(page.locator("#part-panel")).to_contain_text("the first output")
    page.get_by_role("link", name="shell.exec").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#part-panel")).to_contain_text("the second output")


def long_job() -> tuple[Job, Step]:
    job = web.job(user("ada"))
    for number in range(30):
        web.step(job, f"1.{number}", result={"text": "x\n" * 60})
    step = web.step(job, "2.1", state="running", tool="test.now", result={"text": "y\n" * 60})
    web.write(job, *[web.output(step, f"line {number}\n") for number in range(80)])
    return job, step


def moved_on(job: Job, old: Step) -> Step:
    """The job goes on to its next step, and tells the page."""
    Step.objects.filter(pk=old.pk).update(state="succeeded", lease_until=None)
    new = web.step(job, f"3.{old.seq}", state="running", tool="test.next")
    data = {"state": "running", "key": new.key, "tool": new.tool, "seq": new.seq, "attempt": 1}
    web.write(job, feed.Entry(kind="step", data=data, step_id=new.pk))
    return new


def test_timeline_log_and_step_are_all_on_the_first_screen(server, context):
    job, _ = long_job()
    page = visit(context, server, user("ada"), f"/jobs/{job.pk}/")
    for part in ("#part-steps", "#part-panel", ".log-card"):
        expect(page.locator(part)).to_be_in_viewport(ratio=1)
    expect(page.locator("tr.chosen")).to_be_in_viewport(ratio=1)
    assert page.evaluate("scrollY") == 0
    assert page.wrong == []


def test_the_list_follows_the_current_step_until_its_reader_scrolls_away(server, context):
    scrolled = "document.querySelector('.steps-scroll').scrollTop"
    job, step = long_job()
    page = visit(context, server, user("ada"), f"/jobs/{job.pk}/")
    expect(page.locator("#live")).to_have_text("live")
    step = moved_on(job, step)
    expect(page.locator(f"tr.chosen[data-key='{step.key}']")).to_be_in_viewport(ratio=1)
    page.locator(".steps-scroll").hover()
    page.mouse.wheel(0, -5000)
    expect(page.locator("tr[data-key='1.0']")).to_be_in_viewport(ratio=1)
    page.mouse.wheel(0, 60)
    web.until(lambda: page.evaluate(scrolled) == 60)
    step = moved_on(job, step)
    expect(page.locator(f"tr.chosen[data-key='{step.key}']")).to_be_attached()
    assert page.evaluate(scrolled) == 60
    assert page.evaluate("scrollY") == 0


def test_without_javascript_the_page_tells_the_same(server, browser):
    job, _ = running_job()
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 800})
    try:
        page = visit(context, server, user("ada"), f"/jobs/{job.pk}/")
        expect(page.locator("#sentence")).to_contain_text("Runs shell.exec on worker shell@host")
        expect(page.locator("#log")).to_contain_text("before")
        expect(page.locator("#live")).to_have_text("as of now")
        page.get_by_role("link", name="shell.exec").click()
        expect(page).to_have_url(f"{server.url}/jobs/{job.pk}/?step=1.1")
        expect(page.locator("#part-panel")).to_contain_text("make")
    finally:
        context.close()


def test_cancelling_asks_first(server, context):
    job = web.job(user("ada"), state="queued")
    web.step(job, state="queued")
    page = visit(context, server, user("ada"), f"/jobs/{job.pk}/")
    page.get_by_role("button", name="Cancel job").click()
    assert page.wrong == ["dialog: Cancel this job? What runs is stopped; what was done stays done."]
    assert not Job.objects.get(pk=job.pk).cancel_requested
    again = context.new_page()
    again.on("dialog", lambda dialog: dialog.accept())
    again.goto(f"{server.url}/jobs/{job.pk}/")
    again.get_by_role("button", name="Cancel job").click()
    expect(again.locator(".notices")).to_contain_text("is being cancelled")
    assert Job.objects.get(pk=job.pk).state == "cancelled"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_the_screen_and_text_has_contrast(server, browser, scheme):
    api.agent()
    job = web.job(user("ada"), state="waiting", goal="x" * 300, tokens_used=399_000)
    step = web.step(job, "a" * 80, tool="tool." + "y" * 100, result={"text": "z" * 3000}, reason="w" * 500)
    web.request(web.step(job, state="waiting_approval"), title="t" * 300, command="c" * 2000)
    web.write(job, web.output(step, "q" * 5000))
    person = user("grace", groups=("approvers",), is_superuser=True, is_staff=True)
    context = browser.new_context(color_scheme=scheme)
    try:
        page = visit(context, server, person, "/")
        for path in ("/", "/jobs/", "/jobs/new/", f"/jobs/{job.pk}/", f"/jobs/{job.pk}/?step={'a' * 80}"):
            page.goto(server.url + path)
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 800})
                over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                assert over == 0, f"{path} at {width} px is {over} px too wide"
            assert page.evaluate(CONTRAST) == [], path
    finally:
        context.close()


# Every text on the page against what lies behind it: at least 4.5 to 1 (WCAG 2.2, 1.4.3); what is planned is dimmed.
CONTRAST = """() => {
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] === undefined ? 1 : n[3]]; };
  const light = ([r, g, b]) => { const f = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const behind = (node) => { for (let one = node; one; one = one.parentElement) { const c = parse(getComputedStyle(one).backgroundColor); if (c[3] === 1) return c; } return [255, 255, 255, 1]; };
  const wrong = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!own || node.closest(".future, option, [hidden], .visually-hidden, svg, .ribbon") || !node.getClientRects().length) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) wrong.push(`${node.tagName}.${node.className} ${ratio.toFixed(2)}: ${node.textContent.trim().slice(0, 30)}`);
  }
  return [...new Set(wrong)];
}"""
