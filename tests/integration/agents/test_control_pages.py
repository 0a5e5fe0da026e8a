"""Control by the API, the command line, the admin and the pages: who may, and what is said where it cannot be."""

import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from guardian.shortcuts import assign_perm
from playwright.sync_api import Browser, expect

from agents.models import Job, Step
from audit.models import Payload, Record
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents import api, web
from tests.integration.agents.test_engine import run_queued, states, step, submit

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]


def post(job: Job, action: str, body: object = None, who: str = "ada") -> Any:
    return api.client(user(who)).post(f"{api.JOBS}/{job.pk}/{action}", body, format="json")


def test_a_job_is_controlled_by_the_api():
    publish(("test.*", "allow"))
    job = submit(step("a", fail="not_ok"), step("b", "test.note", "a", text="b"))
    for action, state in (("pause", "paused"), ("pause", "paused"), ("resume", "queued"), ("resume", "queued")):
        answer = post(job, action)
        assert (answer.status_code, answer.json()["state"]) == (200, state)
    api.problem(post(job, "retry"), 409, "not_now")
    run_queued(job)
    api.problem(post(job, "pause"), 409, "already_done")
    api.problem(post(job, "retry", {"from_step": "x"}), 400, "invalid_input", "from_step")
    assert post(job, "retry", {"from_step": "a"}).json()["finished_at"] is None
    run_queued(job)
    api.problem(post(job, "fork", {"step": "a", "arguments": {"x": 1}}), 400, "invalid_input", "arguments.x")
    made = post(job, "fork", {"step": "a", "arguments": {"text": "mended"}})
    assert (made.status_code, made.json()["forked_from"]) == (201, str(job.pk))
    assert made["Location"].endswith(f"{api.JOBS}/{made.json()['id']}")
    edit = f"{api.JOBS}/{made.json()['id']}/steps"
    assert api.client(user("ada")).patch(f"{edit}/b", {"arguments": {"text": "c"}}, format="json").status_code == 200
    late = api.client(user("ada")).patch(f"{edit}/a", {"arguments": {"text": "c"}}, format="json")
    api.problem(late, 409, "not_now")
    fork = Job.objects.get(pk=made.json()["id"])
    assert run_queued(fork).state == "succeeded"


def test_who_only_sees_a_job_forks_it_and_changes_nothing():
    publish(("test.*", "allow"))
    job = submit(step("a", text="a"))
    for action in ("pause", "resume", "retry", "fork"):
        assert post(job, action, {"step": "a"} if action == "fork" else None, "eve").status_code == 404
    assign_perm("agents.view_job", user("bob"), job)
    for action in ("pause", "resume", "retry"):
        api.problem(post(job, action, None, "bob"), 403, "not_allowed")
    made = post(job, "fork", {"step": "a"}, "bob")
    assert made.json()["owner"] == "bob"
    edit = api.client(user("bob")).patch(f"{api.JOBS}/{job.pk}/steps/a", {"arguments": {}}, format="json")
    api.problem(edit, 403, "not_allowed")


def test_the_command_line_controls_jobs():
    publish(("test.*", "allow"))
    job = submit(step("a", fail="not_ok"))
    user("root", is_superuser=True)

    def told(*words: str) -> dict[str, Any]:
        out = StringIO()
        call_command("job", *words, "--json", stdout=out)
        return json.loads(out.getvalue())

    assert told("pause", str(job.pk))["state"] == "paused"
    assert told("resume", str(job.pk))["state"] == "queued"
    run_queued(job)
    assert told("retry", str(job.pk), "--from", "a")["state"] == "running"
    run_queued(job)
    with pytest.raises(CommandError, match=r"arguments\.bogus: "):
        told("fork", str(job.pk), "--step", "a", "--arguments", '{"bogus": 1}')
    fork = told("fork", str(job.pk), "--step", "a", "--arguments", '{"text": "x"}')
    assert fork["job"] != str(job.pk)
    assert told("cancel", fork["job"])["state"] == "cancelled"
    with pytest.raises(CommandError) as refused:
        told("pause", str(job.pk))
    assert refused.value.returncode == 3


def test_the_pages_work_without_a_script():
    publish(("test.*", "allow"))
    job = submit(step("a", fail="not_ok"), step("b", "test.note", "a", text="b"))
    client, path = web.signed_in(user("ada")), f"/jobs/{job.pk}"
    assert "Is paused" in client.post(f"{path}/pause", follow=True).content.decode()
    page = client.get(f"{path}/?step=b").content.decode()
    assert ">Resume<" in page
    assert "Edit arguments" in page
    assert "Must be" in client.post(f"{path}/steps/b/edit", {"arguments": "[]"}).content.decode()
    assert "no JSON" in client.post(f"{path}/steps/b/edit", {"arguments": "{"}).content.decode()
    assert client.post(f"{path}/steps/b/edit", {"arguments": '{"text": "new"}'}).status_code == 302
    assert Step.objects.get(job=job, key="b").arguments == {"text": "new"}
    client.post(f"{path}/resume")
    run_queued(job)
    assert "everything that did not succeed" in client.get(f"{path}/retry").content.decode()
    assert client.post(f"{path}/retry", {"from_step": ""}).status_code == 302
    run_queued(job)
    assert "begins with" in client.get(f"{path}/steps/a/fork").content.decode()
    made = client.post(f"{path}/steps/a/fork", {"arguments": '{"text": "mended"}'})
    fork = Job.objects.get(forked_from=job)
    assert made["Location"] == fork.get_absolute_url()
    assert run_queued(fork).state == "succeeded"


def doubtful(owner: str = "ada") -> Step:
    job = web.job(user(owner))
    known = {"error_code": "needs_person", "error": f"The worker w was lost. {web.HOSTILE}"}
    one = web.step(job, "a", state="in_doubt", tool="test.once", effect="once", **known)
    web.write(job, web.output(one, "half of it\n"))
    return one


def test_a_person_answers_in_the_queue_of_doubt_with_a_reason_on_record():
    one, other = doubtful(), doubtful("bob")
    client = web.signed_in(user("ada"))
    page = client.get("/doubt/").content.decode()
    assert "half of it" in page
    assert "<script>alert" not in page
    assert str(one.pk) in page
    assert str(other.pk) not in page
    assert "Answer" in client.get("/").content.decode()
    client.post(f"/doubt/{one.pk}", {"happened": "yes", "reason": " "})
    client.post(f"/doubt/{other.pk}", {"happened": "yes", "reason": "not mine"})
    assert {Step.objects.get(pk=each.pk).state for each in (one, other)} == {"in_doubt"}
    client.post(f"/doubt/{one.pk}", {"happened": "yes", "reason": "the tag is there"})
    assert Step.objects.get(pk=one.pk).state == "succeeded"
    assert (
        "No step is in doubt"
        in client.post(f"/doubt/{one.pk}", {"happened": "no", "reason": "again"}, follow=True).content.decode()
    )
    recorded = Record.objects.filter(body__contains="step.answered").filter(body__contains=str(one.pk)).get()
    assert "happened" in recorded.body
    assert Payload.objects.filter(value__contains="the tag is there").exists()


@pytest.fixture(scope="module")
def server(django_db_setup, django_db_blocker) -> Iterator[web.Server]:
    with django_db_blocker.unblock(), web.served() as running:
        yield running


def test_the_buttons_in_a_browser_on_a_phone(server, browser: Browser):
    """Rows as the engine leaves them: the web server of this test knows no test tools."""
    job = web.job(user("ada"), state="failed", kind="plan", outcome="It broke.")
    web.step(job, "a", tool="shell.exec", arguments={"argv": ["true"]}, state="succeeded")
    web.step(job, "b", tool="shell.exec", arguments={"argv": ["false"]}, state="failed", needs=["a"])
    context = browser.new_context(viewport={"width": 390, "height": 844})
    try:
        value = web.signed_in(user("ada")).cookies[settings.SESSION_COOKIE_NAME].value
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": value, "url": server.url}])
        page = context.new_page()
        page.goto(f"{server.url}/jobs/{job.pk}/?step=b")
        page.get_by_role("link", name="Retry").click()
        page.get_by_role("button", name="Retry job").click()
        expect(page.get_by_text("The job goes on with what did not succeed.")).to_be_visible()
        page.goto(f"{server.url}/jobs/{job.pk}/?step=b")
        page.get_by_role("link", name="Fork from here").click()
        expect(page.get_by_label("Arguments of shell.exec, as JSON")).to_have_value(
            json.dumps({"argv": ["false"]}, indent=2)
        )
        for path in (f"/jobs/{job.pk}/?step=b", f"/jobs/{job.pk}/retry", "/doubt/"):
            page.goto(server.url + path)
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= 390, (path, width)
    finally:
        context.close()
    job.refresh_from_db()
    assert job.finished_at is not None or states(job)["b"] != "failed"
    assert Record.objects.filter(body__contains="job.retried").filter(body__contains=str(job.pk)).exists()
