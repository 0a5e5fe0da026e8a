"""What the model that asks for a call says of its danger."""

import pytest

from agents.engine import gate, think
from agents.llm.functions import DANGER, as_functions
from agents.llm.judge import Wish
from agents.models import Step
from tests.factories import jobs
from tools import registry

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]


def test_a_model_may_call_what_changes_something_dangerous():
    functions = {one["function"]["name"]: one["function"] for one in as_functions(registry.every())}
    assert DANGER in functions["test__note"]["parameters"]["properties"]
    assert DANGER not in functions["test__read"]["parameters"]["properties"]


@pytest.mark.parametrize(("danger", "level"), [("", "medium"), ("low", "medium"), ("high", "high"), ("huge", "medium")])
def test_its_word_raises_the_risk_that_policies_and_people_see(danger, level):
    job = jobs.goal_job()
    wish = Wish(id="c1", name="test.note", arguments={"text": "x"}, reason="Because.", danger=danger)
    opinion = think._opinion(wish.as_json().get("danger"))
    step = jobs.step(job, "1.1", "test.note", state="pending", arguments={"text": "x"}, opinion=opinion)
    found = gate.risk_of(Step.objects.get(pk=step.pk), job)
    assert str(found.level) == level
    assert any("calls it high risk" in reason for reason in found.reasons) is (danger == "high")
