"""Pages of jobs that start jobs and of maps: what waits for what, how far it is, and which items failed."""

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from guardian.shortcuts import assign_perm
from playwright.sync_api import Browser

from agents.engine import children
from agents.engine.execute import execute
from agents.engine.intake import NewStep
from agents.models import Agent, Job, MapItem, Step
from agents.states import JobState
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents import web
from tests.integration.agents.driving import HERE, run_all, submit
from tests.integration.agents.test_web_pages import get, strict

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]

BAD = {"text": "${{ item }}", "fail": "${{ item.startsWith('bad') ? 'refuse' : '' }}"}


def mapped(over: object, **spec: object) -> NewStep:
    return NewStep(
        key="m",
        tool="test.note",
        arguments={},
        kind=Step.Kind.MAP,
        spec={"over": over, "arguments": BAD, **spec},
    )


def delegating(**arguments: object) -> Job:
    """A job that waits for another one, which reads on behalf of it."""
    publish(("*", "allow"))
    Agent.objects.create(name="reader", instructions="work", tools=["files.*", "git.*"])
    given = {"goal": "look around <b>here</b>", "agent": "reader", "tools": ["files.read"], **arguments}
    job = submit(NewStep(key="d", tool="job.delegate", arguments=given), goal="hand it on")
    assert children.sweep(timezone.now()) == 1
    return job


def test_a_step_that_waits_for_its_job_links_to_it_and_the_job_back():
    job = delegating(max_tokens=300, max_steps=7)
    child = Job.objects.get(parent=job)
    ada = web.signed_in(user("ada"))
    page = get(ada, f"/jobs/{job.pk}/")
    strict(page)
    assert f'href="/jobs/{child.pk}/"' in page
    assert "Waits for d, a job of its own." in page
    assert "under way" in page and "planned" not in page
    assert "look around &lt;b&gt;here&lt;/b&gt;" in page
    assert "1 job started from here: 1 " in page
    below = get(ada, f"/jobs/{child.pk}/")
    strict(below)
    assert f'href="/jobs/{job.pk}/?step=d"' in below
    assert "7 steps and 300 tokens of its parent&#x27;s" in below
    assert "files.read" in below
    assert "Waits for d, a job of its own." in get(ada, "/jobs/")


def test_the_step_shows_how_its_job_ended():
    job = delegating()
    child = Job.objects.get(parent=job)
    Step.objects.filter(job=child).update(state="cancelled", finished_at=timezone.now())
    Job.objects.filter(pk=child.pk).update(state="succeeded", outcome="There is nothing.", finished_at=timezone.now())
    assert children.ended(child.pk, now=timezone.now())
    page = get(web.signed_in(user("ada")), f"/jobs/{job.pk}/?step=d")
    assert 'id="child"' in page and "There is nothing." in page
    assert "1 of 1 step done" in page


def test_a_child_that_was_not_shared_is_not_shown():
    job = delegating()
    child = Job.objects.get(parent=job)
    bob = user("bob")
    assign_perm("agents.view_job", bob, job)
    page = get(web.signed_in(bob), f"/jobs/{job.pk}/?step=d")
    assert str(child.pk) not in page
    assert "Its job was not shared with you." in page
    assign_perm("agents.view_job", bob, child)
    assert "Started by a step" not in get(web.signed_in(bob), f"/jobs/{child.pk}/")
    Job.objects.filter(pk=job.pk).update(owner=user("eve"))
    reader = user("carol")
    assign_perm("agents.view_job", reader, child)
    assert "Started by a step of a job that was not shared with you." in get(
        web.signed_in(reader), f"/jobs/{child.pk}/"
    )


def test_a_grant_of_several_levels_is_told_from_the_narrowest_on():
    parent = web.job(user("ada"))
    child = web.job(
        user("ada"), parent=parent, parent_step=web.step(parent), grant=[["files.*", "git.*"], ["files.read"]]
    )
    page = get(web.signed_in(user("ada")), f"/jobs/{child.pk}/")
    assert "files.read; of that only what is also in: files.*, git.*" in page


def test_a_map_shows_its_progress_and_its_failed_items_first():
    publish(("test.*", "allow"))
    over = [f"bad-{n}<i>" if n % 10 == 7 else f"item-{n}" for n in range(130)]
    job = run_all(submit(mapped(over, chunk=10)))
    assert job.state == JobState.FAILED
    ada = web.signed_in(user("ada"))
    page = get(ada, f"/jobs/{job.pk}/?step=m")
    strict(page)
    assert "130 of 130 items, 13 failed" in page
    assert page.count('<ol class="items') == 1 and "bad-7&lt;i&gt;" in page and "item-3" not in page
    assert "3 more that failed" in page
    assert 'data-key="m.5"' not in page  # chunks that succeeded are folded away
    items = get(ada, f"/jobs/{job.pk}/steps/m/items/")
    strict(items)
    assert "item-3" in items and "Page 1 of 3" in items and "item-60" not in items
    assert "item-60" in get(ada, f"/jobs/{job.pk}/steps/m/items/?page=2")
    failed = get(ada, f"/jobs/{job.pk}/steps/m/items/?failed=1")
    assert failed.count("badge-failed") == 13 + 1 and "item-3" not in failed
    get(web.signed_in(user("eve")), f"/jobs/{job.pk}/steps/m/items/", 404)
    get(ada, f"/jobs/{job.pk}/steps/m.1/items/", 404)
    get(ada, f"/jobs/{job.pk}/steps/none/items/", 404)


def test_a_job_of_two_hundred_chunks_stays_short_and_asks_as_much_as_one_of_two():
    publish(("test.*", "allow"))
    small, large = (submit(mapped(["a"] * number, chunk=1, parallel=2), goal="map") for number in (2, 200))
    ada = web.signed_in(user("ada"))
    asked, pages = [], []
    for job in (small, large):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            pages.append(get(ada, f"/jobs/{job.pk}/"))
        asked.append(len(queries))
    assert asked[0] == asked[1]
    assert "Works through m (0 of 200 items)." in pages[1] and "under way" in pages[1]
    assert "200 chunks: 198 planned, 2 queued" in pages[1]
    assert pages[1].count('class="step-row') == 1
    assert 'data-key="m.150"' in get(ada, f"/jobs/{large.pk}/?step=m.150")
    get(ada, f"/jobs/{large.pk}/?step=%00")


@pytest.fixture
def server() -> Iterator[web.Server]:
    with web.served() as running:
        yield running


def test_the_pages_fit_a_phone_and_a_desk(browser: Browser, server: web.Server, tmp_path):
    publish(("*", "allow"))
    Agent.objects.create(name="reader", instructions="work", tools=["files.*"])
    over = [f"bad-{n} " + "long" * 30 if n % 9 == 4 else f"item-{n}" for n in range(80)]
    delegate = NewStep(key="d", tool="job.delegate", arguments={"goal": "look around, " * 9, "agent": "reader"})
    job = submit(mapped(over, chunk=5), delegate)
    for chunk in Step.objects.filter(job=job, state="queued")[:9]:
        execute(chunk.pk, chunk.attempt, HERE)
    children.sweep(timezone.now())
    child = Job.objects.get(parent=job)
    cookie = web.signed_in(user("ada")).cookies[settings.SESSION_COOKIE_NAME].value
    wrong: list[str] = []
    for width, height in ((390, 844), (1280, 900)):
        context = browser.new_context(viewport={"width": width, "height": height})
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": server.url}])
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        paths = {"map": f"{job.pk}/?step=m", "parent": f"{job.pk}/?step=d", "child": f"{child.pk}/"}
        for name, path in {**paths, "items": f"{job.pk}/steps/m/items/"}.items():
            page.goto(f"{server.url}/jobs/{path}")
            if page.locator("#family").count():
                page.locator("#family > summary").click()
            page.screenshot(path=str(tmp_path / f"{name}-{width}.png"), full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, width)
        context.close()
    assert wrong == []
    assert MapItem.objects.filter(step__job=job, ok=False).exists()
