"""A conversation in a real browser: words come live, what changes is read anew, and hostile text stays text."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, BrowserContext, expect

from agents import feed
from agents.models import Conversation, Job
from tests.factories import jobs
from tests.factories.people import user
from tests.integration.agents import web
from tests.integration.agents.test_web_browser import visit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def server(django_db_setup, django_db_blocker) -> Iterator[web.Server]:
    with django_db_blocker.unblock(), web.served() as running:
        yield running


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context(viewport={"width": 390, "height": 800})
    yield opened
    opened.close()


def talk() -> Conversation:
    now = timezone.now()
    return Conversation.objects.create(
        owner=user("ada"), agent=jobs.agent("helper"), title=f"Talk {web.HOSTILE}", created_at=now, said_at=now
    )


def turn(of: Conversation, said: str, **fields: Any) -> Job:
    return web.job(user("ada"), kind="chat", goal=said, conversation=of, agent=of.agent, **fields)


def test_words_come_as_they_are_written_and_the_answer_takes_their_place(server, context):
    of = talk()
    turn(of, "before", state="succeeded", outcome=f"An **old** answer {web.HOSTILE}")
    job = turn(of, f"now {web.HOSTILE}")
    step = web.step(job, "think-1", state="running", tool="llm.think", arguments={"turn": 1})
    first = {"text": "I thi", "attempt": 1}
    web.write(job, feed.Entry(kind="token", data=first, step_id=step.pk))
    page = visit(context, server, user("ada"), of.get_absolute_url())
    live = page.locator(f'[data-live="{job.pk}"] .live-text')
    expect(live).to_have_text("I thi")
    expect(page.locator("#send")).to_be_disabled()
    for text in ("nk <b>so", "</b>."):
        web.write(job, feed.Entry(kind="token", data={"text": text, "attempt": 1}, step_id=step.pk))
    expect(live).to_have_text("I think <b>so</b>.")
    page.locator("#message").fill("what I write next")
    web.end(job, outcome="I think `so`.")
    expect(page.locator(f"#turn-{job.pk} .answer")).to_have_text("I think so.")
    expect(page.locator(f"#turn-{job.pk} .answer code")).to_have_text("so")
    expect(page.locator("#send")).to_be_enabled()
    expect(page.locator("#message")).to_have_value("what I write next")
    expect(page.locator("#stop")).to_be_hidden()
    assert page.locator("#turns img, #turns script, h1 img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.wrong == []
