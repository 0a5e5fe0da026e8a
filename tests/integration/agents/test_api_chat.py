"""Conversations by API, and a job's feed as a stream."""

import json

import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone

from agents.models import Conversation, Job
from agents.tokens import create_token
from audit.actor import Actor
from tests.factories import jobs, scripted_server
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.api import client, problem
from tests.integration.agents.driving import run_all

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]

CHATS = "/api/v1/chats"


@pytest.fixture(scope="module")
def endpoint():
    with scripted_server.running() as found:
        yield found


@pytest.fixture(autouse=True)
def world(settings, endpoint):
    settings.LLM_BASE_URL, settings.LLM_API_KEY, settings.LLM_MODEL = endpoint.base_url, "", "scripted-demo"
    publish(("*", "allow"))
    jobs.agent("helper", tools=("files.*",))


def begun(api, message: str = "hello") -> dict:
    answer = api.post(CHATS, {"message": message, "agent": "helper"}, format="json")
    assert answer.status_code == 201, answer.content
    return answer.json()


def test_a_program_begins_reads_goes_on_and_finds():
    api = client(user("ada"))
    turn = begun(api)
    assert (turn["kind"], turn["message"], turn["state"], turn["answer"]) == ("chat", "hello", "queued", "")
    one = f"{CHATS}/{turn['conversation']}"
    problem(api.post(f"{one}/turns", {"message": "hurry"}, format="json"), 409, "turn_running")
    run_all(Job.objects.get(pk=turn["id"]))
    said = api.post(f"{one}/turns", {"message": "a job for you"}, format="json", headers={"Idempotency-Key": "k1"})
    assert said.status_code == 201
    run_all(Job.objects.get(pk=said.json()["id"]))
    again = api.post(f"{one}/turns", {"message": "a job for you"}, format="json", headers={"Idempotency-Key": "k1"})
    assert (again.status_code, again["Idempotency-Replayed"]) == (200, "true")
    turns = api.get(f"{one}/turns").json()["results"]
    assert [row["message"] for row in turns] == ["hello", "a job for you"]
    assert turns[0]["answer"].startswith("This is the scripted stand-in") and turns[0]["error"] == ""
    assert turns[1]["offers"][0]["goal"] == "a job for you"
    made = api.post(f"{one}/jobs", {"goal": turns[1]["offers"][0]["goal"]}, format="json")
    assert (made.status_code, made.json()["agent"]) == (201, "helper")
    assert [row["kind"] for row in api.get(f"{one}/turns").json()["results"]] == ["chat", "chat", "goal"]
    assert [row["id"] for row in api.get(f"{CHATS}?q=hell").json()["results"]] == [turn["conversation"]]
    assert api.get(f"{CHATS}?q=zebra").json()["results"] == []
    changed = api.patch(one, {"title": "Mine", "archived": True}, format="json").json()
    assert (changed["title"], changed["titled_by"]) == ("Mine", "person") and changed["archived_at"]
    assert api.get(CHATS).json()["results"] == [] and len(api.get(f"{CHATS}?archived=true").json()["results"]) == 1


def test_what_is_wrong_is_named_and_strangers_find_nothing():
    api = client(user("ada"))
    problem(api.post(CHATS, {"agent": "helper"}, format="json"), 400, "invalid_input", "message")
    problem(api.post(CHATS, {"message": "x", "agent": "nobody"}, format="json"), 400, "unknown_agent", "agent")
    problem(api.post(CHATS, {"message": "x", "extra": 1}, format="json"), 400, "invalid_input", "extra")
    one = f"{CHATS}/{begun(api)['conversation']}"
    for path in (one, f"{one}/turns", f"{one}/links"):
        problem(client(user("eve")).get(path), 404, "not_found")
    problem(client().get(one), 401, "not_authenticated")
    root = user("root", is_superuser=True)
    assert client(root).get(one).status_code == 200
    problem(client(root).post(f"{one}/turns", {"message": "x"}, format="json"), 403, "not_allowed")


def test_links_are_made_listed_and_revoked():
    api = client(user("ada"))
    one = f"{CHATS}/{begun(api)['conversation']}"
    made = api.post(f"{one}/links", {"days": 7}, format="json").json()
    assert "/chat/shared/" in made["address"]
    (listed,) = api.get(f"{one}/links").json()["results"]
    assert listed["id"] == made["id"] and "address" not in listed
    path = made["address"].partition("/chat/")[2]
    assert client(user("eve")).get(f"/chat/{path}").status_code == 200
    assert api.delete(f"{one}/links/{made['id']}").status_code == 204
    assert client(user("eve")).get(f"/chat/{path}").status_code == 404


async def _all(response) -> bytes:
    return b"".join([part async for part in response.streaming_content])


def test_a_feed_is_streamed_to_a_token_with_the_scope(settings):
    ada = user("ada")
    turn = begun(client(ada))
    run_all(Job.objects.get(pk=turn["id"]))
    path = turn["stream"].partition("/api/")[2]
    api = client()

    def bearer(*scopes: str) -> dict[str, str]:
        _, secret = create_token(user=ada, name="t", scopes=scopes, now=timezone.now(), actor=Actor.user(ada.pk))
        return {"Authorization": f"Bearer {secret}", "Accept": "text/event-stream"}

    response = api.get(f"/api/{path}", headers=bearer("jobs:read"))
    assert (response.status_code, response["Content-Type"]) == (200, "text/event-stream")
    text = async_to_sync(_all)(response).decode()
    lines = [json.loads(one[6:]) for one in text.split("\n") if one.startswith("data: {")]
    words = "".join(one["text"] for one in lines if one["kind"] == "token" and one["tool"] == "llm.think")
    assert words.startswith("This is the scripted stand-in")
    assert [one["seq"] for one in lines] == sorted(one["seq"] for one in lines)
    assert text.rstrip().endswith("event: end\ndata: null")
    later = async_to_sync(_all)(api.get(f"/api/{path}?after={lines[-2]['seq']}", headers=bearer("jobs:read"))).decode()
    assert later.count("event: line") == 1
    problem(api.get(f"/api/{path}", headers=bearer("approvals:read")), 403, "scope_missing")
    problem(client(user("eve")).get(f"/api/{path}"), 404, "not_found")
    problem(client(ada).get(f"/api/{path}?after=x"), 400, "invalid_input", "after")
    assert Conversation.objects.count() == 1
