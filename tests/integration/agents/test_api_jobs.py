"""Jobs over the API: submitting, bad input, reading, cancelling."""

import json

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from agents.models import FeedEntry, Job, Repository, Step
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.api import JOBS, agent, client, nothing_is_left, problem, step

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("test_tools")]


@pytest.fixture
def ada() -> User:
    publish(("test.*", "allow"), ("llm.*", "allow"), ("workspace.*", "allow"))
    return user("ada")


def repository(owner: User, name: str = "sample") -> Repository:
    return Repository.objects.create(name=name, url=f"https://example.invalid/{name}.git", owner=owner)


def test_a_plan_is_taken_and_its_steps_stand_ready(ada):
    sent = {
        "title": "Two notes",
        "steps": [step("a"), step("b", needs=["a"], reason="after a")],
        "priority": 2,
        "labels": {"team": "core"},
    }
    response = client(ada).post(JOBS, sent)
    assert response.status_code == 201
    body = response.json()
    assert response["Location"] == body["url"] == f"http://testserver{JOBS}/{body['id']}"
    assert (body["kind"], body["goal"]) == ("plan", "Two notes")
    assert (body["priority"], body["labels"], body["owner"], body["agent"]) == (2, {"team": "core"}, "ada", None)
    assert body["steps"] == {"pending": 1, "queued": 1}
    steps = client(ada).get(f"{body['url']}/steps").json()["results"]
    assert [(one["key"], one["queue"], one["state"], one["needs"]) for one in steps] == [
        ("a", "shell", "queued", []),
        ("b", "shell", "pending", ["a"]),
    ]


def test_a_goal_goes_to_the_default_agent(ada):
    agent()
    response = client(ada).post(JOBS, {"goal": "  make the tests pass "})
    assert response.status_code == 201, response.content
    assert (response.json()["agent"], response.json()["goal"]) == ("developer", "make the tests pass")


def test_a_job_may_use_a_repository_of_ones_own(ada):
    repository(ada)
    response = client(ada).post(JOBS, {"steps": [step()], "repository": "sample"})
    assert response.status_code == 201, response.content
    keys = list(Step.objects.order_by("seq").values_list("key", "needs"))
    assert keys == [("prepare", []), ("a", ["prepare"])]


BAD = [
    ({"steps": [step(tool="shell.exce")]}, "invalid_plan", ["steps[0].tool"]),
    ({"steps": [step(tool="llm.think")]}, "invalid_plan", ["steps[0].tool"]),
    ({"steps": [step(needs=["b"]), step("b", needs=["a"])]}, "invalid_plan", ["steps[0].needs"]),
    ({"steps": [step(), step("b", needs=["b"])]}, "invalid_plan", ["steps[1].needs"]),
    ({"steps": [step(needs=["zz"])]}, "invalid_plan", ["steps[0].needs[0]"]),
    ({"steps": [step(), step()]}, "invalid_plan", ["steps[1].key"]),
    ({"steps": [step(), step("prepare")]}, "invalid_plan", ["steps[1].key"]),
    ({"steps": [step(arguments={"text": 1})]}, "invalid_plan", ["steps[0].arguments.text"]),
    ({"steps": [step(arguments={"txt": "x"})]}, "invalid_plan", ["steps[0].arguments.txt"]),
    ({"steps": [step(arguments={"text": "x" * 300_000})]}, "invalid_plan", ["steps[0].arguments"]),
    ({"steps": [step()], "colour": "red"}, "invalid_input", ["colour"]),
    ({"steps": [step(color="red")]}, "invalid_input", ["steps[0].color"]),
    ({"steps": [step()], "repository": "nowhere"}, "unknown_repository", ["repository"]),
    ({"steps": [step()], "agent": "nobody"}, "unknown_agent", ["agent"]),
    ({"steps": [step()], "goal": "x"}, "invalid_input", ["steps"]),
    ({"goal": "x", "title": "y"}, "invalid_input", ["title"]),
    ({"goal": "  "}, "invalid_input", ["goal"]),
    ({}, "invalid_input", ["goal"]),
    ([], "invalid_input", []),
    ({"goal": "x\x00"}, "invalid_input", ["goal"]),
    ({"steps": [step()], "priority": 10}, "invalid_input", ["priority"]),
]


@pytest.mark.parametrize(("sent", "code", "fields"), BAD)
def test_bad_input_is_refused_by_field_and_leaves_nothing(ada, sent, code, fields):
    agent()
    problem(client(ada).post(JOBS, sent), 400, code, *fields)
    assert nothing_is_left()


def test_a_cycle_is_named_in_words(ada):
    sent = {"steps": [step(needs=["c"]), step("b", needs=["a"]), step("c", needs=["b"])]}
    body = problem(client(ada).post(JOBS, sent), 400, "invalid_plan", "steps[0].needs")
    assert "a → c → b → a" in body["detail"]


def test_every_problem_of_a_plan_is_named_at_once(ada):
    sent = {"steps": [step(tool="no.tool"), step("b", arguments={"text": 1}), step("b", needs=["x"])]}
    fields = ["steps[0].tool", "steps[1].arguments.text", "steps[2].key", "steps[2].needs[0]"]
    problem(client(ada).post(JOBS, sent), 400, "invalid_plan", *fields)


@pytest.mark.parametrize("body", [b"{", b'{"goal": "x", "goal": "y"}', b'{"priority": NaN}', b"\xff", b"[" * 50_000])
def test_malformed_json_is_refused(ada, body):
    problem(client(ada).post(JOBS, body, content_type="application/json"), 400, "malformed_json")
    assert nothing_is_left()


def test_an_oversized_body_is_refused(ada, settings):
    body = json.dumps({"goal": "x" * settings.DATA_UPLOAD_MAX_MEMORY_SIZE}).encode()
    problem(client(ada).post(JOBS, body, content_type="application/json"), 413, "body_too_large")
    assert nothing_is_left()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_another_type_of_body_is_refused(ada, kind):
    problem(client(ada).post(JOBS, b"goal=x", content_type=kind), 415, "unsupported_media_type")
    assert nothing_is_left()


def test_a_chunked_body_without_a_length_is_refused_rather_than_taken_for_empty(ada):
    chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}
    response = client(ada).post(JOBS, b"{}", content_type="application/json", **chunked)
    problem(response, 411, "length_required")


def test_a_disabled_agent_is_not_there(ada):
    agent("developer", enabled=False)
    problem(client(ada).post(JOBS, {"goal": "x"}), 400, "unknown_agent", "agent")


def test_somebody_elses_repository_is_answered_like_one_that_does_not_exist(ada):
    repository(user("bob"), "secret")
    answers = [
        problem(
            client(ada).post(JOBS, {"steps": [step()], "repository": name}), 400, "unknown_repository", "repository"
        )
        for name in ("secret", "absent")
    ]
    assert answers[0]["detail"].replace("secret", "absent") == answers[1]["detail"]


def test_a_full_queue_says_when_to_come_back(ada, settings):
    settings.JOBS_QUEUED_MAX = 1
    assert client(ada).post(JOBS, {"steps": [step()]}).status_code == 201
    response = client(ada).post(JOBS, {"steps": [step()]})
    problem(response, 429, "queue_full")
    assert int(response["Retry-After"]) > 0
    assert Job.objects.count() == 1


def test_a_step_shows_decision_result_and_attempts(ada):
    job = client(ada).post(JOBS, {"steps": [step()]}).json()
    body = client(ada).get(f"{job['url']}/steps/a").json()
    assert body["arguments"] == {"text": "a"}
    assert body["decision"]["effect"] == "allow"
    assert (body["result"], body["attempts"]) == (None, [])
    problem(client(ada).get(f"{job['url']}/steps/zz"), 404, "not_found")
    problem(client(ada).get(f"{job['url']}/steps/a%00"), 404, "not_found")


def test_the_feed_is_read_by_cursor(ada):
    job = client(ada).post(JOBS, {"steps": [step()]}).json()
    url = f"{job['url']}/events"
    every = client(ada).get(url).json()
    assert [one["seq"] for one in every["results"]] == list(range(1, len(every["results"]) + 1))
    assert (every["after"], every["done"]) == (len(every["results"]), False)
    first = client(ada).get(url, {"limit": 1}).json()
    rest = client(ada).get(url, {"after": first["after"]}).json()
    assert first["results"] + rest["results"] == every["results"]
    problem(client(ada).get(url, {"after": "x"}), 400, "invalid_input", "after")
    problem(client(ada).get(url, {"limit": 0}), 400, "invalid_input", "limit")


def test_the_feed_says_when_nothing_more_comes(ada):
    job = client(ada).post(JOBS, {"steps": [step()]}).json()
    client(ada).post(f"{job['url']}/cancel")
    feed = client(ada).get(f"{job['url']}/events").json()
    assert feed["done"] is True
    assert feed["results"][-1]["data"] == {"state": "cancelled"}
    assert FeedEntry.objects.count() == feed["after"]


def test_cancelling_ends_a_job_once_and_a_second_time_changes_nothing(ada):
    job = client(ada).post(JOBS, {"steps": [step(), step("b", needs=["a"])]}).json()
    first = client(ada).post(f"{job['url']}/cancel")
    assert (first.status_code, first.json()["state"]) == (200, "cancelled")
    entries = FeedEntry.objects.count()
    again = client(ada).post(f"{job['url']}/cancel", {})
    assert (again.status_code, again.json()["state"]) == (200, "cancelled")
    assert FeedEntry.objects.count() == entries


def test_a_finished_job_cannot_be_cancelled(ada):
    job = client(ada).post(JOBS, {"steps": [step()]}).json()
    Job.objects.update(state="succeeded", finished_at=timezone.now())
    problem(client(ada).post(f"{job['url']}/cancel"), 409, "already_done")


def test_cancel_takes_no_input(ada):
    job = client(ada).post(JOBS, {"steps": [step()]}).json()
    problem(client(ada).post(f"{job['url']}/cancel", {"force": True}), 400, "invalid_input", "force")


def test_lists_come_in_pages_without_gaps_while_jobs_are_added(ada):
    made = [client(ada).post(JOBS, {"steps": [step()]}).json()["id"] for _ in range(5)]
    page = client(ada).get(JOBS, {"limit": 2}).json()
    seen = [one["id"] for one in page["results"]]
    client(ada).post(JOBS, {"steps": [step()]})
    while page["next"]:
        page = client(ada).get(page["next"]).json()
        seen += [one["id"] for one in page["results"]]
    assert seen == made[::-1]


def test_lists_are_filtered(ada):
    repository(ada)
    one = client(ada).post(JOBS, {"steps": [step()], "labels": {"team": "core"}}).json()["id"]
    two = client(ada).post(JOBS, {"steps": [step()], "repository": "sample", "labels": {"team": "web"}}).json()["id"]
    client(ada).post(f"{JOBS}/{one}/cancel")

    def found(query: str) -> list[str]:
        return [job["id"] for job in client(ada).get(f"{JOBS}?{query}").json()["results"]]

    assert found("state=cancelled") == [one]
    assert found("state=cancelled&state=queued&state=running") == [two, one]
    assert found("repository=sample") == [two]
    assert found("label=team") == [two, one]
    assert found("label=team:web") == [two]
    assert found("label=team:web&label=none") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [("state=done", "state"), ("sate=failed", "sate"), ("limit=0", "limit"), ("limit=x", "limit"), ("limit=9999", "limit"),
     ("cursor=x", "cursor"), ("cursor=cD1ub3QtYS11dWlk", "cursor"), ("label=%00", "label")],
)  # fmt: skip
def test_a_wrong_query_is_named(ada, query, field):
    problem(client(ada).get(f"{JOBS}?{query}"), 400, "invalid_input", field)


def test_an_unchanged_job_is_not_sent_again(ada):
    job = client(ada).post(JOBS, {"steps": [step()]}).json()
    seen = client(ada).get(job["url"])["ETag"]
    unchanged = client(ada).get(job["url"], headers={"If-None-Match": seen})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    client(ada).post(f"{job['url']}/cancel")
    assert client(ada).get(job["url"], headers={"If-None-Match": seen}).status_code == 200


def test_unknown_addresses_and_methods_are_problems(ada):
    problem(client(ada).get("/api/v1/jbos"), 404, "not_found")
    problem(client(ada).get("/api/"), 404, "not_found")
    problem(client(ada).get(f"{JOBS}/not-a-uuid"), 404, "not_found")
    problem(client(ada).delete(JOBS), 405, "method_not_allowed")


def test_a_slash_too_many_is_forgiven_with_method_and_body(ada):
    response = client(ada).post(f"{JOBS}/?x=1", {"goal": "x"})
    assert (response.status_code, response["Location"]) == (308, f"{JOBS}?x=1")


def test_an_unknown_address_is_a_problem_for_every_method():
    stranger = Client(enforce_csrf_checks=True)
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        response = stranger.generic(method, "/api/v1/jbos", b"{}", content_type="application/json")
        problem(response, 404, "not_found")


def test_a_session_needs_the_csrf_token_to_change_anything(ada):
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(ada)
    response = browser.post(JOBS, {"steps": [step()]}, content_type="application/json")
    problem(response, 403, "permission_denied")
    assert nothing_is_left()


def test_an_error_of_the_servers_own_is_a_problem_without_details(ada, monkeypatch):
    from agents.api import jobs

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(jobs, "submit", broken)
    browser = client(ada)
    browser.raise_request_exception = False
    response = browser.post(JOBS, {"goal": "x"})
    assert b"secret detail" not in response.content
    problem(response, 500, "server_error")


@pytest.mark.parametrize("depth", [40, *range(900, 1000, 20), 5000])
def test_a_body_of_any_depth_is_a_problem_and_no_fault(depth):
    nested = '{"a":' * depth + "1" + "}" * depth
    sent = f'{{"steps": [{{"key": "a", "tool": "test.note", "arguments": {nested}}}]}}'
    response = client(user("ada")).post(JOBS, sent, content_type="application/json")
    assert response.status_code == 400, response.content[:300]
    assert nothing_is_left()
