"""The pages over a real database: who sees what, that hostile content stays text, and what forms do."""

import re
from html.parser import HTMLParser

import pytest
from django.test import Client
from django.utils import timezone
from guardian.shortcuts import assign_perm

from agents.engine.doubt import NEEDS_PERSON
from agents.models import Job, LlmCall, Repository, Step
from agents.states import JobState, StepState
from approvals.models import Vote
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents import api, web

pytestmark = pytest.mark.django_db(transaction=True)

NOBODY = "00000000-0000-7000-8000-000000000000"


def get(client: Client, path: str, status: int = 200) -> str:
    response = client.get(path)
    assert response.status_code == status, (path, response.status_code)
    return response.content.decode()


class Strict(HTMLParser):
    """Finds what the CSP would block: inline scripts, inline styles, event handlers, foreign addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.wrong += [f"<{tag} {name}>" for name in given if name.startswith("on") or name == "style"]
        self.wrong += ["<style>"] if tag == "style" else []
        self.wrong += ["inline script"] if tag == "script" and not given.get("src") else []
        for name in ("src", "href", "action"):
            address = given.get(name) or ""
            if re.match(r"(?i)\s*(javascript|data|https?):|//", address):
                self.wrong.append(f"<{tag} {name}={address}>")


def strict(html: str) -> Strict:
    parser = Strict()
    parser.feed(html)
    assert parser.wrong == []
    return parser


# ---- who sees what ----


@pytest.mark.parametrize(
    "path",
    ["/", "/overview/", "/jobs/", "/jobs/new/", f"/jobs/{NOBODY}/", f"/jobs/{NOBODY}/fragment"],
)
def test_pages_send_strangers_to_the_sign_in_page(path):
    response = Client().get(path)
    assert response.status_code == 302
    assert response["Location"] == f"/accounts/login/?next={path}"


def test_a_job_that_is_not_shared_is_not_there():
    job = web.job(user("ada"))
    web.step(job, state="in_doubt")
    eve = web.signed_in(user("eve"))
    for path in ("", "fragment"):
        assert eve.get(f"/jobs/{job.pk}/{path}").status_code == 404
    assert eve.post(f"/jobs/{job.pk}/cancel").status_code == 404
    assert eve.post(f"/jobs/{job.pk}/steps/1.1/settle", {"happened": "yes"}).status_code == 404
    assert job.goal not in get(eve, "/jobs/") + get(eve, "/")
    assert not Job.objects.get(pk=job.pk).cancel_requested
    assert Step.objects.get(job=job).state == StepState.IN_DOUBT


def test_who_a_job_was_shared_with_reads_it_and_changes_nothing():
    job = web.job(user("ada"))
    reader = user("bob")
    assign_perm("agents.view_job", reader, job)
    bob = web.signed_in(reader)
    page = get(bob, f"/jobs/{job.pk}/")
    assert "Cancel job" not in page
    assert bob.post(f"/jobs/{job.pk}/cancel").status_code == 403
    assert "Cancel job" in get(web.signed_in(user("ada")), f"/jobs/{job.pk}/")


def test_a_request_is_a_link_only_for_who_may_open_it():
    job = web.job(user("ada"), state="waiting")
    asked = web.request(web.step(job, state="waiting_approval", tool="git.push"))
    reader = user("bob")
    assign_perm("agents.view_job", reader, job)
    href = f'href="/approvals/{asked.pk}/"'
    assert href in get(web.signed_in(user("ada")), f"/jobs/{job.pk}/")
    page = get(web.signed_in(reader), f"/jobs/{job.pk}/")
    assert href not in page
    assert "Waits 2 min for approvers: developer wants to run git.push" in page


# ---- sign in and out ----


def test_signing_in_and_out():
    person = user("ada")
    person.set_password("right")
    person.save()
    client = Client(enforce_csrf_checks=True)
    page = client.get("/accounts/login/?next=/jobs/")
    strict(page.content.decode())
    token = client.cookies["csrftoken"].value
    given = {"username": "ada", "password": "wrong", "next": "/jobs/", "csrfmiddlewaretoken": token}
    refused = client.post("/accounts/login/", given)
    assert "Please enter a correct username and password" in refused.content.decode()
    entered = client.post("/accounts/login/", {**given, "password": "right"})
    assert (entered.status_code, entered["Location"]) == (302, "/jobs/")
    assert client.post("/accounts/logout/").status_code == 403, "signing out needs the form's token"
    assert client.get("/accounts/logout/").status_code == 405
    token = client.cookies["csrftoken"].value
    assert client.post("/accounts/logout/", {"csrfmiddlewaretoken": token}).status_code == 302
    assert client.get("/jobs/").status_code == 302


def test_the_sign_in_page_leads_to_no_other_site():
    person = user("ada")
    person.set_password("right")
    person.save()
    given = {"username": "ada", "password": "right", "next": "https://evil.example/"}
    assert Client().post("/accounts/login/", given)["Location"] == "/"


# ---- hostile content ----


def hostile_job() -> Job:
    job = web.job(user("ada"), state="failed", goal=web.HOSTILE, outcome=web.HOSTILE, labels={"a": web.HOSTILE})
    result = {
        "ok": False,
        "summary": web.HOSTILE,
        "text": web.HOSTILE,
        "exit_code": 1,
        "truncated_bytes": 4096,
        "sandbox": {"tier": web.HOSTILE},
    }
    web.step(
        job,
        "1.1",
        state="failed",
        arguments={"text": web.HOSTILE},
        reason=web.HOSTILE,
        error=web.HOSTILE,
        result=result,
    )
    think = web.step(
        job,
        "think-1",
        tool="llm.think",
        queue="llm",
        result={
            "ok": True,
            "summary": "",
            "text": "",
            "data": {
                "content": web.HOSTILE,
                "tool_calls": [{"name": web.HOSTILE, "arguments": {web.HOSTILE: web.HOSTILE}}, "not an object"],
                "finish": {"success": True, "summary": web.HOSTILE},
            },
        },
    )
    LlmCall.objects.create(
        step=think, attempt=1, endpoint="e", model=web.HOSTILE, error=web.HOSTILE, request_sha256="", at=timezone.now()
    )
    asked = web.request(think, kind="question", title=web.HOSTILE, state="denied", decided_at=timezone.now())
    Vote.objects.create(
        request=asked, user=user("grace"), verdict="deny", reason=web.HOSTILE, channel="page", at=timezone.now()
    )
    web.write(job, web.output(think, web.HOSTILE), web.output(think, web.HOSTILE, stream=web.HOSTILE))
    return job


@pytest.mark.parametrize("query", ["", "?step=1.1", "?step=think-1", "?step=no-such-step", f"?step={web.HOSTILE}"])
def test_hostile_content_stays_text_on_the_job_page(query):
    job = hostile_job()
    for path in (f"/jobs/{job.pk}/{query}", f"/jobs/{job.pk}/fragment{query}"):
        html = get(web.signed_in(user("ada")), path)
        strict(html)
        assert "<script>alert" not in html
        assert "\u202e" not in html


def test_hostile_content_stays_text_in_lists():
    hostile_job()
    asked = web.step(web.job(user("ada"), state="waiting"), state="waiting_approval")
    web.request(asked, title=web.HOSTILE, command=web.HOSTILE)
    client = web.signed_in(user("grace", groups=("approvers",), is_superuser=True))
    for path in ("/", "/overview/", "/jobs/", f"/jobs/?q={web.HOSTILE}"):
        html = get(client, path)
        strict(html)
        assert "<script>alert" not in html
        assert "\u202e" not in re.sub(r'(value|href)="[^"]*"', "", html), (
            "only what the reader typed comes back as it was"
        )


def test_pages_are_sent_with_the_strict_policy_and_are_not_cached():
    job = web.job(user("ada"))
    for path in ("/", "/jobs/", "/jobs/new/", f"/jobs/{job.pk}/"):
        response = web.signed_in(user("ada")).get(path)
        assert "unsafe" not in response["Content-Security-Policy"]
        assert "script-src 'self'" in response["Content-Security-Policy"]
        assert "no-store" in response["Cache-Control"]
        strict(response.content.decode())


# ---- the job page ----


def test_the_job_page_shows_the_chosen_step_in_full():
    job = web.job(user("ada"))
    web.step(job, "1.1", arguments={"text": "hello"}, reason="to greet", result={"text": "the output", "exit_code": 3})
    web.step(job, "1.2", state="pending", ready_at=None, decision=None)
    html = get(web.signed_in(user("ada")), f"/jobs/{job.pk}/?step=1.1")
    for part in (
        "to greet",
        "the output",
        "exit code 3",
        "rule-1",
        "testing@1",
        "shell@host",
        "queue <code>shell</code>",
    ):
        assert part in html
    assert html.count('aria-current="true"') == 1
    assert 'class="step-row future"' in html


def test_without_a_choice_the_page_shows_the_step_that_matters_now():
    job = web.job(user("ada"))
    web.step(job, "1.1")
    web.step(job, "1.2", state="running", tool="test.now")
    web.step(job, "1.3", state="pending", ready_at=None)
    html = get(web.signed_in(user("ada")), f"/jobs/{job.pk}/")
    assert re.search(r'id="panel-title"><span class="step-tool">test\.now<', html)
    assert "Runs test.now on worker shell@host" in html


def test_the_page_shows_only_the_end_of_a_long_log_and_says_so():
    job = web.job(user("ada"))
    step = web.step(job, state="running")
    web.write(job, *[web.output(step, f"line {n}\n") for n in range(1, 611)])
    html = get(web.signed_in(user("ada")), f"/jobs/{job.pk}/")
    assert "110 earlier entries stand in the" in html
    assert "line 111\n" in html
    assert "line 110\n" not in html
    assert 'data-after="610"' in html


def test_the_scripted_stand_in_is_called_so(settings):
    job = web.job(user("ada"))
    client = web.signed_in(user("ada"))
    settings.LLM_SCRIPTED = False
    assert "scripted stand-in" not in get(client, f"/jobs/{job.pk}/")
    settings.LLM_SCRIPTED = True
    assert "scripted stand-in" in get(client, f"/jobs/{job.pk}/")
    Job.objects.filter(pk=job.pk).update(kind="plan")
    assert "scripted stand-in for a model" not in get(client, f"/jobs/{job.pk}/")


def test_the_page_gives_the_job_as_curl_without_breaking_out_of_the_shell():
    job = web.job(user("ada"), goal="it's $(reboot) `now`", priority=2, agent=api.agent(), labels={"team": "x"})
    html = get(web.signed_in(user("ada")), f"/jobs/{job.pk}/")
    command = re.search(r'id="curl-submit">(.*?)</pre>', html, re.S)
    assert command is not None
    assert "it&#x27;&quot;&#x27;&quot;&#x27;s $(reboot)" in command[1]
    assert "&quot;priority&quot;: 2" in command[1]
    assert f"/api/v1/jobs/{job.pk}" in html


def test_cancelling_is_a_post_with_a_token():
    job = web.job(user("ada"), state="queued")
    web.step(job, state="queued")
    client = web.signed_in(user("ada"))
    assert client.get(f"/jobs/{job.pk}/cancel").status_code == 405
    guarded = Client(enforce_csrf_checks=True)
    guarded.force_login(user("ada"))
    assert guarded.post(f"/jobs/{job.pk}/cancel").status_code == 403
    assert Job.objects.get(pk=job.pk).state == JobState.QUEUED
    page = client.post(f"/jobs/{job.pk}/cancel", follow=True).content.decode()
    assert "is being cancelled" in page
    assert Job.objects.get(pk=job.pk).state == JobState.CANCELLED
    assert "already" in client.post(f"/jobs/{job.pk}/cancel", follow=True).content.decode()


@pytest.mark.parametrize(("answer", "state"), [("yes", StepState.SUCCEEDED), ("no", StepState.QUEUED)])
@pytest.mark.usefixtures("test_tools")
def test_a_person_says_whether_a_step_in_doubt_happened(answer, state):
    publish(("test.*", "allow"))
    job = web.job(user("ada"))
    step = web.step(job, state="in_doubt", tool="test.once", effect="once", error_code=NEEDS_PERSON)
    client = web.signed_in(user("ada"))
    assert "Did it happen?" in get(client, f"/jobs/{job.pk}/") and "Did it happen?" in get(client, "/")
    assert client.post(f"/jobs/{job.pk}/steps/1.1/settle", {"happened": "maybe"}).status_code == 400
    client.post(f"/jobs/{job.pk}/steps/1.1/settle", {"happened": answer})
    step.refresh_from_db()
    assert step.state == state
    again = client.post(f"/jobs/{job.pk}/steps/1.1/settle", {"happened": answer}, follow=True)
    assert "Somebody else has answered already" in again.content.decode()


# ---- lists and forms ----


def test_the_list_is_narrowed_by_state_and_words_and_turned_by_pages():
    ada = user("ada")
    for number in range(30):
        web.job(ada, goal=f"job number {number}", state="failed" if number % 10 == 0 else "succeeded")
    client = web.signed_in(ada)
    assert get(client, "/jobs/").count('class="strong clamp"') == 25
    assert get(client, "/jobs/?page=2").count('class="strong clamp"') == 5
    assert get(client, "/jobs/?page=99").count('class="strong clamp"') == 5
    assert get(client, "/jobs/?state=failed").count('class="strong clamp"') == 3
    assert get(client, "/jobs/?q=number+17").count('class="strong clamp"') == 1
    one = Job.objects.first()
    assert one is not None and get(client, f"/jobs/?q={one.pk}").count('class="strong clamp"') == 1
    for odd in ("state=nonsense", "q=%00", "page=x", "q=%25", "state=failed&q=zzz", "q=" + "x" * 300):
        get(client, f"/jobs/?{odd}")


@pytest.mark.usefixtures("test_tools")
def test_a_job_is_submitted_once_however_often_the_form_is_sent():
    publish(("*", "allow"))
    ada = user("ada")
    api.agent()
    repository = Repository.objects.create(name="sample", url="https://example.invalid/r.git", owner=ada)
    client = web.signed_in(ada)
    once = re.search(r'name="once" value="([^"]+)"', get(client, "/jobs/new/"))
    assert once is not None
    given = {"goal": "fix it", "agent": "developer", "repository": "sample", "priority": "2", "once": once[1]}
    first, second = client.post("/jobs/new/", given), client.post("/jobs/new/", given)
    job = Job.objects.get()
    assert first["Location"] == second["Location"] == f"/jobs/{job.pk}/"
    assert (job.goal, job.priority, job.repository, job.owner) == ("fix it", 2, repository, ada)
    client.post("/jobs/new/", {**given, "goal": "fix it well"})
    assert Job.objects.count() == 2, "a form that was changed and sent again is another job"


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"goal": "  "}, "goal", "This field is required."),
        ({"goal": "x" * 20_001}, "goal", "at most 20000"),
        ({"goal": "nul\x00"}, "goal", "Null characters are not allowed."),
        ({"agent": "nobody"}, "agent", "not one of the available choices"),
        ({"repository": "hidden"}, "repository", "not one of the available choices"),
        ({"priority": "11"}, "priority", "not one of the available choices"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_made(change, field, message):
    api.agent()
    Repository.objects.create(name="hidden", url="https://example.invalid/r.git", owner=user("eve"))
    given = {"goal": "fix it", "agent": "developer", "repository": "", "priority": "5", **change}
    response = web.signed_in(user("ada")).post("/jobs/new/", given)
    assert response.status_code == 422
    html = response.content.decode()
    assert message in html
    assert re.search(rf'name="{field}"[^>]*aria-invalid="true"', html)
    assert not Job.objects.exists()


def test_a_full_queue_is_said_on_the_form(settings):
    settings.JOBS_QUEUED_MAX = 0
    api.agent()
    given = {"goal": "fix it", "agent": "developer", "repository": "", "priority": "5"}
    response = web.signed_in(user("ada")).post("/jobs/new/", given)
    assert response.status_code == 429
    assert "Try again in 30 seconds" in response.content.decode()


# ---- who decides ----


def test_the_owner_reads_on_the_job_page_who_decides():
    ada = user("ada", groups=("approvers",))
    user("grace", groups=("approvers",))
    job = web.job(ada, state="waiting")
    web.request(web.step(job, state="waiting_approval"))
    assert "You asked for this, so others decide: grace." in get(web.signed_in(ada), f"/jobs/{job.pk}/")
    reader = user("root", is_superuser=True)
    assert "so others decide" not in get(web.signed_in(reader), f"/jobs/{job.pk}/")


def test_the_job_page_says_when_nobody_may_decide():
    ada = user("ada", groups=("approvers",))
    job = web.job(ada, state="waiting")
    asked = web.request(web.step(job, state="waiting_approval"))
    for path in (f"/jobs/{job.pk}/", f"/jobs/{job.pk}/fragment"):
        html = get(web.signed_in(ada), path)
        assert "Nobody may decide this: ada is the only member of approvers" in html
        assert "Or cancel the job." in html
    asked.quorum = 2
    asked.save(update_fields=["quorum"])
    user("grace", groups=("approvers",))
    html = get(web.signed_in(ada), f"/jobs/{job.pk}/")
    assert "it needs 2 approvals, and the group approvers has 1 who may give one" in html
    type(asked).objects.filter(pk=asked.pk).update(state="approved", decided_at=timezone.now())
    assert "may decide this" not in get(web.signed_in(ada), f"/jobs/{job.pk}/")
