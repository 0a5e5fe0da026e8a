"""Prompts in force, tried and compared: real engine and database, the scripted server over HTTP."""

import io
import json

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from agents.errors import InvalidInput, InvalidPrompt, NotADraft, NotAllowed
from agents.evaluation import running, suite, table
from agents.models import Evaluation, Feedback, Job, LlmCall, Prompt, PromptUse, PromptVersion, Trial
from agents.prompts import feedback, shipped, versions
from agents.selectors import recorded_about
from agents.submit import submit
from approvals.decisions import decide
from approvals.defaults import ensure_policies
from approvals.models import ApprovalRequest
from tests.factories import jobs, scripted_server
from tests.factories.log import bodies, events
from tests.factories.people import user
from tests.integration.agents import api, web
from tests.integration.agents.driving import run_all, step_of
from tests.integration.agents.test_web_pages import strict
from tests.unit.agents.test_prompts import PROMPT

pytestmark = pytest.mark.django_db(transaction=True)

SCENARIO = """\
rules:
  - when: {system: "Be kind", schema: [words]}
    answer: {words: Good morning Ada}
  - when: {schema: [words]}
    answer: {words: Go away}
  - when: {goal: "Say done", functions: [finish]}
    calls: [{tool: finish, arguments: {success: true, summary: "done as asked"}}]
"""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenario") / "greet.yaml"
    path.write_text(SCENARIO)
    with scripted_server.running("--scenario", str(path)) as found:
        yield found


@pytest.fixture(autouse=True)
def server(settings, endpoint):
    settings.LLM_BASE_URL, settings.LLM_API_KEY, settings.LLM_MODEL = endpoint.base_url, "", "scripted-demo"
    user("grace", groups=("approvers",))
    ensure_policies(Group.objects.get(name="approvers"))


def published(source: str = PROMPT, by=None) -> PromptVersion:
    now = timezone.now()
    return versions.publish(versions.save_draft(source, by=by, now=now).pk, by=by, now=now)


KIND = PROMPT.replace("default: plain", "default: kind")


def asked(**arguments) -> Job:
    payload = {"steps": [{"key": "ask", "tool": "llm.prompt", "arguments": {"prompt": "greet", **arguments}}]}
    job, _ = submit(payload, user=user("ada"), now=timezone.now())
    return run_all(job)


def test_a_version_is_published_when_its_tests_pass_and_never_changes_again():
    now = timezone.now()
    wrong = versions.save_draft(PROMPT.replace("Hello Ada", "Hello Bob"), by=None, now=now)
    with pytest.raises(InvalidPrompt) as refused:
        versions.publish(wrong.pk, by=None, now=now)
    assert refused.value.problems[0][0] == "cases.ada"
    first = published()
    assert (first.pk, first.number, first.status) == (wrong.pk, 1, "published")
    with pytest.raises(NotADraft):
        versions.publish(first.pk, by=None, now=now)
    with pytest.raises(IntegrityError), transaction.atomic():
        PromptVersion.objects.filter(pk=first.pk).update(source="other")
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM agents_promptversion WHERE id = %s", [first.pk])
    with pytest.raises(NotAllowed):
        versions.save_draft(KIND, by=user("ada"), now=now)
    assert published(KIND).number == 2


def test_shipped_prompts_are_published_once_and_people_s_own_are_left_alone(monkeypatch):
    now = timezone.now()
    made = shipped.ensure_prompts(now=now)
    assert {one.prompt.name for one in made} >= {
        "review", "commit-message", "release-notes", "plan", "replan", "summarise", "evolve-mutate", "evolve-cross",
    }  # fmt: skip
    assert shipped.ensure_prompts(now=now) == []
    newer = {name: f"# newer\n{text}" for name, text in shipped.sources().items()}
    monkeypatch.setattr(shipped, "sources", lambda: newer)
    published(newer["review"] + "# mine\n", by=user("root", is_superuser=True))
    assert {one.prompt.name for one in shipped.ensure_prompts(now=now)} == set(newer) - {"review"}


def test_a_step_asks_by_a_prompt_and_the_record_names_the_version():
    first = published()
    job = asked(inputs={"who": "Ada"})
    step = step_of(job, "ask")
    assert step.state == "succeeded", step.error
    assert step.result["data"]["answer"] == {"words": "Go away"}
    assert step.result["data"]["prompt"] == {"name": "greet", "version": 1, "sha256": first.sha256}
    assert PromptUse.objects.get(step=step).version == first
    [told] = bodies(step.pk, "step.confirmed")
    assert (told["context"]["prompt"], told["context"]["model"]) == ("greet@1", step.result["data"]["model"])
    about = set(map(str, recorded_about(str(job.pk))))
    assert str(step.pk) in about
    assert events(first.pk)[-1] == ("prompt.published", "ok")
    assert str(first.pk) in about, "an auditor's bundle of the job has who published the prompt"
    call = LlmCall.objects.get(step=step)
    assert (call.purpose, job.tokens_used) == ("llm.prompt", call.prompt_tokens + call.completion_tokens)
    assert step_of(asked(inputs={"who": ""}), "ask").error_code == "bad_prompt"
    assert step_of(asked(version=9, inputs={"who": "Ada"}), "ask").error_code == "bad_prompt"


def test_a_candidate_gets_its_share_of_the_jobs_and_the_same_job_the_same_version():
    published()
    second = published(KIND)
    prompt, root = Prompt.objects.get(name="greet"), user("root", is_superuser=True)
    assert {versions.chosen("greet", None, key=str(n)).number for n in range(20)} == {2}
    versions.share_out(prompt, second, 25, by=root)
    got = [versions.chosen("greet", None, key=str(n)).number for n in range(120)]
    assert got[:20] == [versions.chosen("greet", None, key=str(n)).number for n in range(20)]
    assert 8 <= got.count(2) <= 56
    versions.retire(second.pk, by=root)
    prompt.refresh_from_db()
    assert (prompt.candidate, prompt.candidate_share) == (None, 0)
    assert versions.chosen("greet", None, key="x").number == 1
    with pytest.raises(InvalidInput):
        versions.share_out(prompt, second, 10, by=root)


def finished(made: Evaluation) -> Evaluation:
    for _ in range(5):
        if running.go_on(made, now=timezone.now()):
            return made
        for trial in made.trials.filter(ok=None).select_related("job"):
            run_all(trial.job)
    raise AssertionError([(one.case, one.job.state, one.job.outcome) for one in made.trials.filter(ok=None)])


def test_two_versions_of_a_prompt_are_compared_on_the_same_cases():
    published()
    second = published(KIND)
    made = running.start(
        suite.of_prompt(second), ["prompt:greet@1", "prompt:greet@2"], repeats=2, by=user("ada"), now=timezone.now()
    )
    finished(made)
    first, other = table.lines(list(made.trials.all()), made.arms)
    assert (first.passed, first.judged, other.passed, other.judged) == (0, 2, 2, 2)
    assert other.tokens > 0
    trial = Trial.objects.filter(evaluation=made, arm="prompt:greet@1").first()
    assert trial.why == "This does not hold: answer.words.contains(inputs.who)"
    assert trial.scripted is True
    assert (trial.job.owner.username, trial.job.trigger) == ("ada", "evaluation:greet")
    assert "prompt:greet@2 passed 2 more" in table.differences(list(made.trials.all()), made.arms)[0].words
    assert LlmCall.objects.filter(from_cache=True).count() == 0
    before = Job.objects.count()
    assert running.go_on(made, now=timezone.now()) is True
    assert Job.objects.count() == before
    more = KIND.replace("variables:", "variables:\n  mood: {type: string}").replace("Greet", "Greet in {{ mood }} mood")
    draft = versions.save_draft(more, by=None, now=timezone.now())
    with pytest.raises(InvalidInput, match="does not fit prompt:greet@3"):
        running.start(suite.of_prompt(second), [f"prompt:{draft}"], by=user("ada"), now=timezone.now())


def test_the_sweeper_settles_what_nobody_looks_at_and_what_is_cancelled_is_not_judged():
    published()
    jobs.agent("doer", tools=("files.*",))
    source = """\
name: chores
cases:
  - {name: done, goal: Say done, expect: ["text.contains('done')"]}
  - {name: asks, goal: Say done, check: [rm, -rf, /]}
  - {name: ada, inputs: {who: Ada}, expect: ["answer.words != ''"]}
"""
    one = running.start(source, ["agent:doer"], by=user("ada"), now=timezone.now())
    other = running.start(source, ["prompt:greet"], by=user("grace"), now=timezone.now())
    assert running.go_on_all(timezone.now()) == 2
    for trial in Trial.objects.select_related("job"):
        run_all(trial.job)
    running.go_on_all(timezone.now())
    other.refresh_from_db()
    assert other.finished_at is not None
    assert running.go_on_all(timezone.now()) == 0  # the other one waits for people: nothing is to be done
    client = web.signed_in(user("ada"))
    shown = client.get(one.get_absolute_url())
    assert "1 trial waits for people" in shown.text
    strict(shown.text)
    with pytest.raises(NotAllowed):
        running.cancel(one, by=user("grace"), now=timezone.now())
    answer = api.client(user("ada")).post(f"/api/v1/evaluations/{one.pk}/cancel")
    assert (answer.status_code, answer.json()["finished_at"] is None) == (200, False)
    assert [(got["judged"], got["waiting"], got["dropped"]) for got in answer.json()["results"]] == [(1, 0, 1)]
    assert not ApprovalRequest.objects.filter(
        parent_id=str(one.trials.get(case="asks").job_id), state="pending"
    ).exists()
    assert client.post(f"{one.get_absolute_url()}cancel", follow=True).text.count("has ended already") == 1
    assert "1 cancelled" in client.get(f"{one.get_absolute_url()}?part=1").text
    refused = client.post("/agents/evaluations/new", {"source": source, "arms": "prompt:greet agent:x", "repeats": "1"})
    assert (refused.status_code, "no enabled agent" in refused.text) == (422, True)


def test_an_agent_is_judged_by_what_it_reports_and_by_a_command_in_its_workspace():
    jobs.agent("doer", tools=("files.*",))
    source = """\
name: chores
cases:
  - {name: says-so, goal: Say done, expect: ["text.contains('done')"]}
  - {name: leaves-a-file, goal: Say done, check: [test, -f, made.txt]}
"""
    made = finished(running.start(source, ["agent:doer"], by=user("ada"), now=timezone.now()))
    assert dict(made.trials.values_list("case", "ok")) == {"says-so": True, "leaves-a-file": False}
    assert all(one.tokens > 0 for one in made.trials.all())


def test_the_command_tells_table_json_and_picture(tmp_path, monkeypatch):
    published()
    published(KIND)
    user("root", is_superuser=True)
    monkeypatch.setattr(
        "agents.management.commands.evaluate.Command._pause",
        lambda self: [run_all(one.job) for one in Trial.objects.filter(ok=None).select_related("job") if one.job],
    )
    out = io.StringIO()
    arms = ["--arm", "prompt:greet@1", "--arm", "prompt:greet"]
    call_command("evaluate", "prompt:greet", *arms, "--svg", str(tmp_path / "p.svg"), "--json", stdout=out)
    told = json.loads(out.getvalue())
    assert [(one["arm"], one["passed"]) for one in told["arms"]] == [("prompt:greet@1", 0), ("prompt:greet@2", 1)]
    assert told["scripted"] is True
    assert "prompt:greet@2" in (tmp_path / "p.svg").read_text()
    bounds = ["--min-success", "50%", "--no-worse"]
    call_command("evaluate", "prompt:greet", *arms, *bounds, stdout=out)
    with pytest.raises(CommandError) as missed:
        call_command("evaluate", "prompt:greet", *arms[2:], *arms[:2], *bounds, "--json", str(tmp_path / "r"))
    assert missed.value.returncode == 5
    assert json.loads((tmp_path / "r").read_text())["missed"] == [
        "prompt:greet@1 passed 0.0%, less than 50.0%.",
        "prompt:greet@1 passed 1 fewer than prompt:greet@2.",
    ]


def test_thumbs_edits_and_denials_join_the_record_of_a_version():
    first = published()
    job = asked(inputs={"who": "Ada"})
    for thumb in ("up", "down", "down"):
        feedback.give(job, by=user("ada"), thumb=thumb, comment="Rude.", now=timezone.now())
    feedback.give(job, by=user("grace"), thumb="up", step=step_of(job, "ask"), now=timezone.now())
    assert Feedback.objects.filter(job=job).count() == 2
    payload = {
        "steps": [
            {"key": "ask", "tool": "llm.prompt", "arguments": {"prompt": "greet", "inputs": {"who": "Ada"}}},
            {"key": "clean", "tool": "shell.exec", "needs": ["ask"], "arguments": {"argv": ["rm", "-rf", "/"]}},
        ]
    }
    denied, _ = submit(payload, user=user("ada"), now=timezone.now())
    run_all(denied)
    request = ApprovalRequest.objects.get(parent_id=str(denied.pk), state="pending")
    decide(request_id=request.pk, by=user("grace"), verdict="deny", reason="No.", channel="page", now=timezone.now())
    found = feedback.of_version(first)
    assert (found.jobs, found.up, found.down, found.denials) == (2, 1, 1, 1)
    assert feedback.give(job, by=user("ada"), thumb="", now=timezone.now()) is None
    assert feedback.of_version(first).down == 0
    with pytest.raises(InvalidInput):
        feedback.give(job, by=user("ada"), thumb="sideways", now=timezone.now())


def test_pages_show_tests_compare_versions_and_start_an_evaluation():
    published()
    published(KIND)
    job = asked(inputs={"who": "Ada"})
    client = web.signed_in(user("root", is_superuser=True))
    for path, said in (
        ("/agents/prompts/", "greet"),
        ("/agents/prompts/greet/", "passes"),
        ("/agents/prompts/greet/diff?from=1&to=2", "default: kind"),
        ("/agents/prompts/greet/edit", "cases:"),
        ("/agents/evaluations/", "None yet"),
        (f"/jobs/{job.pk}/", "Was this good work?"),
    ):
        answer = client.get(path)
        assert (answer.status_code, said in answer.text) == (200, True), path
        strict(answer.text)
    wrong = client.post("/agents/prompts/greet/edit", {"source": PROMPT.replace("{{ tone }}", "{{ mood }}")})
    assert (wrong.status_code, "There is no variable &#x27;mood&#x27;" in wrong.text) == (422, True)
    newest = PromptVersion.objects.get(prompt__name="greet", number=2)
    theirs, mine = KIND.replace("Be", "Please be"), KIND.replace("Be", "Always be")
    versions.save_draft(theirs, by=user("eve", is_superuser=True), now=timezone.now(), seen=newest.sha256)
    late = client.post("/agents/prompts/greet/edit", {"source": mine, "seen": newest.sha256})
    assert (late.status_code, "Meanwhile eve saved greet@3" in late.text, "Always be" in late.text) == (409, True, True)
    client.post("/agents/prompts/greet/3/act", {"do": "publish", "seen": newest.sha256})
    assert PromptVersion.objects.get(prompt__name="greet", number=3).status == "draft"
    made = client.post("/agents/prompts/greet/2/try", {"other": "1", "repeats": "1"})
    one = Evaluation.objects.get()
    assert made.headers["Location"] == one.get_absolute_url()
    for trial in one.trials.all():
        run_all(trial.job)
    running.go_on_all(timezone.now())
    shown = client.get(one.get_absolute_url())
    assert "1 of 1" in shown.text
    strict(shown.text)
    assert "say nothing of a model" in shown.text
    assert Evaluation.objects.get().finished_at is not None
    client.post(f"/jobs/{job.pk}/feedback", {"thumb": "down", "comment": "Rude."})
    assert Feedback.objects.get().comment == "Rude."
    own = jobs.goal_job()
    feedback.give(own, by=user("ada"), thumb="up", now=timezone.now())
    assert "<dt>thumbs up, down</dt><dd>1, 0</dd>" in client.get("/agents/profiles/tester/").text
    client = web.signed_in(user("ada"))
    assert client.get(one.get_absolute_url()).status_code == 404
    assert client.get("/agents/prompts/greet/edit").status_code == 403
    assert client.post("/agents/prompts/greet/2/act", {"do": "retire"}).status_code == 403
    client = web.signed_in(user("zoe"))
    assert client.post(f"/jobs/{job.pk}/feedback", {"thumb": "up"}).status_code == 404


def test_the_api_lists_prompts_tries_cases_and_takes_feedback():
    published()
    client = api.client(user("ada"))
    assert [one["in_force"] for one in client.get("/api/v1/prompts").json()["results"]] == [1]
    cases = {"name": "hello", "cases": [{"name": "ada", "inputs": {"who": "Ada"}, "expect": ["answer.words != ''"]}]}
    started = client.post("/api/v1/evaluations", {"suite": json.dumps(cases), "arms": ["prompt:greet"]}, format="json")
    assert started.status_code == 201, started.content
    job = Job.objects.get(pk=started.json()["trials"][0]["job"])
    run_all(job)
    running.go_on_all(timezone.now())
    told = client.get(f"/api/v1/evaluations/{started.json()['id']}").json()
    assert told["finished_at"] is not None
    assert [(one["arm"], one["passed"], one["judged"]) for one in told["results"]] == [("prompt:greet@1", 1, 1)]
    for wrong in ({"suite": "name: x", "arms": ["agent:x"]}, {"suite": json.dumps(cases), "arms": ["agent:nobody"]}):
        assert client.post("/api/v1/evaluations", wrong, format="json").status_code == 400
    at = f"/api/v1/jobs/{job.pk}/feedback"
    assert client.post(at, {"thumb": "up", "step": "ask"}, format="json").json() == {"up": 1, "down": 0, "mine": "up"}
    assert client.post(at, {"thumb": "sideways"}, format="json").status_code == 400
    assert client.post(at, {"thumb": "up", "step": "none"}, format="json").status_code == 404
    assert api.client(user("zoe")).post(at, {"thumb": "up"}, format="json").status_code == 404
