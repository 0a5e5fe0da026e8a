"""One question to the model as a step, against the scripted server over real HTTP."""

import pytest

from agents.llm.complete import Complete
from agents.llm.think import REPAIRS, ThinkFailed
from agents.models import LlmCall
from tests.factories import jobs, scripted_server
from tools import registry
from tools.box import SandboxBox
from tools.errors import InvalidArguments
from tools.workspaces import workspace_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]

REVIEW = {
    "type": "object",
    "properties": {
        "summary": {"type": "string"},
        "verdict": {"enum": ["approve", "comment", "request_changes"]},
        "findings": {"type": "array", "items": {"type": "object"}},
        "score": {"type": "integer", "minimum": 1},
    },
    "required": ["summary", "verdict", "findings", "score"],
}
DIFF = """\
--- a/money.py
+++ b/money.py
@@ -1,2 +1,3 @@
 import sys
-def total(): ...
+password = 'hunter2hunter2'
+print('x')  # TODO
"""


@pytest.fixture(scope="module")
def endpoint():
    with scripted_server.running() as found:
        yield found


@pytest.fixture(autouse=True)
def scripted(settings, endpoint):
    settings.LLM_BASE_URL, settings.LLM_API_KEY, settings.LLM_MODEL = endpoint.base_url, "", "scripted-demo"
    settings.LLM_SCRIPTED, settings.LLM_TIMEOUT_S = False, 20


def complete(arguments, *, model: str = "scripted-demo"):
    job = jobs.goal_job(agent=jobs.agent(model=model))
    step = jobs.step(job, "ask", "llm.complete", state="running", arguments=arguments)
    registry.validate(registry.get("llm.complete"), arguments)
    box = SandboxBox(
        workspace_for(str(job.pk)), limits=Complete.limits, call_id=str(step.pk), on_output=lambda stream, text: None
    )
    try:
        return Complete().run(arguments, box)
    finally:
        box.close()


def test_an_answer_has_the_shape_that_was_asked_for():
    result = complete({"prompt": "Review this.", "context": DIFF, "schema": REVIEW})
    answer = result.data["answer"]
    assert answer["verdict"] == "request_changes"
    assert answer["score"] == 1
    assert [(one["file"], one["line"], one["severity"]) for one in answer["findings"]] == [
        ("money.py", 2, "high"),
        ("money.py", 3, "low"),
        ("money.py", 3, "low"),
    ]
    assert result.data["usage"]["prompt_tokens"] > 0
    assert LlmCall.objects.get().answer["tool_calls"][0]["name"] == "answer"


def test_without_a_schema_the_answer_is_text():
    result = complete({"prompt": "Say something."})
    assert result.data["answer"] is None
    assert "scripted" in result.text


@pytest.mark.parametrize("fault", ["badjson", "badarguments", "unknowntool", "plain"])
def test_an_unusable_answer_is_repaired_or_fails_the_step(fault):
    asked = {"prompt": "Review this.", "context": DIFF, "schema": {**REVIEW, "additionalProperties": False}}
    assert complete(asked, model=f"scripted-demo+{fault}-once").data["answer"]["verdict"] == "request_changes"
    LlmCall.objects.all().delete()
    with pytest.raises(ThinkFailed) as failed:
        complete(asked, model=f"scripted-demo+{fault}")
    assert failed.value.code == "invalid_answer"
    assert LlmCall.objects.count() == 1 + REPAIRS


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"prompt": " "}, "arguments.prompt"),
        ({"prompt": "x", "schema": {"type": "array"}}, "arguments.schema.type"),
        ({"prompt": "x", "schema": {"type": "object", "required": 3}}, "arguments.schema"),
        ({"prompt": "x", "schema": {"type": "object", "properties": {"a": {"$ref": "http://x"}}}}, "arguments.schema"),
    ],
)
def test_a_question_that_could_never_be_answered_is_refused(arguments, field):
    with pytest.raises(InvalidArguments) as refused:
        registry.validate(registry.get("llm.complete"), arguments)
    assert refused.value.field == field
