"""Random plans, failures, losses and controls: the engine on its real database against a small pure model.

Thirty fixed examples by default; PROPERTY_EXAMPLES=500 draws so many new ones.
"""

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.engine import answers, recover
from agents.engine.cancel import cancel_job, stop_undoing
from agents.engine.control.edit import edit_step
from agents.engine.control.fork import fork_job
from agents.engine.control.pause import pause_job, resume_job
from agents.engine.control.retry import retry_job
from agents.engine.execute import claim_step, execute
from agents.engine.intake import NewStep
from agents.errors import AgentsError
from agents.models import Attempt, FeedEntry, Job, Step
from approvals.decisions import decide
from approvals.models import ApprovalRequest
from audit.actor import Actor
from audit.models import Record
from tests.factories.jobmodel import JOB_DONE, JobModel, Plan
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.test_engine import HERE, submit
from tools import registry
from tools.errors import ToolFailed
from tools.models import Permit
from tools.spec import Box, Effect, Result, Tool

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "0"))
MINUTE = timedelta(seconds=60)
BY = Actor.user(1)

NEXT: dict[str, str] = {}  # what the next attempt of a step comes to, by its key
RAN: list[tuple[str, str]] = []
PROBE: dict[str, bool | None] = {}


class Died(BaseException):
    """The worker is killed in mid-act: nothing after it runs."""


class Act(Tool):
    name: ClassVar[str] = "prop.act"
    summary: ClassVar[str] = "Does what the test says."
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"key": {"type": "string"}, "rule": {"type": "string"}},
        "additionalProperties": False,
    }
    effect: ClassVar[Effect] = Effect.REPEATABLE
    queue: ClassVar[str] = "shell"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        key = str(arguments["key"])
        outcome = NEXT.pop(key, "ok")
        RAN.append((key, outcome))
        if outcome == "died":
            raise Died
        if outcome == "transient":
            raise ToolFailed("Not now.", transient=True)
        return Result(ok=outcome == "ok", summary=outcome)


class Once(Act):
    name: ClassVar[str] = "prop.once"
    effect: ClassVar[Effect] = Effect.ONCE

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        return "would act"

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        happened = PROBE[str(arguments["key"])]
        if happened is None:
            raise ToolFailed("Cannot tell.")
        return Result(ok=True, summary="it happened") if happened else None


@pytest.fixture(autouse=True)
def _tools():
    tools = (Act(), Once())
    for tool in tools:
        registry.register(tool)
    publish(
        ("prop.*", "deny", "call.args.rule == 'deny'"),
        ("prop.*", "ask", "call.args.rule == 'ask'"),
        ("prop.*", "allow"),
    )
    yield
    for tool in tools:
        registry.unregister(tool.name)


def step_of(plan: Plan) -> NewStep:
    tool = "prop.once" if plan.once else "prop.act"
    if not plan.items:
        undo = {"tool": "prop.act", "arguments": {"key": f"undo-{plan.key}", "rule": "allow"}}
        arguments = {"key": plan.key, "rule": plan.rule}
        return NewStep(
            key=plan.key, tool=tool, arguments=arguments, needs=plan.needs, compensation=undo if plan.undo else None
        )
    undo = {"tool": "prop.act", "arguments": {"key": "${{ 'undo-' + item }}", "rule": "allow"}}
    spec = {
        "over": [f"{plan.key}.{number}" for number in range(1, plan.items + 1)],
        "arguments": {"key": "${{ item }}", "rule": plan.rule},
        "chunk": 1,
    }
    return NewStep(
        key=plan.key,
        tool=tool,
        arguments={},
        needs=plan.needs,
        kind=Step.Kind.MAP,
        spec=spec,
        compensation=undo if plan.undo else None,
    )


class Driver:
    """Does to the engine and to the model the same, and compares them after each act."""

    def __init__(self, plans: list[Plan]) -> None:
        NEXT.clear()
        RAN.clear()
        PROBE.clear()
        self.plans = plans
        self.model = JobModel(plans)
        self.job = submit(*map(step_of, plans))
        self.compare("submit")

    # acts, each on one of the steps that it can be done to

    def act(self, kind: str, number: int, outcome: str) -> None:
        getattr(self, f"_{kind}")(number, outcome)
        self.compare(f"{kind} {number} {outcome}")

    def _run(self, number: int, outcome: str) -> None:
        key = self._pick(number, "queued")
        if key:
            NEXT[self.model.steps[key].name] = outcome
            self._deliver(key, self.model.steps[key].attempts)

    def _preview(self, number: int, outcome: str) -> None:
        key = self._pick(number, "ready")
        if key:
            self._deliver(key, self.model.steps[key].attempts)
            self.model.previewed(key)

    def _claim(self, number: int, outcome: str) -> None:
        """A worker dies between its claim and the use of its permit."""
        key = self._pick(number, "queued")
        if key:
            self._due(key)
            assert claim_step(self.ids[key], self.model.steps[key].attempts, HERE, now=timezone.now()) is not None
            self.model.claim(key)

    def _stale(self, number: int, outcome: str) -> None:
        """An old or doubled message: it must do nothing."""
        keys = [key for key, one in self.model.steps.items() if one.attempts or one.state not in {"queued", "ready"}]
        if keys:
            key = keys[number % len(keys)]
            one = self.model.steps[key]
            self._deliver(key, one.attempts - 1 if one.state in {"queued", "ready"} else one.attempts)

    def _expire(self, number: int, outcome: str) -> None:
        recover.expire_leases(timezone.now() + MINUTE)
        self.model.expire()

    def _probe(self, number: int, outcome: str) -> None:
        key = self._pick(number, "in_doubt")
        if key and not self.model.steps[key].needs_person:
            happened = {"ok": True, "transient": None}.get(outcome, False)
            PROBE[self.model.steps[key].name] = happened
            answers.probe(self.ids[key], self.model.steps[key].attempts, worker=HERE.worker)
            if happened is None:
                self.model.unsure(key)
            else:
                self.model.answered(key, happened=happened)

    def _person(self, number: int, outcome: str) -> None:
        """People are asked where the probe could not tell."""
        key = self._pick(number, "in_doubt")
        if key and self.model.steps[key].needs_person:
            by = Actor.user(user("grace", groups=("approvers",)).pk)
            answers.by_person(self.ids[key], happened=outcome == "ok", by=by, now=timezone.now())
            self.model.answered(key, happened=outcome == "ok")

    def _decide(self, number: int, outcome: str) -> None:
        key = self._pick(number, "waiting_approval")
        if key:
            request = ApprovalRequest.objects.get(subject_id=str(self.ids[key]), state="pending")
            grace = user("grace", groups=("approvers",))
            verdict = "deny" if outcome == "not_ok" else "approve"
            decide(request_id=request.pk, by=grace, verdict=verdict, reason="so", channel="page", now=timezone.now())
            self.model.decided(key, approved=verdict == "approve")

    def _cancel(self, number: int, outcome: str) -> None:
        cancel_job(self.job.pk, by=BY, now=timezone.now())
        self.model.cancel()

    def _pause(self, number: int, outcome: str) -> None:
        assert self._done(pause_job) == self.model.pause()

    def _resume(self, number: int, outcome: str) -> None:
        assert self._done(resume_job) == self.model.resume()

    def _retry(self, number: int, outcome: str) -> None:
        assert self._done(retry_job, did_not_happen=list(self.ids)) == self.model.retry()

    def _edit(self, number: int, outcome: str) -> None:
        """Other arguments, of which policy may say something else."""
        keys = self.model.editable()
        if not keys:
            return
        key = keys[number % len(keys)]
        rule = {"not_ok": "deny", "transient": "ask"}.get(outcome, "allow")
        edit_step(self.ids[key], {"key": key, "rule": rule}, by=user("linus"), now=timezone.now())
        self.model.edit(key, rule)

    def _stop(self, number: int, outcome: str) -> None:
        """A person ends the undoing."""
        assert self._done(stop_undoing) == self.model.stop_undoing()

    def _fork(self, number: int, outcome: str) -> None:
        """The story goes on with a new job that begins in the middle of this one, which stays as it was."""
        at = self.plans[number % len(self.plans)].key
        made = self.model.forked(at)
        try:
            job = fork_job(self.job.pk, at=at, by=user("ada"), now=timezone.now())
        except AgentsError as error:
            assert made is None, error
            return
        assert made is not None, f"forked at {at}"
        self.compare(f"fork {at}, the job itself")
        self.job, self.model, self.plans = job, made, list(made.plans)
        RAN.clear()

    # the end

    def finish(self) -> None:
        """Everything goes well from here on, and the job must come to its end."""
        for _ in range(120):
            if self.model.state in JOB_DONE:
                return
            if self.model.state == "paused":
                self.act("resume", 0, "ok")
            for kind in ("expire", "probe", "person", "preview", "decide", "run"):
                self.act(kind, 0, "ok")
        raise AssertionError(f"the job does not end: {self.model.states()}")

    def audit(self) -> None:
        """What must be true of the whole story."""
        permits = Counter(Permit.objects.filter(spent_at__isnull=False).values_list("subject", flat=True))
        for key, pk in self.ids.items():
            one, row = self.model.steps[key], Step.objects.get(pk=pk)
            assert permits[str(pk)] == one.runs, f"{key} ran on a permit each time"
            alike = [other.runs for other in self.model.steps.values() if other.name == one.name]
            assert sum(alike) == sum(ran == one.name for ran, _ in RAN), f"{key} ran as often as it was let"
            assert not one.runs or row.decision, f"{key} was decided on"
            numbers = list(
                Attempt.objects.filter(step=pk).order_by("claimed_at", "number").values_list("number", flat=True)
            )
            assert numbers == one.claims, f"{key}'s attempts count up"
            assert not Attempt.objects.filter(step=pk, ended_at=None).exists(), f"{key}'s attempts have ended"
            claims = Record.objects.filter(event="step.dispatched", target_id=str(pk)).count()
            assert claims == len(one.claims), f"{key}'s claims stand in the log"
        assert not ApprovalRequest.objects.filter(parent_id=str(self.job.pk), state="pending").exists()
        entries = list(FeedEntry.objects.filter(job=self.job).order_by("seq").values_list("seq", flat=True))
        assert entries == list(range(1, Job.objects.get(pk=self.job.pk).feed_seq + 1)), "the feed has no gaps"

    def compare(self, after: str) -> None:
        rows = Step.objects.filter(job=self.job)
        self.ids = dict(rows.values_list("key", "pk"))
        found = {key: (state, attempt) for key, state, attempt in rows.values_list("key", "state", "attempt")}
        assert found == self.model.states(), after
        assert Job.objects.get(pk=self.job.pk).state == self.model.state, after

    def _deliver(self, key: str, fence: int) -> None:
        """A message to a worker. It may go on with what follows in the same process: the model hears what ran."""
        self._due(key)
        before = len(RAN)
        with suppress(Died):
            execute(self.ids[key], fence, HERE)
        for ran, outcome in RAN[before:]:
            self.model.run(self.model.named(ran), outcome)

    def _due(self, key: str) -> None:
        Step.objects.filter(pk=self.ids[key]).update(not_before=None)

    def _pick(self, number: int, *states: str) -> str | None:
        keys = self.model.where(*states)
        return keys[number % len(keys)] if keys else None

    def _done(self, verb: Any, **more: Any) -> bool:
        try:
            verb(self.job.pk, by=BY, now=timezone.now(), **more)
        except AgentsError:
            return False
        return True


@st.composite
def plans(draw: st.DrawFn) -> list[Plan]:
    """One to six steps; each may need any of those before it."""
    found: list[Plan] = []
    for number in range(draw(st.integers(1, 6))):
        keys = [plan.key for plan in found]
        needs = draw(st.lists(st.sampled_from(keys), unique=True, max_size=3)) if keys else []
        rule = draw(st.sampled_from(["allow", "allow", "allow", "ask", "deny"]))
        items = draw(st.sampled_from([0, 0, 0, 0, 1, 3]))
        undo = draw(st.sampled_from([False, False, True]))
        found.append(Plan(f"s{number}", needs, draw(st.booleans()), rule, items, undo))
    return found


OFTEN = ["run"] * 6 + ["expire", "probe", "preview", "decide"] * 2
SELDOM = ["claim", "person", "stale", "cancel", "pause", "resume", "retry", "edit", "stop", "fork"]
ACTS = st.tuples(
    st.sampled_from(OFTEN + SELDOM),
    st.integers(0, 5),
    st.sampled_from(["ok", "ok", "ok", "not_ok", "transient", "died"]),
)


@settings(
    max_examples=EXAMPLES or 30,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(given_plans=plans(), acts=st.lists(ACTS, min_size=4, max_size=24))
def test_every_job_ends_as_the_model_says_whatever_happens_to_it(given_plans, acts):
    driver = Driver(given_plans)
    for kind, number, outcome in acts:
        driver.act(kind, number, outcome)
    driver.finish()
    driver.audit()
