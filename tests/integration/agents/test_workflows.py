"""Workflows by service, API, pages and command line: drafted, checked, published for good, started."""

import io
import json
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.utils import timezone

from agents.errors import InvalidInput, InvalidWorkflow, NotADraft, NotAllowed
from agents.models import Job, Step, WorkflowVersion
from agents.submit import submit
from agents.workflows import versions
from audit.ids import uuid7
from audit.models import Record
from tests.factories.people import user
from tests.factories.policies import publish as policy
from tests.integration.agents.api import client, problem
from tests.integration.agents.driving import run_all, states
from tests.integration.agents.web import signed_in

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]

API = "/api/v1/workflows"
SOURCE = """\
name: greet
title: Greet people
description: Notes a greeting.
repository: none
priority: 2
concurrency_key: "greet/${{ inputs.who }}"
labels: {who: "${{ inputs.who }}"}
inputs:
  required: [who]
  properties:
    who: {type: string, minLength: 1, maxLength: 40, description: Whom to greet.}
    loud: {type: boolean, default: false}
    style: {enum: [plain, fancy], default: plain}
    words: {type: array, items: {type: string}, default: []}
    more: {type: object, properties: {n: {type: integer, default: 7}}, default: {}}
steps:
  - key: first
    tool: test.note
    arguments: {text: "Hello ${{ inputs.who }}"}
  - key: second
    needs: [first]
    when: inputs.loud
    tool: test.note
    arguments: {text: "HELLO"}
  - key: each
    needs: [second]
    map: {over: inputs.words, tool: test.note, arguments: {text: "${{ item }}"}}
outputs:
  said: steps.first.summary
  n: inputs.more.n
"""


@pytest.fixture
def root():
    return user("root", is_superuser=True)


def save(source: str = SOURCE, **more):
    return versions.save_draft(source, by=more.pop("by", None), now=timezone.now(), **more)


def published(source: str = SOURCE) -> WorkflowVersion:
    return versions.publish(save(source).pk, by=None, now=timezone.now())


def events(*, since: UUID) -> list[str]:
    """Of this test: what others wrote stays in the log."""
    records = Record.objects.filter(event__startswith="workflow.", id__gt=since)
    return list(records.order_by("created_at", "id").values_list("event", flat=True))


def test_a_published_version_never_changes_whoever_asks(root):
    began = uuid7()
    version = published()
    for change in ({"source": "x"}, {"status": "draft"}, {"number": 9}, {"note": "x"}):
        with pytest.raises(IntegrityError, match="never changes"), transaction.atomic():
            WorkflowVersion.objects.filter(pk=version.pk).update(**change)
    with pytest.raises(IntegrityError, match="never changes"), transaction.atomic():
        version.delete()
    with pytest.raises(IntegrityError, match="its name stays"), transaction.atomic():
        version.workflow.name = "other"
        version.workflow.save()
    with pytest.raises(NotADraft):
        versions.publish(version.pk, by=root, now=timezone.now())
    assert versions.retire(version.pk, by=root).status == "retired"
    with pytest.raises(IntegrityError, match="never changes"), transaction.atomic():
        WorkflowVersion.objects.filter(pk=version.pk).update(status="published")
    assert events(since=began) == ["workflow.drafted", "workflow.published", "workflow.retired"]


def test_a_draft_is_replaced_and_a_published_version_is_followed_by_the_next(root):
    first = save(note="one")
    assert save(SOURCE + "# more\n").pk == first.pk
    versions.publish(first.pk, by=root, now=timezone.now())
    assert save(SOURCE + "# more\n").pk == first.pk  # the same text makes no version
    second = save(SOURCE + "# and more\n")
    assert (second.number, second.status) == (2, "draft")
    assert versions.current("greet").number == 1
    versions.publish(second.pk, by=root, now=timezone.now())
    assert versions.current("greet").number == 2
    assert versions.current("greet", 1).number == 1


def test_a_job_runs_on_its_version_with_its_inputs(test_tools):
    policy(("*", "allow"))
    published()
    payload = {"workflow": "greet", "inputs": {"who": "ada", "words": ["a", "b"]}}
    job, _ = submit(payload, user=user("ada"), now=timezone.now())
    published(SOURCE.replace("Hello", "Goodbye"))
    assert (job.kind, job.goal, job.priority, job.concurrency_key) == ("workflow", "Greet people", 2, "greet/ada")
    assert job.labels == {"who": "ada"}
    assert job.inputs == {"who": "ada", "words": ["a", "b"], "loud": False, "style": "plain", "more": {"n": 7}}
    job = run_all(job)
    assert job.state == "succeeded", job.outcome
    assert str(job.workflow_version) == "greet@1"
    assert job.outputs == {"said": "Hello ada", "n": 7}
    assert [text for _, text in test_tools.RAN] == ["Hello ada", "a", "b"]
    assert states(job)["second"] == "skipped"


@pytest.mark.parametrize(
    ("payload", "code", "fields"),
    [
        ({"workflow": "greet"}, "invalid_input", ["inputs.who"]),
        ({"workflow": "greet", "inputs": {"who": "", "x": 1, "loud": 3}}, "invalid_input",
         ["inputs.loud", "inputs.who", "inputs.x"]),
        ({"workflow": "greet", "inputs": {"who": "a", "more": {"n": "x"}}}, "invalid_input", ["inputs.more.n"]),
        ({"workflow": "nobody"}, "unknown_workflow", ["workflow"]),
        ({"workflow": "greet@7"}, "unknown_workflow", ["workflow"]),
        ({"workflow": "greet@1", "version": 2}, "unknown_workflow", ["version"]),
        ({"workflow": "greet", "goal": "x"}, "invalid_input", ["workflow"]),
        ({"goal": "x", "inputs": {}}, "invalid_input", ["inputs"]),
    ],
)  # fmt: skip
def test_a_submission_that_does_not_fit_names_its_fields(payload, code, fields):
    published()
    with pytest.raises(InvalidInput) as refused:
        submit(payload, user=user("ada"), now=timezone.now())
    assert refused.value.code == code
    assert sorted(field for field, _ in refused.value.problems) == fields
    assert not Job.objects.exists()


def test_every_kind_of_step_becomes_what_the_engine_runs():
    policy(("*", "deny"))
    published()
    published(
        """\
name: kinds
deadline: 2h
steps:
  - {key: call, tool: test.note, arguments: {text: "${{ job.goal }}"}, timeout: 90s, when: "true",
     retry: {max_attempts: 3, delay: 5s, max_delay: 1m, on: [timeout]},
     fallbacks: [{tool: test.read}], compensation: {tool: test.note}}
  - {key: each, map: {over: "[1, 2]", tool: test.read, chunk: 5}}
  - {key: sub, workflow: greet, inputs: {who: "${{ job.owner }}"}, needs: [call], needs_success: false}
  - {key: sub-goal, goal: Look, agent: reviewer, tools: [files.*], max_tokens: 5, needs: [call]}
"""
    )
    job, _ = submit({"workflow": "kinds", "title": "All kinds"}, user=user("ada"), now=timezone.now())
    assert job.goal == "All kinds"
    assert job.deadline_at is not None
    rows = {row.key: row for row in Step.objects.filter(job=job)}
    call = rows["call"]
    assert (call.kind, call.tool, call.template) == ("call", "test.note", {"text": "${{ job.goal }}"})
    assert call.retry == {"max_attempts": 3, "delay_s": 5, "max_delay_s": 60, "on": ["timeout"]}
    assert (call.timeout_s, call.condition) == (90, "true")
    assert call.fallbacks == [{"tool": "test.read", "arguments": {}}]
    assert call.compensation == {"tool": "test.note", "arguments": {}}
    assert (rows["each"].kind, rows["each"].spec["over"], rows["each"].spec["chunk"]) == ("map", "[1, 2]", 5)
    sub = rows["sub"]
    assert (sub.kind, sub.tool, sub.needs_success) == ("job", "job.workflow", False)
    assert sub.template == {"workflow": "greet", "version": 1, "inputs": {"who": "${{ job.owner }}"}}
    goal = rows["sub-goal"]
    assert (goal.kind, goal.tool) == ("job", "job.delegate")
    assert goal.arguments == {"goal": "Look", "agent": "reviewer", "tools": ["files.*"], "max_tokens": 5}


def test_who_may_change_a_workflow(root):
    from guardian.shortcuts import assign_perm

    version = save(by=root)
    ada, bob = user("ada"), user("bob")
    for refused in (lambda: save(SOURCE + "#", by=ada), lambda: save(SOURCE.replace("greet", "new"), by=ada)):
        with pytest.raises(NotAllowed):
            refused()
    with pytest.raises(NotAllowed):
        versions.publish(version.pk, by=ada, now=timezone.now())
    assign_perm("agents.change_workflow", ada, version.workflow)
    assert save(SOURCE + "#", by=ada).number == 1
    assert versions.publish(version.pk, by=ada, now=timezone.now()).published_by == ada
    assert versions.may_edit(bob, version.workflow) is False
    assert list(versions.workflows(bob)) == [version.workflow]


def test_a_definition_is_checked_again_when_it_is_published(root):
    greeting = published()
    draft = save("name: outer\nsteps:\n- {key: a, workflow: greet@1, inputs: {who: x}}\n")
    versions.retire(greeting.pk, by=root)
    with pytest.raises(InvalidWorkflow) as refused:
        versions.publish(draft.pk, by=root, now=timezone.now())
    assert refused.value.problems == (
        ("steps[0].workflow", "line 3, column 22: There is no published workflow 'greet@1'."),
    )


def test_the_api_checks_saves_publishes_compares_and_starts(root):
    policy(("*", "allow"))
    api = client(root)
    wrong = api.post(f"{API}/validate", {"source": SOURCE.replace("test.note", "no.such")}, format="json").json()
    assert wrong["valid"] is False
    assert [(one["line"], one["path"]) for one in wrong["problems"]][:1] == [(18, "steps[0].tool")]
    assert api.post(f"{API}/validate", {"source": SOURCE}, format="json").json() == {"valid": True, "problems": []}
    problem(api.post(API, {"source": "name: x"}, format="json"), 400, "invalid_workflow", "steps")
    made = api.post(API, {"source": SOURCE, "note": "first"}, format="json")
    assert made.status_code == 201, made.content
    assert (made.json()["status"], made.json()["number"], made.json()["note"]) == ("draft", 1, "first")
    done = api.post(f"{API}/greet/versions/1/publish")
    assert (done.status_code, done.json()["published_by"]) == (200, "root")
    problem(api.post(f"{API}/greet/versions/1/publish"), 409, "not_a_draft")
    data = {**made.json()["definition"], "title": "Greet them"}
    assert api.post(API, {"definition": data}, format="json").json()["number"] == 2
    told = api.get(f"{API}/greet/diff?from=1&to=2").json()
    assert told["changes"] == [
        {"kind": "changed", "step": "", "field": "title", "was": '"Greet people"', "now": '"Greet them"'}
    ]
    assert "-title: Greet people" in told["text"]
    listed = api.get(API).json()["results"]
    assert [(one["name"], one["published"], one["latest"]) for one in listed] == [("greet", 1, 2)]
    assert [one["number"] for one in api.get(f"{API}/greet").json()["versions"]] == [2, 1]
    assert api.get(f"{API}/greet/versions/1").json()["inputs_schema"]["required"] == ["who"]
    assert [one["number"] for one in api.get(f"{API}/greet/versions").json()] == [2, 1]
    job = api.post("/api/v1/jobs", {"workflow": "greet", "inputs": {"who": "eve"}}, format="json").json()
    assert (job["workflow"], job["kind"], job["inputs"]["who"]) == ("greet@1", "workflow", "eve")
    problem(api.get(f"{API}/nothing"), 404, "not_found")
    problem(api.get(f"{API}/validate"), 404, "not_found")
    problem(api.get(f"{API}/greet/diff?from=1"), 400, "invalid_input", "to")
    problem(client(user("ada")).post(API, {"source": SOURCE}, format="json"), 403, "not_allowed")
    assert client().get(API).status_code == 401


def test_the_pages_show_edit_compare_and_start(root):
    policy(("*", "allow"))
    web = signed_in(root)
    bad = SOURCE.replace("test.note", "no.<such>")
    page = web.post("/workflows/new", {"source": bad})
    assert page.status_code == 422
    assert "column 11, steps[0].tool: There is no tool &#x27;no.&lt;such&gt;&#x27;." in page.content.decode()
    assert web.post("/workflows/new", {"source": SOURCE, "check": "1"}).status_code == 200
    assert not WorkflowVersion.objects.exists()
    assert web.post("/workflows/new", {"source": SOURCE.replace("\n", "\r\n")})["Location"] == "/workflows/greet/1/"
    assert WorkflowVersion.objects.get().source == SOURCE
    renamed = web.post("/workflows/greet/edit", {"source": SOURCE.replace("name: greet", "name: other")})
    assert "its name stays" in renamed.content.decode()
    assert web.post("/workflows/greet/1/publish").status_code == 302
    page = web.get("/workflows/greet/").content.decode()
    for part in (
        'href="#L20"',
        "each: test.note",
        f'id="L{len(SOURCE.splitlines())}"',
        'name="in_who"',
        "Whom to greet.",
        "Retire",
    ):
        assert part in page, part
    web.post("/workflows/greet/edit", {"source": SOURCE.replace("Hello", "Goodbye")})
    page = web.get("/workflows/greet/diff?from=1&to=2").content.decode()
    assert "arguments.text" in page and "Goodbye" in page
    assert web.get("/workflows/greet/diff?from=1&to=x").status_code == 404
    assert "Greet people" in web.get("/workflows/").content.decode()

    fields = {"in_who": "", "in_words": "a\nb", "in_style": "fancy", "in_more": '{"n": "x"}', "once": "o"}
    page = web.post("/workflows/greet/1/start", fields)
    assert page.status_code == 422
    assert "This field is required." in page.content.decode()
    page = web.post("/workflows/greet/1/start", {**fields, "in_who": "eve"})
    assert (page.status_code, "Must be a whole number." in page.content.decode()) == (422, True)
    ready = {**fields, "in_who": "eve", "in_more": "", "in_loud": "on"}
    page = web.post("/workflows/greet/1/start", ready)
    assert page.status_code == 302, page.content
    assert web.post("/workflows/greet/1/start", ready)["Location"] == page["Location"]
    job = Job.objects.get()
    assert job.get_absolute_url() == page["Location"]
    assert job.inputs == {"who": "eve", "words": ["a", "b"], "style": "fancy", "loud": True, "more": {"n": 7}}
    published(
        "name: lists\ninputs: {properties: {a: {type: array, items: {type: string}, default: [x]}, b: {type: string}}}\n"
        "steps: [{key: s, tool: test.note}]\n"
    )
    emptied = web.post("/workflows/lists/1/start", {"in_a": "", "in_b": ""})
    assert Job.objects.get(pk=emptied["Location"].split("/")[2]).inputs == {"a": []}
    reader = signed_in(user("ada"))
    assert "Retire" not in reader.get("/workflows/greet/").content.decode()
    assert reader.get("/workflows/greet/edit").status_code == 403
    assert reader.post("/workflows/greet/1/retire").status_code == 403
    assert reader.get("/workflows/gone/").status_code == 404


def test_two_people_who_edit_a_workflow_notice_each_other(root):
    first, eve = signed_in(root), signed_in(user("eve", is_superuser=True))
    first.post("/workflows/new", {"source": SOURCE, "seen": ""})
    began = WorkflowVersion.objects.get().sha256
    assert f'value="{began}"' in first.get("/workflows/greet/edit").content.decode()
    theirs, mine = SOURCE.replace("Hello", "Goodbye"), SOURCE.replace("Hello", "Welcome")
    assert eve.post("/workflows/greet/edit", {"source": theirs, "seen": began}).status_code == 302
    late = first.post("/workflows/greet/edit", {"source": mine, "seen": began})
    page = late.content.decode()
    assert (late.status_code, "Meanwhile eve saved" in page, "Goodbye" in page, "Welcome" in page) == (409, *[True] * 3)
    first.post("/workflows/greet/1/publish", {"seen": began})
    version = WorkflowVersion.objects.get()
    assert (version.source, version.status) == (theirs, "draft")
    again = first.post("/workflows/greet/edit", {"source": mine, "seen": version.sha256})
    assert (again.status_code, WorkflowVersion.objects.get().source) == (302, mine)


def test_the_command_line_validates_publishes_compares_and_runs(root, tmp_path):
    policy(("*", "allow"))
    file = tmp_path / "greet.yaml"

    def manage(*words: str) -> str:
        out = io.StringIO()
        call_command("workflow", *words, stdout=out)
        return out.getvalue()

    file.write_text(SOURCE.replace("test.note", "no.such", 1))
    out = io.StringIO()
    with pytest.raises(SystemExit) as refused:
        call_command("workflow", "validate", str(file), stdout=out)
    assert refused.value.code == 3
    assert out.getvalue().splitlines()[0] == "line 18, column 11: steps[0].tool: There is no tool 'no.such'."
    with pytest.raises(CommandError, match="line 18"):
        manage("publish", str(file))
    file.write_text(SOURCE)
    assert manage("validate", str(file)) == "It is valid.\n"
    assert manage("publish", str(file), "--note", "first") == "Published greet@1.\n"
    assert "has this text already" in manage("publish", str(file))
    file.write_text(SOURCE.replace("priority: 2", "priority: 3"))
    manage("publish", str(file))
    assert manage("diff", "greet", "1", "2").splitlines()[0] == "priority changed from 2 to 3"
    ran = json.loads(manage("run", "greet", "--input", "who=7", "--input", "who=eve", "--input", "loud=true", "--json"))
    assert Job.objects.get(pk=ran["job"]).inputs["loud"] is True
    with pytest.raises(CommandError, match=r"inputs\.who"):
        manage("run", "greet")
