"""What each fault of an endpoint comes to, through the engine: the table in docs/howto/models.md against what happens."""

from dataclasses import dataclass

import pytest
from django.utils import timezone

from agents.engine import intake
from agents.engine.execute import Delivery, execute
from agents.llm.scripted import faults
from agents.llm.think import REPAIRS
from agents.models import LlmCall, ModelEndpoint, ModelRoute, RouteEntry, Step
from agents.states import StepState
from audit.actor import Actor
from config.devstack.places import REPOSITORY
from tests.factories import jobs, scripted_server
from tests.factories.policies import publish

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]

PAGE = REPOSITORY / "docs" / "howto" / "models.md"
ENDLESS = {"slow", "drip"}
PARTS = 5
STATES = {StepState.SUCCEEDED: "succeeds", StepState.QUEUED: "is tried again", StepState.FAILED: "fails"}


@dataclass(frozen=True)
class Row:
    """code: of the attempt, on the ledger and on the step; passed_on: the next endpoint is asked; then: what becomes of a
    step without another endpoint; error_class: of its error."""

    fault: str
    code: str
    passed_on: bool
    then: str
    error_class: str


def table() -> list[Row]:
    rows = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[0] in faults.ALL:
            then, _, error_class = cells[4].partition(": ")
            rows.append(Row(cells[0], cells[2], cells[3] == "asked", then, error_class))
    return rows


@pytest.fixture(scope="module")
def server():
    with scripted_server.running() as found:
        yield found


def test_every_fault_of_the_scripted_server_stands_on_the_page():
    assert sorted(row.fault for row in table()) == sorted(faults.ALL - {"loop"})


@pytest.mark.parametrize("part", range(PARTS))
def test_each_fault_ends_as_the_page_says(server, part):
    said = table()[part::PARTS]
    publish(("llm.*", "allow"), ("test.*", "allow"))
    good = endpoint(server, "good")
    bad = {row.fault: endpoint(server, row.fault, row.fault) for row in said}
    passed_on = [bad[row.fault] for row in said if row.passed_on]
    step, asked = think(route("all", *passed_on, good))
    assert step.state == StepState.SUCCEEDED, step.error
    assert asked == [*(one.name for one in passed_on), good.name]
    found = [happens(bad[row.fault], good, row.passed_on) for row in said]
    assert found == said
    assert not LlmCall.objects.filter(state=LlmCall.State.OPEN).exists()


def happens(bad: ModelEndpoint, good: ModelEndpoint, passed_on: bool) -> Row:
    """What becomes of a step with no other endpoint, or with one that is not asked."""
    step, asked = think(route(f"only-{bad.name}", bad, *([] if passed_on else [good])))
    calls = LlmCall.objects.filter(step=step)
    code = step.error_code
    if code == "invalid_answer":
        assert asked == [bad.name] * (1 + REPAIRS)
    else:
        assert asked == [bad.name] and calls.get().error_code == code
    if bad.name == "ratelimit":  # not before its Retry-After is over
        assert (step.not_before - calls.get().at).total_seconds() >= 2
    if bad.name == "abort" and code == "endpoint_unreachable":  # by where it was met
        code = "stream_cut"
    assert bool(step.error) == bool(code) and bool(step.not_before) == (step.state == StepState.QUEUED)
    return Row(bad.name, code, passed_on, STATES[StepState(step.state)], step.error_class)


def route(name: str, *endpoints: ModelEndpoint) -> ModelRoute:
    made = ModelRoute.objects.create(name=name)
    for place, one in enumerate(endpoints):
        RouteEntry.objects.create(route=made, endpoint=one, order=place)
    return made


def endpoint(server, name: str, fault: str = "") -> ModelEndpoint:
    model = f"scripted-demo+{fault}" if fault else "scripted-demo"
    timeout_s = 1 if fault in ENDLESS else 60
    return ModelEndpoint.objects.create(name=name, base_url=server.base_url, model=model, timeout_s=timeout_s)


def think(route: ModelRoute) -> tuple[Step, list[str]]:
    """The first turn of a new job after one attempt, and who was asked in it."""
    owner, agent = jobs.user("ada"), jobs.agent(name=route.name, route=route)
    new = intake.NewJob(owner=owner, kind="goal", goal="look around", agent=agent)
    job = intake.create_job(new, now=timezone.now(), actor=Actor.user(owner.pk))
    step = Step.objects.get(job=job)
    execute(step.pk, step.attempt, Delivery(queue=step.queue, worker="test@here", task_id=""))
    step.refresh_from_db()
    return step, list(LlmCall.objects.filter(step=step).order_by("at", "pk").values_list("endpoint_name", flat=True))
