"""Conversations are deleted, shared up to a moment, begun once; and turns are told apart from jobs. No model answers here."""

from datetime import timedelta
from threading import Thread

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from agents.chat import links, selectors, turns
from agents.engine.control.retry import retry_job
from agents.errors import NotNow, NotVisible
from agents.models import Conversation, Job, Memory, Step
from agents.states import JobState
from audit.actor import Actor
from audit.models import Record
from tests.factories import jobs
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents import web
from tests.integration.agents.api import client, problem

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]

CHATS = "/api/v1/chats"
HIDES = "Make it\u202e pass."


@pytest.fixture(autouse=True)
def world():
    publish(("*", "allow"))
    jobs.agent("helper", tools=("test.*",))


def begin(message: str = "the rollback of the payment service", **more: object) -> Job:
    return turns.begin({"message": message, "agent": "helper"}, user=user("ada"), now=timezone.now(), **more)[0]


def started(talk: Conversation, **payload: object) -> Job:
    return turns.start_job(talk.pk, payload, user=user("ada"), now=timezone.now())[0]


def test_a_deleted_conversation_is_found_by_nobody_and_its_jobs_stay():
    turn = begin()
    talk = Conversation.objects.get(pk=turn.conversation_id)
    job = started(talk, goal="tidy up")
    _, address = links.make(talk, {}, by=user("ada"), now=timezone.now())
    now = timezone.now()
    new = {"job": turn, "created_at": now, "text": "A fact.", "kind": "fact", "origin": "tool", "scope": "all"}
    Memory.objects.create(**new)
    pages, path = web.signed_in(user("ada")), talk.get_absolute_url()
    told = pages.get(f"{path}delete").content.decode()
    for words in ("1 link to it ends", "turn that the agent is at is stopped", "1 job started", "goes on", "1 memory"):
        assert words in told
    for stranger in (web.signed_in(user("eve")), client(user("eve"))):
        assert stranger.post(f"{path}delete").status_code == 404
    problem(client(user("eve")).delete(f"{CHATS}/{talk.pk}"), 404, "not_found")
    problem(client(user("root", is_superuser=True)).delete(f"{CHATS}/{talk.pk}"), 403, "not_allowed")

    api = client(user("ada"))
    assert api.delete(f"{CHATS}/{talk.pk}").status_code == 204
    problem(api.delete(f"{CHATS}/{talk.pk}"), 404, "not_found")
    assert pages.get(path).status_code == 404 and pages.get(f"{path}fragment?from={turn.pk}").status_code == 404
    assert web.signed_in(user("eve")).get("/" + address.split("/", 3)[3]).status_code == 404
    assert api.get(f"{CHATS}?q=rollback").json()["results"] == []
    assert "Nothing that you said" in pages.get("/chat/?q=rollback").content.decode()
    root = web.signed_in(user("root", is_superuser=True, is_staff=True))
    assert str(talk.pk) not in root.get("/admin/agents/conversation/").content.decode()
    for said in (turns.say, turns.start_job):
        with pytest.raises(NotVisible):
            said(talk.pk, {"message": "still there?"}, user=user("ada"), now=timezone.now())

    turn.refresh_from_db()
    job.refresh_from_db()
    assert turn.cancel_requested and turn.state == JobState.CANCELLED and not job.done and not job.cancel_requested
    assert (turn.conversation_id, job.conversation_id) == (talk.pk, talk.pk)  # labels stick by it
    assert f'href="{path}"' not in pages.get(turn.get_absolute_url()).content.decode()
    with pytest.raises(NotNow, match="deleted"):
        retry_job(turn.pk, by=Actor.user(user("ada").pk), now=timezone.now())
    talk.refresh_from_db()
    assert (talk.title, talk.summary) == ("", "")
    with pytest.raises(IntegrityError), transaction.atomic():
        Conversation.objects.filter(pk=talk.pk).update(title="again")
    record = Record.objects.get(event="chat.deleted", target_id=str(talk.pk))
    assert '"links":1' in record.body and '"memories":1' in record.body and '"turns":1' in record.body


def test_turns_stand_among_the_jobs_only_where_they_are_asked_for():
    turn = begin("a turn of mine")
    talk = Conversation.objects.get(pk=turn.conversation_id)
    job = started(talk, goal="a job of mine")
    api, pages = client(user("ada")), web.signed_in(user("ada"))

    def listed(query: str) -> list[str]:
        return [one["id"] for one in api.get(f"/api/v1/jobs?{query}").json()["results"]]

    assert listed("") == [str(job.pk)] and listed("kind=chat") == [str(turn.pk)]
    assert listed("kind=chat&kind=goal&state=queued&state=running") == [str(job.pk), str(turn.pk)]
    problem(api.get("/api/v1/jobs?kind=talk"), 400, "invalid_input", "kind")

    def shown(query: str) -> tuple[bool, bool]:
        html = pages.get(f"/jobs/?{query}").content.decode()
        return "a turn of mine" in html, "a job of mine" in html

    assert shown("") == (False, True) and shown("kind=chat") == (True, False) and shown("kind=x") == (False, True)
    assert shown(f"q={turn.pk}") == (True, False)  # an id finds what it names
    assert 'href="?kind=chat&amp;state=failed"' in pages.get("/jobs/?kind=chat&page=1").content.decode()
    turns.stop(talk.pk, user=user("ada"), now=timezone.now())
    again = turns.say(talk.pk, {"message": "and more"}, user=user("ada"), now=timezone.now())[0]
    dashboard = pages.get("/").content.decode()
    assert "a turn of mine" not in dashboard and "a job of mine" in dashboard
    assert "and 1 turn of conversations" in dashboard and "<small> of 0</small>" in dashboard
    assert api.get(f"{CHATS}/{talk.pk}").json()["running"] == str(again.pk)


def test_the_same_form_sent_twice_at_once_begins_one_conversation(monkeypatch):
    made: list[Job] = []
    tenant_for = turns.tenant_for

    def rival() -> None:
        try:
            made.append(begin("hi", key="once-1"))
        finally:
            connection.close()

    def in_between(*given: object) -> object:
        monkeypatch.setattr(turns, "tenant_for", tenant_for)
        thread = Thread(target=rival)
        thread.start()
        thread.join()
        return tenant_for(*given)

    monkeypatch.setattr(turns, "tenant_for", in_between)
    assert begin("hi", key="once-1") == made[0]
    assert Conversation.objects.count() == 1


def test_a_job_of_a_chat_takes_what_every_job_takes():
    talk = Conversation.objects.get(pk=begin().conversation_id)
    api, path = client(user("ada")), f"{CHATS}/{talk.pk}/jobs"
    for wrong in ([1], "x", 7):
        problem(api.post(path, wrong, format="json"), 400, "invalid_input")
    problem(api.post(path, {"goal": "x"}, format="json", headers={"Idempotency-Key": "a b"}), 400, "invalid_input",
            "Idempotency-Key")  # fmt: skip
    pages = web.signed_in(user("ada"))
    assert pages.post(f"{talk.get_absolute_url()}say", {"message": "  "}).status_code == 422
    assert pages.post(f"{talk.get_absolute_url()}say", {"message": "hurry"}).status_code == 409
    keyed = {"goal": "first", "concurrency_key": "deploy"}
    first = api.post(path, keyed, format="json").json()
    assert first["conversation"] == str(talk.pk) and first["agent"] == "helper"
    assert (
        api.post(path, {**keyed, "goal": "second", "on_conflict": "cancel_running"}, format="json").status_code == 201
    )
    assert Job.objects.get(pk=first["id"]).cancel_requested


def test_what_hides_in_an_offer_or_a_request_is_shown_and_stays_the_agent_s():
    turn = begin()
    talk = Conversation.objects.get(pk=turn.conversation_id)
    web.step(turn, "1.1", tool="job.propose", arguments={"goal": HIDES})
    web.request(
        web.step(turn, "1.2", state="waiting_approval"), requester=user("ada"), title="wants to run rm \u202edliub"
    )
    html = web.signed_in(user("ada")).get(talk.get_absolute_url()).content.decode()
    assert "\u202e" not in html
    assert "Make it⟦U+202E⟧ pass." in html and "rm ⟦U+202E⟧dliub" in html and "a model\u2019s words" in html
    for goal in (HIDES, "Make it⟦U+202E⟧\r\n pass."):
        assert started(talk, goal=goal).trigger == turns.OFFERED


def test_a_link_shows_no_answer_that_came_after_it():
    turn = begin()
    talk = Conversation.objects.get(pk=turn.conversation_id)
    _, address = links.make(talk, {}, by=user("ada"), now=timezone.now())
    Step.objects.filter(job=turn).update(state="cancelled", finished_at=timezone.now())
    web.end(turn, outcome="said too late")
    reader, path = web.signed_in(user("eve")), "/" + address.split("/", 3)[3]
    html = reader.get(path).content.decode()
    assert "the rollback" in html and "said too late" not in html and "came later" in html
    Job.objects.filter(pk=turn.pk).update(finished_at=talk.created_at + timedelta(microseconds=1))
    assert "said too late" in reader.get(path).content.decode()
    assert selectors.holding(timezone.now()).count() == 1
