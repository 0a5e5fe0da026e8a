"""The dashboard, the frame of all pages, and the back office's first page."""

import re
from datetime import date, timedelta

import pytest
from django.contrib.auth.models import Permission
from django.test import RequestFactory
from django.utils import timezone

from agents.models import Duty, Job, WorkerProcess
from agents.web import chart, context
from config.doctor import installation
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents import web
from tests.integration.agents.test_web_pages import NOBODY, get, strict

pytestmark = pytest.mark.django_db(transaction=True)


# ---- dashboard and frame ----


def test_the_dashboard_puts_first_what_needs_this_reader():
    job = web.job(user("ada"), state="waiting")
    asked = web.request(web.step(job, state="waiting_approval"))
    grace = get(web.signed_in(user("grace", groups=("approvers",))), "/")
    assert "1 approval needs you" in grace
    assert f'href="/approvals/{asked.pk}/"' in grace
    assert job.goal not in grace, "an approver does not see the job unless it is shared"
    assert "Nothing needs you" in get(web.signed_in(user("ada")), "/")


def test_the_dashboard_says_how_queues_and_workers_are():
    now = timezone.now()
    fields = {"host": "h", "pid": 1, "version": "1", "started_at": now}
    seen = {"shell@a": 5, "git@a": 45, "llm@a": 7200}
    for name, age in seen.items():
        group = name.split("@")[0]
        WorkerProcess.objects.create(
            name=name, group=group, queues=[group], seen_at=now - timedelta(seconds=age), **fields
        )
    job = web.job(user("ada"), state="queued")
    web.step(job, state="queued", ready_at=now - timedelta(minutes=5))
    html = get(web.signed_in(user("ada")), "/")
    assert "1 of 2 healthy" in html
    assert "llm@a" not in html, "a worker that is long gone is not shown"
    assert re.search(r"git@a.*?silent", html, re.S)
    row = re.search(r'<th scope="row" class="mono">shell</th>(.*?)</tr>', html, re.S)
    assert row is not None and "text-bad" in row[1] and "5 min" in row[1]


def test_the_dashboard_stands_when_redis_and_the_audit_log_do_not(settings, monkeypatch):
    from agents import feed
    from agents.web import overview

    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    feed.client.cache_clear()
    monkeypatch.setattr(overview, "status", lambda: 1 / 0)
    try:
        html = get(web.signed_in(user("ada")), "/")
    finally:
        feed.client.cache_clear()
    assert "Redis does not answer" in html
    assert "needs a look" in html


def test_figures_count_what_the_reader_may_see():
    now = timezone.now()
    ada, eve = user("ada"), user("eve")
    for owner, waited, state in ((ada, 10, "approved"), (ada, 30, "denied"), (eve, 500, "approved")):
        step = web.step(web.job(owner, state="succeeded", tokens_used=100, cost_used="0.75"))
        web.request(step, state=state, created_at=now - timedelta(seconds=waited), decided_at=now)
    html = get(web.signed_in(ada), "/")
    assert re.search(r"median wait for people</dt><dd>20 s<", html)
    assert re.search(r"approvals denied</dt><dd>1<small> of 2<", html)
    assert re.search(r"tokens of ended jobs</dt><dd>200<", html)
    assert re.search(r"cost</a></dt><dd>\$1\.50<", html)


def test_the_dashboard_says_when_nobody_sweeps():
    client, said = web.signed_in(user("ada")), "No sweeper gives a sign of life"
    now = timezone.now()
    Duty.objects.update_or_create(name="sweeper", defaults={"until": now + timedelta(hours=1)})
    assert said not in get(client, "/")
    for until in (now - timedelta(minutes=1), None):
        Duty.objects.filter(name="sweeper").update(until=until)
        assert said in get(client, "/")
    (finding,) = installation.sweeper()
    assert finding.level == "warn"
    Duty.objects.filter(name="sweeper").update(until=now + timedelta(hours=1))
    (finding,) = installation.sweeper()
    assert finding.level == "ok"


def test_the_number_of_queries_does_not_grow_with_the_number_of_rows(django_assert_max_num_queries):
    ada = user("ada")
    for number in range(12):
        job = web.job(ada, state="waiting")
        for key in range(4):
            web.step(job, f"{number}.{key}")
        web.request(web.step(job, "wait", state="waiting_approval"))
    client = web.signed_in(ada)
    for path in ("/", "/jobs/", f"/jobs/{job.pk}/"):
        with django_assert_max_num_queries(48):
            get(client, path)


def test_the_frame_tells_development_mailbox_and_what_waits(settings):
    web.request(web.step(web.job(user("ada"), state="waiting"), state="waiting_approval"))
    request = RequestFactory().get("/")
    request.user = user("grace", groups=("approvers",))
    frame = context.site(request)["frame"]
    assert (frame["development"], bool(frame["pending_approvals"]), str(frame["pending_approvals"])) == (
        True,
        True,
        "1",
    )
    settings.MAILBOX_ENABLED = False
    html = get(web.signed_in(user("root", is_staff=True)), "/jobs/")
    assert "/mailbox/" not in html
    assert 'href="/flower/"' in html
    bobs = get(web.signed_in(user("bob")), "/agents/")
    assert 'href="/flower/"' not in bobs
    assert "MCP servers" not in bobs
    assert "MCP servers" in get(web.signed_in(user("ruth", is_staff=True, is_superuser=True)), "/agents/")
    for page in ("/jobs/", "/workflows/", "/approvals/", "/chat/", "/agents/", "/agents/memory/", "/triggers/"):
        assert f'href="{page}"' in bobs, "the frame and its tabs lead there"


def test_what_is_not_there_says_so_in_our_frame():
    html = get(web.signed_in(user("ada")), f"/jobs/{NOBODY}/", 404)
    assert "There is nothing here, or nothing that you may see." in html
    strict(html)


def test_the_dashboard_draws_what_ended_each_day_and_has_it_as_a_table():
    now = timezone.now()
    ada = user("ada")
    ends = [("succeeded", 0), ("succeeded", 0), ("failed", 0), ("cancelled", 2), ("succeeded", 8)]
    for owner, (state, age) in [*((ada, one) for one in ends), (user("eve"), ("failed", 0))]:
        job = web.job(owner, state=state)
        Job.objects.filter(pk=job.pk).update(finished_at=now - timedelta(days=age))
    web.job(ada, state="running")
    html = get(web.signed_in(ada), "/overview/")
    strict(html)
    assert "2 succeeded, 1 failed, 1 cancelled, 0 compensated in 7 days" in html
    today = f"{timezone.localdate(now):%a} {timezone.localdate(now).day}"
    row = re.search(rf'<th scope="row">{today}</th>(.*?)</tr>', html)
    assert row is not None and re.findall(r">(\d+)<", row[1]) == ["2", "1", "0", "0"]
    assert html.count('<rect class="bar-') == 3
    assert "No job has ended in these days." in get(web.signed_in(user("bob")), "/overview/")


def test_a_bar_is_as_high_as_its_number_and_the_pieces_stand_on_each_other():
    days = [
        (date(2026, 3, day), numbers)
        for day, numbers in ((1, {"succeeded": 3, "failed": 1}), (2, {}), (3, {"cancelled": 2}))
    ]
    made = chart.chart(days)
    first, empty, last = made.days
    assert [piece.height for piece in first.pieces] == [chart.HEIGHT_PX * 3 / 4, chart.HEIGHT_PX / 4]
    good, bad = first.pieces
    assert good.y + good.height == made.ground_y and bad.y + bad.height == good.y
    assert (empty.total, empty.pieces) == (0, [])
    assert last.pieces[0].height == chart.HEIGHT_PX / 2
    assert (made.total, made.summary) == (6, "3 succeeded, 1 failed, 2 cancelled, 0 compensated")
    assert chart.chart([(date(2026, 3, 1), {})]).total == 0


# ---- the back office ----


def test_the_back_office_starts_with_how_it_stands_and_leads_back():
    root = user("root", is_staff=True, is_superuser=True)
    publish(("*", "allow"))
    web.step(web.job(user("ada")), state="in_doubt")
    html = get(web.signed_in(root), "/admin/")
    assert re.search(r"Steps in doubt</span><span class=\"cs-figure\">1<", html)
    assert "testing@1" in html
    assert 'rel="icon" href="/static/countersign/logo.svg"' in html
    assert "44, 75, 201" in html, "the product's own blue"
    assert re.search(r'<a href="/"[^>]*>.*?Back to the site', html, re.S)
    for group in ("Work", "Policies &amp; approvals", "People &amp; access", "Audit log", "Schedules"):
        assert group in html
    for path in set(re.findall(r'href="(/admin/[a-z_/]+/)"', html)):
        get(web.signed_in(root), path)


def test_the_back_office_shows_only_what_its_reader_may_see():
    clerk = user("clerk", is_staff=True)
    assert "You may see nothing here." in get(web.signed_in(clerk), "/admin/")
    clerk.user_permissions.add(Permission.objects.get(codename="view_record"))
    html = get(web.signed_in(clerk), "/admin/")
    assert "Audit records" in html and 'href="/admin/audit/record/"' in html
    for word in ("Workers", "Policies in force", "/admin/agents/", "/admin/auth/user/", "Schedules"):
        assert word not in html, word
