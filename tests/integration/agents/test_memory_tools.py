"""Memory in jobs: what agents search and propose, what a denial and an ended job teach, and who admits it."""

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from rest_framework.test import APIClient

from agents.memory import keeping, recall, vectors
from agents.memory.keeping import Place
from agents.models import EventRule, Job, LlmCall, Memory, ModelEndpoint
from agents.states import JobState
from agents.tokens import create_token
from agents.triggers import changes
from approvals.defaults import ensure_policies
from audit.actor import Actor
from audit.models import Record
from tests.factories import jobs, people, scripted_server
from tests.factories.people import user
from tests.factories.policies import publish
from tests.factories.rules import publish_rules
from tests.integration.agents import web
from tests.integration.agents.api import client, problem
from tests.integration.agents.driving import run_all, step_of, submit
from tests.integration.agents.test_approved_steps import approve, asking
from tests.integration.agents.test_engine import step
from tests.integration.agents.test_memory_store import find, remember, repository
from tests.integration.agents.test_web_pages import get, strict
from tests.integration.triggers.test_rules import swept

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]

LEARNED = """
rules:
  - when: {schema: [facts, lessons], message: "test.note|Look around"}
    answer: {facts: ["The tests need a database."], lessons: ["Ask before you push."]}
"""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenario") / "learned.yaml"
    path.write_text(LEARNED)
    with scripted_server.running("--scenario", str(path)) as found:
        yield found


@pytest.fixture(autouse=True)
def scripted(settings, endpoint):
    settings.LLM_BASE_URL, settings.LLM_API_KEY, settings.LLM_MODEL = endpoint.base_url, "", "scripted-demo"
    settings.LLM_SCRIPTED, settings.LLM_TIMEOUT_S = True, 60


def embedding(endpoint, **fields) -> ModelEndpoint:
    given = {"name": "vectors", "model": "scripted-demo", "capabilities": ["embeddings"], "dimensions": 64}
    return ModelEndpoint.objects.create(**{"base_url": endpoint.base_url, "scripted": True, **given, **fields})


def ran(tool: str, *, key: str = "a", allow: bool = True, **arguments):
    """The step of a job of one step, after it ran."""
    if allow:
        publish((tool, "allow"))
    job = submit(step(key, tool, **arguments), agent=jobs.agent("worker"))
    type(job).objects.filter(pk=job.pk).update(repository=repository())  # later: nothing is to be cloned
    run_all(job)
    return step_of(job, key)


def test_a_job_finds_by_meaning_with_vectors_of_the_endpoint_and_says_so(endpoint):
    if not vectors.available():
        pytest.skip("this PostgreSQL has no pgvector")
    embedding(endpoint)
    remember("The tests need PostgreSQL on port 5433.")
    found = ran("memory.search", query="tests port")
    assert found.state == "succeeded", found.error
    assert found.result["data"]["untrusted"] is True
    assert found.result["data"]["memories"][0]["text"] == "The tests need PostgreSQL on port 5433."
    assert found.result["data"]["memories"][0]["near"] == 1
    assert "vectors by scripted" in found.result["summary"]
    memory = Memory.objects.get()
    assert (memory.dimensions, memory.used) == (64, 1)
    assert memory.embedding_model.startswith("scripted")
    (call,) = LlmCall.objects.all()
    assert (call.purpose, call.step_id) == ("memory.search", found.pk)


@pytest.mark.parametrize("fallback", ["no endpoint", "a broken one", "no pgvector"])
def test_without_vectors_of_an_endpoint_it_still_finds_and_says_how(fallback, endpoint, monkeypatch):
    remember("The tests need PostgreSQL on port 5433.")
    if fallback == "a broken one":
        embedding(endpoint, base_url="http://127.0.0.1:9/v1")
    if fallback == "no pgvector":
        monkeypatch.setattr(vectors, "available", lambda: False)
    found = ran("memory.search", query="which port do tests need", kinds=["fact", "lesson"], limit=3)
    assert found.state == "succeeded", found.error
    assert [one["text"] for one in found.result["data"]["memories"]] == ["The tests need PostgreSQL on port 5433."]
    said = {"no endpoint": "by spelling and by words", "a broken one": "by words alone", "no pgvector": "no pgvector"}
    if fallback == "no endpoint" and not vectors.available():
        return
    assert said[fallback] in found.result["data"]["how"]


def test_an_agents_proposal_waits_for_a_person_unless_a_policy_admits_it():
    ensure_policies(people.user("grace", groups=("approvers",)).groups.get())
    first = ran("memory.propose", allow=False, kind="fact", text="The tests need a database.", for_agent=True)
    assert first.state == "succeeded", first.error
    memory = Memory.objects.get(pk=first.result["data"]["memory"])
    assert (memory.state, memory.untrusted, memory.agent.name) == ("proposed", True, "worker")
    assert find("database") == []
    again = ran("memory.propose", key="b", allow=False, kind="fact", text="The tests NEED a database.", for_agent=True)
    assert again.result["data"] == {"memory": str(memory.pk), "state": "proposed"}
    only_facts = {"effect": "allow", "tools": ["memory.admit"], "condition": "call.args.kind == 'fact'"}
    publish_rules(only_facts, {"effect": "allow", "tools": ["memory.propose"]}, name="default")
    lesson = ran("memory.propose", key="c", allow=False, kind="lesson", text="Look twice.")
    fact = ran("memory.propose", key="d", allow=False, kind="fact", text="Releases are on Monday.", expires_days=30)
    assert [one.result["data"]["state"] for one in (lesson, fact)] == ["proposed", "admitted"]
    memory = Memory.objects.get(pk=fact.result["data"]["memory"])
    assert memory.expires_at is not None and memory.decided_by is None and "rule-1" in memory.decided_why
    record = Record.objects.get(target_id=str(memory.pk), event="memory.admitted")
    assert '"rule":"rule-1"' in record.body


def test_people_may_be_asked_to_admit_and_admit_just_what_they_saw():
    memory = remember("Never push on Fridays.", state="proposed", kind="lesson")
    arguments = {"memory": str(memory.pk), "kind": "lesson", "origin": "agent", "text": "Push on Fridays."}
    assert ran("memory.admit", **arguments).error == "These are not the words of that memory."
    assert ran("memory.admit", key="b", **{**arguments, "text": memory.text}).state == "succeeded"
    memory.refresh_from_db()
    assert memory.state == "admitted"


def test_what_a_person_says_with_a_denial_is_proposed_as_a_lesson():
    job, request = asking()
    type(job).objects.filter(pk=job.pk).update(agent=jobs.agent("worker"), repository=repository())
    approve(request, people.user("grace", groups=("sre",)), verdict="deny", reason="Not before the freeze ends.")
    (memory,) = Memory.objects.filter(kind="lesson")
    assert memory.text == "A call of test.once was denied: Not before the freeze ends."
    assert (memory.state, memory.origin, memory.untrusted) == ("proposed", "denial", False)
    assert memory.scope == recall.repository(repository().pk)


def test_a_job_of_an_agent_leaves_an_episode_and_a_plan_leaves_none(endpoint):
    publish(("*", "allow"))
    goal = submit(kind="goal", goal="Look around.", agent=jobs.agent("worker", tools=("test.*",)))
    run_all(goal)
    assert goal.state in {JobState.SUCCEEDED, JobState.FAILED}
    run_all(submit(step("a", "test.note", text="x")))
    (episode,) = Memory.objects.all()
    assert (episode.kind, episode.state, episode.origin, episode.untrusted) == ("episode", "admitted", "outcome", True)
    assert episode.scope == recall.person(goal.owner_id)
    assert f"Ended: {goal.state}" in episode.text


def test_a_model_learns_from_an_ended_job_and_only_once():
    publish(("memory.learn", "allow"))
    of = jobs.goal_job(repository=repository())
    jobs.step(of, "1.1", "test.note", state="succeeded", result={"ok": True, "summary": "noted"})
    assert ran("memory.learn", job=str(of.pk)).error == "That job has not ended."
    type(of).objects.filter(pk=of.pk).update(state=JobState.SUCCEEDED, finished_at=timezone.now())
    first = ran("memory.learn", key="b", job=str(of.pk))
    assert first.state == "succeeded", first.error
    assert {(one["kind"], one["state"], one["new"]) for one in first.result["data"]["memories"]} == {
        ("fact", "proposed", True),
        ("lesson", "proposed", True),
    }
    assert first.tokens > 0
    assert set(Memory.objects.values_list("text", "job")) == {
        ("The tests need a database.", of.pk),
        ("Ask before you push.", of.pk),
    }
    assert ran("memory.learn", key="c", job=str(of.pk)).result["summary"] == "Nothing new was learned."
    assert ran("memory.learn", key="d", job=str(first.job_id)).result["data"]["memories"] == []
    strangers = jobs.goal_job()
    type(of).objects.filter(pk=strangers.pk).update(owner=user("eve"))
    assert ran("memory.learn", key="e", job=str(strangers.pk)).error == "There is no such job."


def test_an_event_rule_learns_from_each_job_of_an_agent_that_ends():
    publish(("*", "allow", "call.tool != 'memory.admit'"))
    owner = user("ada")
    payload = {
        "title": "Learn",
        "steps": [{"key": "learn", "tool": "memory.learn", "arguments": {"job": "${{ events[0].data.job }}"}}],
    }
    events = [{"name": "job.*", "when": "event.data.kind == 'goal'"}]
    given = {"name": "lessons", "events": events, "window_s": 3600, "payload": payload}
    changes.create(EventRule, given, user=owner, now=timezone.now())
    of = run_all(submit(kind="goal", goal="Look around.", agent=jobs.agent("worker", tools=("test.*",))))
    assert swept() == 1
    learning = Job.objects.get(trigger="rule:lessons")
    run_all(learning)
    assert step_of(learning, "learn").state == "succeeded", step_of(learning, "learn").error
    assert swept() == 0  # what learns is no job of an agent
    learned = Memory.objects.exclude(kind="episode").values_list("kind", "state", "job", "untrusted")
    assert set(learned) == {("fact", "proposed", of.pk, True), ("lesson", "proposed", of.pk, True)}


def test_the_pages_show_and_decide():
    ada, eve = web.signed_in(user("ada")), web.signed_in(user("eve"))
    proposed = remember(f"Beware of {web.HOSTILE}", state="proposed", kind="lesson")
    admitted = remember("The tests need PostgreSQL.")
    remember("The tests need Postgres badly.")
    html = get(ada, "/agents/memory/")
    strict(html)
    assert "The tests need PostgreSQL." in html and "Beware" not in html and "1 proposed" in html
    strict(get(ada, "/agents/memory/?state=proposed&q=beware"))
    assert "The tests need PostgreSQL." in get(ada, "/agents/memory/?q=postgresql+tests&kind=fact&repository=shop")
    assert "Nothing was found." in get(ada, "/agents/memory/?q=zebra&state=rejected")
    remember("Tests of the worker alone.", place=Place(repository=repository(), agent=jobs.agent("worker")))
    for query in ("", "&q=tests"):
        html = get(ada, f"/agents/memory/?agent=worker{query}")
        assert "Tests of the worker alone." in html and "badly" not in html
    back = ada.post(f"/agents/memory/{proposed.pk}/decide", {"verdict": "none", "list": "state=proposed&x=//evil"})
    assert back["Location"] == "/agents/memory/?state=proposed&x=%2F%2Fevil"
    page = get(ada, f"/agents/memory/{admitted.pk}/")
    strict(page)
    assert "badly" in page or not vectors.available()
    assert "tests need" not in get(eve, "/agents/memory/")
    get(eve, f"/agents/memory/{admitted.pk}/", 404)
    assert eve.post(f"/agents/memory/{proposed.pk}/decide", {"verdict": "admit"}).status_code == 404
    decide = f"/agents/memory/{proposed.pk}/decide"
    assert ada.post(decide, {"verdict": "admit", "why": "it is so"}, follow=True).status_code == 200
    assert "Its time is set." in ada.post(decide, {"verdict": "keep", "days": "30"}, follow=True).content.decode()
    proposed.refresh_from_db()
    assert (proposed.state, proposed.decided_by, proposed.decided_why) == ("admitted", user("ada"), "it is so")
    assert proposed.expires_at is not None
    assert "to 3650 days" in ada.post(decide, {"verdict": "keep", "days": "x"}, follow=True).content.decode()
    assert "admitted already" in ada.post(decide, {"verdict": "admit"}, follow=True).content.decode()
    assert "It is forgotten" in ada.post(decide, {"verdict": "forget"}, follow=True).content.decode()
    written = {"kind": "fact", "text": "Written by hand.", "repository": "shop", "expires_days": ""}
    assert "It is remembered." in ada.post("/agents/memory/new", written, follow=True).content.decode()
    assert find("written by hand")[0] == "Written by hand."
    strict(get(ada, "/agents/memory/new"))


def test_the_api_lists_searches_writes_and_decides():
    ada, eve = client(user("ada")), client(user("eve"))
    repository()
    made = ada.post(
        "/api/v1/memories", {"kind": "fact", "text": "The sky is blue.", "repository": "shop"}, format="json"
    )
    assert (made.status_code, made.json()["state"], made.json()["by"]) == (201, "admitted", "ada"), made.content
    own = eve.post("/api/v1/memories", {"kind": "lesson", "text": "Mine alone."}, format="json").json()
    assert (own["scope"], own["state"]) == (recall.person(user("eve").pk), "admitted")
    problem(
        eve.post("/api/v1/memories", {"kind": "fact", "text": "x", "repository": "shop"}, format="json"),
        400,
        "unknown_repository",
        "repository",
    )
    problem(
        eve.post("/api/v1/memories", {"kind": "fact", "text": "x", "everybody": True}, format="json"),
        403,
        "not_allowed",
    )
    assert [one["text"] for one in ada.get("/api/v1/memories?state=admitted&repository=shop").json()["results"]] == [
        "The sky is blue."
    ]
    (hit,) = ada.get("/api/v1/memories/search?q=blue+sky&limit=5").json()
    assert (hit["memory"]["text"], hit["worded"]) == ("The sky is blue.", 1)
    path = f"/api/v1/memories/{made.json()['id']}"
    assert eve.get(path).status_code == 404
    problem(ada.post(path, {"verdict": "admit"}, format="json"), 409, "not_now")
    assert ada.post(path, {"verdict": "forget", "why": "wrong"}, format="json").json()["text"] == ""
    _, secret = create_token(
        user=user("ada"),
        name="ci",
        scopes=["jobs:write", "jobs:read"],
        actor=Actor.user(user("ada").pk),
        now=timezone.now(),
    )
    bearer = APIClient(HTTP_AUTHORIZATION=f"Bearer {secret}")
    proposed = bearer.post(
        "/api/v1/memories", {"kind": "fact", "text": "By a token.", "repository": "shop"}, format="json"
    )
    assert proposed.json()["state"] == "proposed"
    assert (
        bearer.post(f"/api/v1/memories/{proposed.json()['id']}", {"verdict": "admit"}, format="json").status_code == 403
    )


def test_the_command_searches_forgets_learns_and_makes_indexes(capsys):
    user("root", is_superuser=True)
    memory = remember("The tests need PostgreSQL.")
    call_command("memory", "search", "postgresql", "--json")
    call_command("memory", "list")
    assert str(memory.pk) in capsys.readouterr().out
    call_command("memory", "forget", str(memory.pk), "--as", "ada")
    memory.refresh_from_db()
    assert memory.state == "forgotten"
    of = jobs.goal_job()
    call_command("memory", "learn", str(of.pk), "--as", "ada")
    assert "learns from it" in capsys.readouterr().out
    with pytest.raises(CommandError, match="is no id"):
        call_command("memory", "forget", "x")
    with pytest.raises(CommandError, match="no such memory"):
        call_command("memory", "forget", "0196f5a2-6f0e-7d7e-8f63-2a5b7e1d9c11")


def test_those_whose_time_is_over_are_forgotten_by_the_sweep():
    memory = remember("Until tomorrow.")
    keeping.keep_until(memory, 1, by=user("ada"), now=timezone.now() - timedelta(days=2))
    assert keeping.expire(timezone.now()) == 1
    assert Memory.objects.get().state == "forgotten"
