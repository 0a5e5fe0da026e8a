"""`/mcp` over HTTP, from a stranger's client: who is let in, what they see, and what becomes of what they ask for."""

import threading
from collections.abc import Iterator
from concurrent import futures
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from mcp.client.extension import advertise
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolRequest, CallToolRequestParams, RequestParams
from mcp_types import Request as AnyRequest
from pydantic import BaseModel, ConfigDict, Field

from agents import feed, tokens
from agents.mcp import door
from agents.mcp.tasks import IDENTIFIER
from agents.models import ApiToken, Job, Step
from agents.workflows.shipped import ensure_workflows
from approvals.decisions import decide
from approvals.models import ApprovalRequest
from audit.actor import Actor
from tests.factories.mcp.outside import ERAS, Outside, outside
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.driving import run_all
from tests.integration.agents.web import Server, served, until, write
from tests.integration.agents.web import job as a_job

pytestmark = pytest.mark.django_db(transaction=True)

ECHO = ["echo", "governed"]


@pytest.fixture(scope="module")
def server(django_db_setup: None) -> Iterator[Server]:
    with served() as running:
        yield running


@pytest.fixture(scope="module")
def another(django_db_setup: None) -> Iterator[Server]:
    """A second web process of the same installation."""
    with served() as running:
        yield running


@pytest.fixture
def ada() -> User:
    publish(("shell.*", "ask"), ("human.*", "allow"), ("workspace.*", "allow"))
    return user("ada")


def token(of: User, *scopes: str, **fields: Any) -> str:
    given = list(scopes) or list(ApiToken.Scope.values)
    now = timezone.now()
    return tokens.create_token(user=of, name="outside", scopes=given, now=now, actor=Actor.user(of.pk), **fields)[1]


def approve(job: str) -> None:
    grace = user("grace", groups=("approvers",))
    asked = ApprovalRequest.objects.get(parent_id=job, state="pending")
    decide(request_id=asked.pk, by=grace, verdict="approve", reason="", channel="page", now=timezone.now())


def test_only_a_good_token_is_let_in(server, ada):
    good, ended = token(ada), token(ada, expires_at=timezone.now() + timedelta(hours=1))
    ApiToken.objects.filter(token_sha256=tokens.sha256(ended)).update(revoked_at=timezone.now())
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accept = {"Accept": "application/json, text/event-stream"}
    with httpx2.Client(base_url=server.url, trust_env=False, timeout=30) as http:
        refused = [http.post("/mcp", json=body, headers=accept)]
        for one in ("Bearer cs_nothing", f"Bearer {ended}", f"Basic {good}", f"Bearer {good[:-1]}x"):
            refused.append(http.post("/mcp", json=body, headers={**accept, "Authorization": one}))
        assert [one.status_code for one in refused] == [401] * 5
        where = refused[0].headers["WWW-Authenticate"].partition('resource_metadata="')[2].rstrip('"')
        found = http.get(httpx2.URL(where).path).json()
        assert found["resource"].endswith("/mcp") and "jobs:write" in found["scopes_supported"]
        assert http.get(door.METADATA).json() == found

        held = {**accept, "Authorization": f"Bearer {good}"}
        assert http.post("/mcp", json=body, headers=held).status_code == 200
        assert http.post("/mcp/", json=body, headers=held).status_code == 200
        assert http.post("/mcp", json=body, headers={**held, "Host": "evil.example"}).status_code == 421
        assert http.post("/mcp", json=body, headers={**held, "Origin": "https://evil.example"}).status_code == 403
        assert http.get("/healthz").status_code == 200  # Django answers all else


def test_a_token_is_counted_as_the_api_counts_it(ada, settings):
    settings.API_RATES = {"anonymous": 0, "user": 0, "token": 1}
    header = f"Bearer {token(ada)}"
    found = [door._checked(header, "127.0.0.1")[1] for _ in range(2)]
    assert found[0] == 0 < found[1]


@pytest.mark.parametrize("era", ERAS)
def test_a_call_from_outside_waits_for_a_person(server, ada, era):
    heard: list[str] = []

    async def progress(number: float, total: float | None, words: str | None) -> None:
        heard.append(str(words))

    with outside(server.url, token(ada), era=era) as client:
        began = client.call("shell__exec", argv=ECHO, _reason="to see it", _wait_s=0)
        assert began["status"] == "running"
        job = Job.objects.get(pk=began["job"])
        assert (job.owner, job.labels) == (ada, {"mcp": "call"})
        waiting = client.begin(
            client.client.call_tool, "wait_job", {"job": began["job"], "timeout_s": 50}, progress_callback=progress
        )
        run_all(job)
        seen = waiting.result(60).structured_content
        assert seen["state"] == "waiting" and not seen["done"]
        (asked,) = seen["waits_for"]
        assert asked["kind"] == "approval" and "echo governed" in asked["command"] and "/approvals/" in asked["page"]
        assert client.call("list_approvals")["approvals"] == [asked]
        until(lambda: heard[-1:] == ["waiting · 0/1 steps"])
        assert Step.objects.get(job=job).state == "waiting_approval"  # nothing that a client can do lets it through

        approve(began["job"])
        run_all(job)
        done = client.call("wait_job", job=began["job"], until="done", timeout_s=50)
        assert (done["state"], done["steps"][0]["state"]) == ("succeeded", "succeeded")
        assert "governed" in client.call("get_step", job=began["job"], key="call")["result"]["text"]
        assert "governed" in client.call("get_log", job=began["job"])["log"]
        again = client.run(client.client.read_resource, f"countersign://jobs/{began['job']}/log").contents[0]
        assert "governed" in again.text


def test_what_policy_refuses_is_told_to_the_client(server, ada):
    publish(("shell.*", "deny"))
    with outside(server.url, token(ada)) as client:
        said = client.refused("shell__exec", argv=ECHO, _wait_s=20)
        assert '"status": "refused"' in said
        assert "argv" in client.refused("shell__exec", argv="echo")  # the schema holds
        assert not Job.objects.exclude(labels={"mcp": "call"}).exists()


def test_a_token_does_what_its_scopes_say(server, ada):
    job = a_job(ada)
    with outside(server.url, token(ada, "jobs:read")) as client:
        tools = client.tools()
        assert {"get_job", "wait_job", "get_log"} <= set(tools)
        assert not {"submit_job", "cancel_job", "list_approvals", "shell__exec"} & set(tools)
        for name, arguments in (("submit_job", {"goal": "x"}), ("shell__exec", {"argv": ECHO}), ("list_approvals", {})):
            assert "scope_missing" in client.refused(name, **arguments)
        assert client.call("get_job", job=str(job.pk))["id"] == str(job.pk)
    with outside(server.url, token(ada, "jobs:write")) as client:
        assert set(client.tools()) == {"submit_job", "cancel_job"}
        assert "scope_missing" in client.refused("shell__exec", argv=ECHO)
    with outside(server.url, token(ada, "approvals:read")) as client:
        assert set(client.tools()) == {"list_approvals"}
        with pytest.raises(MCPError, match="scope_missing"):
            client.run(client.client.read_resource, f"countersign://jobs/{job.pk}")
    assert Job.objects.count() == 1


def test_others_jobs_are_not_there(server, ada):
    theirs = a_job(user("mallory"))
    with outside(server.url, token(ada)) as client:
        for name in ("get_job", "wait_job", "get_log", "cancel_job"):
            assert "not_found" in client.refused(name, job=str(theirs.pk))
        assert "not_found" in client.refused("get_job", job="../etc/passwd")
        assert client.call("list_jobs")["jobs"] == []
        for uri in (f"countersign://jobs/{theirs.pk}", f"countersign://jobs/{theirs.pk}/log", "countersign://jobs/x"):
            with pytest.raises(MCPError) as caught:
                client.run(client.client.read_resource, uri)
            assert caught.value.error.code == -32602
        listed = client.run(client.client.list_resources).resources
        assert [str(one.uri) for one in listed] == ["countersign://jobs"]


def test_tools_are_described(server, ada):
    with outside(server.url, token(ada)) as client:
        tools = client.tools()
        assert all(tool.description and tool.title for tool in tools.values())
        read, shell = tools["files__read"], tools["shell__exec"]
        assert read.annotations.read_only_hint and not shell.annotations.read_only_hint
        assert shell.input_schema["required"] == ["argv"] and "_repository" in shell.input_schema["properties"]
        assert "approve" in client.client.instructions


def test_a_job_is_submitted_once_a_key(server, ada):
    plan = [{"key": "a", "tool": "shell.exec", "arguments": {"argv": ECHO}}]
    with outside(server.url, token(ada)) as client:
        first = client.call("submit_job", steps=plan, title="Two times", idempotency_key="k1")
        again = client.call("submit_job", steps=plan, title="Two times", idempotency_key="k1")
        assert first["id"] == again["id"] and first["steps"][0]["key"] == "a"
        assert "idempotency_conflict" in client.refused("submit_job", goal="another", idempotency_key="k1")
        assert "steps[0].tool" in client.refused("submit_job", steps=[{"key": "a", "tool": "no.such"}])
        assert client.call("cancel_job", job=first["id"])["state"] == "cancelled"
    assert Job.objects.count() == 1


def test_workflows_are_prompts(server, ada):
    ensure_workflows(now=timezone.now())
    with outside(server.url, token(ada)) as client:
        prompts = {one.name: one for one in client.run(client.client.list_prompts).prompts}
        assert {"review", "ship"} <= set(prompts)
        assert {one.name for one in prompts["review"].arguments if one.required} == {"branch", "repository"}
        given = {"branch": "fix-it", "repository": "sample"}
        text = client.run(client.client.get_prompt, "review", given).messages[0].content.text
        assert '"workflow": "review@1"' in text and '"branch": "fix-it"' in text and '"repository": "sample"' in text
        for wrong in ({"branch": "x"}, {**given, "colour": "red"}):
            with pytest.raises(MCPError, match=r"colour|repository"):
                client.run(client.client.get_prompt, "review", wrong)


# The tasks extension, as its text has it: the SDK's client knows no such messages yet.


class TaskParams(RequestParams):
    task_id: str = Field(alias="taskId")


class TaskRequest(AnyRequest[TaskParams, str]):
    name_param = "taskId"


class Anything(BaseModel):
    model_config = ConfigDict(extra="allow")


def ask(client: Outside, method: str, task: str) -> dict[str, Any]:
    request = TaskRequest(method=method, params=TaskParams(taskId=task))
    return client.run(client.client.session.send_request, request, Anything).model_dump()


def begin(client: Outside, name: str, **arguments: Any) -> dict[str, Any]:
    request = CallToolRequest(params=CallToolRequestParams(name=name, arguments=arguments))
    return client.run(client.client.session.send_request, request, Anything).model_dump()


def test_a_task_of_one_process_is_known_to_another(server, another, ada):
    held = token(ada)
    offered = [advertise(IDENTIFIER)]
    with outside(server.url, held, extensions=offered) as here, outside(another.url, held, extensions=offered) as there:
        assert IDENTIFIER in here.client.server_capabilities.extensions
        task = begin(here, "shell__exec", argv=ECHO)
        assert (task["resultType"], task["status"]) == ("task", "working")
        seen = ask(there, "tasks/get", task["taskId"])
        assert seen["status"] == "working" and "result" not in seen
        run_all(Job.objects.get(pk=task["taskId"]))
        assert "/approvals/" in ask(there, "tasks/get", task["taskId"])["statusMessage"]
        approve(task["taskId"])
        run_all(Job.objects.get(pk=task["taskId"]))
        seen = ask(there, "tasks/get", task["taskId"])
        assert seen["status"] == "completed" and seen["result"]["structuredContent"]["status"] == "succeeded"

        plan = [{"key": "a", "tool": "shell.exec", "arguments": {"argv": ECHO}}]
        second = begin(there, "submit_job", steps=plan)["taskId"]
        assert ask(here, "tasks/cancel", second)["resultType"] == "complete"
        assert ask(there, "tasks/get", second)["status"] == "cancelled"
        for unknown in (str(uuid4()), "nothing", str(a_job(user("mallory")).pk)):
            with pytest.raises(MCPError, match="no such task"):
                ask(here, "tasks/get", unknown)
    with outside(server.url, held) as plain, pytest.raises(MCPError) as caught:
        ask(plain, "tasks/get", task["taskId"])
    assert caught.value.error.code == -32021


def test_a_listener_hears_of_its_jobs_alone(server, ada):
    job, theirs = a_job(ada, state="queued", started_at=None), a_job(user("mallory"))
    mine, other = f"countersign://jobs/{job.pk}", f"countersign://jobs/{theirs.pk}"
    with outside(server.url, token(ada)) as client:

        async def first() -> tuple[list[str], str]:
            async with client.client.listen(resource_subscriptions=[mine, other]) as heard:
                ready.set()
                async for event in heard:
                    return list(heard.honored.resource_subscriptions or ()), event.uri
            raise AssertionError("the stream ended")

        ready = threading.Event()
        listening = client.begin(first)
        assert ready.wait(30)
        deadline = timezone.now() + timedelta(seconds=50)
        while not listening.done():  # Redis may not have its subscriber yet: the job changes until it has
            assert timezone.now() < deadline
            tell(theirs)
            tell(job)
            futures.wait([listening], timeout=0.2)
        honored, uri = listening.result(10)
        assert (honored, uri) == ([mine], mine)


def tell(job: Job) -> None:
    write(job, feed.Entry(kind="note", data={"text": "x"}))
