"""Which endpoint answers, what it costs and who is asked next: real rows, the scripted server over real HTTP."""

import threading
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.utils import timezone

from agents.engine import failures
from agents.engine.intake import NewStep
from agents.llm import budget, embeddings, gateway, health, routing
from agents.llm.complete import Complete
from agents.llm.errors import CredentialsRefused, EndpointFailed
from agents.llm.gateway import ThinkFailed, new_call, targets_for
from agents.models import CachedAnswer, Capability, Job, LlmCall, ModelEndpoint, ModelRoute, RouteEntry, Step
from tests.factories import jobs, scripted_server
from tests.factories.policies import publish
from tests.integration.agents import driving
from tools import redact
from tools.box import SandboxBox
from tools.secrets.models import SecretHandle
from tools.workspaces import workspace_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]
SHAPE = {"type": "object", "properties": {"summary": {"type": "string"}}, "required": ["summary"]}


@pytest.fixture(scope="module")
def server():
    with scripted_server.running() as found:
        yield found


def endpoint(server, name: str, fault: str = "", **fields) -> ModelEndpoint:
    fields.setdefault("prompt_price", Decimal(1000))
    fields.setdefault("completion_price", Decimal(1000))
    model = f"scripted-demo+{fault}" if fault else "scripted-demo"
    return ModelEndpoint.objects.create(
        name=name, base_url=server.base_url, model=model, timeout_s=10, scripted=True, **fields
    )


def route(*endpoints: ModelEndpoint, strategy: str = "order", weights: tuple[int, ...] = ()) -> ModelRoute:
    made = ModelRoute.objects.create(name="main", strategy=strategy, is_default=True)
    tiers = strategy == "order"
    for place, one in enumerate(endpoints):
        weight = weights[place] if weights else 1
        RouteEntry.objects.create(route=made, endpoint=one, order=place if tiers else 0, weight=weight)
    return made


def ask(arguments: dict | None = None, *, job: Job | None = None):
    job = job or jobs.goal_job()
    step = jobs.step(job, f"ask-{job.steps.count()}", "llm.complete", state="running", arguments=arguments or {})
    box = SandboxBox(
        workspace_for(str(job.pk)), limits=Complete.limits, call_id=str(step.pk), on_output=lambda stream, text: None
    )
    try:
        return Complete().run(arguments or {"prompt": "Say something."}, box)
    finally:
        box.close()


def ledger() -> list[tuple[str, str]]:
    return list(LlmCall.objects.order_by("at").values_list("endpoint_name", "error_code"))


def test_an_answer_that_another_endpoint_would_give_no_better_costs_what_it_cost(server):
    route(endpoint(server, "first", "length"), endpoint(server, "second"))
    with pytest.raises(ThinkFailed):
        ask()
    assert ledger() == [("first", "answer_truncated")]
    assert LlmCall.objects.get().cost > 0


@pytest.mark.parametrize("order", [("ratelimit", "auth"), ("auth", "ratelimit")])
def test_an_endpoint_with_a_wrong_key_does_not_end_a_step_while_another_asks_for_patience(server, order):
    route(*(endpoint(server, fault, fault) for fault in order))
    with pytest.raises(ThinkFailed) as failed:
        ask()
    assert (failed.value.code, failed.value.transient, failed.value.retry_after_s) == ("rate_limited", True, 2.0)
    assert failed.value.message.startswith("ratelimit: ")  # who said so
    asked = ModelEndpoint.objects.get(name="ratelimit")
    assert asked.failures == 1 and asked.open_until > timezone.now()  # as it says


def test_the_ledger_has_what_a_call_cost_and_the_job_has_the_sum(server):
    route(endpoint(server, "priced", prompt_price=Decimal("2.5"), completion_price=Decimal(10)))
    job = jobs.goal_job()
    ask(job=job)
    ask(job=job)
    first, second = LlmCall.objects.order_by("at")
    assert first.cost == (
        (Decimal("2.5") * first.prompt_tokens + Decimal(10) * first.completion_tokens) / 1_000_000
    ).quantize(Decimal("0.000001"))
    assert first.reserved_cost >= first.cost and first.reserved_tokens >= first.prompt_tokens + first.completion_tokens
    job.refresh_from_db()
    assert job.cost_used == first.cost + second.cost > 0
    assert (first.purpose, first.route, first.state) == ("llm.complete", "main", "ended")


def test_what_a_call_needs_and_what_is_private_choose_the_endpoint(server):
    plain = endpoint(server, "plain", capabilities=["chat"])
    tools = endpoint(server, "tools", capabilities=["chat", "tools"], private=False)
    route(plain, tools)
    now = timezone.now()
    assert [one.name for one in routing.targets(None, needs={"chat"}, now=now)] == ["plain", "tools"]
    assert [one.name for one in routing.targets(None, needs={"chat", "tools"}, now=now)] == ["tools"]
    assert [one.name for one in routing.targets(None, needs={"chat"}, now=now, private=True)] == ["plain"]
    with pytest.raises(routing.NoEndpoint, match="route main can do this"):
        routing.targets(None, needs={"embeddings"}, now=now)
    with pytest.raises(routing.NoEndpoint, match="no route 'other'"):
        routing.targets(None, needs={"chat"}, now=now, route="other")


def test_the_cheapest_the_fastest_and_the_weightiest_come_first(server):
    dear, cheap = endpoint(server, "dear"), endpoint(server, "cheap", prompt_price=Decimal(1))
    made = route(dear, cheap, strategy="cost", weights=(50, 1))
    now = timezone.now()
    assert [one.name for one in routing.targets(None, needs=set(), now=now)] == ["cheap", "dear"]
    job = jobs.goal_job()
    step = jobs.step(job, "earlier", "llm.complete", state="succeeded", arguments={"prompt": "x"})
    for name, latency in (("dear", 20), ("cheap", 900)):
        LlmCall.objects.create(
            step=step, job=job, attempt=1, endpoint="x", endpoint_name=name, model="m", latency_ms=latency, at=now
        )
    made.strategy = "latency"
    made.save()
    assert [one.name for one in routing.targets(None, needs=set(), now=now)] == ["dear", "cheap"]
    made.strategy = "weight"
    made.save()
    firsts = [routing.targets(None, needs=set(), now=now)[0].name for _ in range(200)]
    assert firsts.count("dear") > 150 and "cheap" in [
        routing.targets(None, needs=set(), now=now)[1].name for _ in range(5)
    ]


def test_an_endpoint_that_fails_again_and_again_is_passed_over_until_an_answer_comes(server):
    first = endpoint(server, "first", "status500")
    route(first, endpoint(server, "second"))
    for _ in range(health.OPENS_AFTER):
        ask()
    first.refresh_from_db()
    assert first.failures == health.OPENS_AFTER and first.open_until > timezone.now()
    LlmCall.objects.all().delete()
    ask()
    assert ledger() == [("second", "")]
    ModelEndpoint.objects.filter(pk=first.pk).update(model="scripted-demo", open_until=timezone.now())
    ask()
    assert ledger()[-1] == ("first", "")
    first.refresh_from_db()
    assert (first.failures, first.open_until) == (0, None)


def test_each_pause_is_longer_and_none_is_endless(server):
    one = endpoint(server, "one")
    route(one)
    target = targets_for(jobs.goal_job(), needs={"chat"})[0]
    now = timezone.now()
    pauses = []
    for _ in range(20):
        health.failed(target, EndpointFailed("no"), now=now)
        one.refresh_from_db()
        pauses.append((one.open_until - now).total_seconds() if one.open_until else 0.0)
    assert pauses[: health.OPENS_AFTER] == [0.0] * (health.OPENS_AFTER - 1) + [health.FIRST_S]
    assert pauses[health.OPENS_AFTER] == 2 * health.FIRST_S
    assert pauses[-1] == health.LONGEST_S


@pytest.mark.parametrize(
    ("capabilities", "mode"),
    [
        (["chat", "tools", "json_schema"], "json_schema"),
        (["chat", "tools"], "function"),
        (["chat", "json_object"], "json_object"),
        (["chat"], "words"),
    ],
)
def test_data_is_asked_for_in_the_best_way_that_the_endpoint_knows(server, capabilities, mode):
    route(endpoint(server, "one", capabilities=capabilities))
    # without a schema in the request the scripted server answers in words, which is no data
    if mode == "words":
        with pytest.raises(ThinkFailed) as failed:
            ask({"prompt": "Sum it up.", "schema": SHAPE})
        assert failed.value.code == "invalid_answer"
        assert LlmCall.objects.count() == 3
        return
    if mode == "json_object":
        free = {"type": "object"}
        assert ask({"prompt": "Sum it up.", "schema": free}).data["answer"] == {}
    else:
        assert ask({"prompt": "Sum it up.", "schema": SHAPE}).data["answer"] == {"summary": "scripted"}
    by_call = bool(LlmCall.objects.get().answer["tool_calls"])
    assert by_call == (mode == "function")


def test_the_same_question_is_answered_from_the_cache_where_the_endpoint_says_so(server):
    route(endpoint(server, "kept", cache_s=3600))
    first, again = ask({"prompt": "One."}), ask({"prompt": "One."})
    ask({"prompt": "Two."})
    assert first.text == again.text
    calls = list(LlmCall.objects.order_by("at").values_list("from_cache", "prompt_tokens"))
    assert [kept for kept, _ in calls] == [False, True, False]
    assert calls[1][1] == 0
    assert sorted(CachedAnswer.objects.values_list("hits", flat=True)) == [0, 1]
    CachedAnswer.objects.update(at=timezone.now() - timedelta(hours=2))
    ask({"prompt": "One."})
    assert LlmCall.objects.filter(from_cache=True).count() == 1


@pytest.mark.parametrize("bound", [{"calls_a_minute": 1}, {"tokens_a_minute": 50}])
def test_an_endpoint_that_was_asked_enough_gives_way_to_the_next_or_the_step_waits(server, bound):
    first = endpoint(server, "first", **bound)
    made = route(first, endpoint(server, "second"))
    ask()
    ask()
    assert [name for name, _ in ledger()] == ["first", "second"]
    RouteEntry.objects.filter(route=made).exclude(endpoint=first).delete()
    with pytest.raises(ThinkFailed) as failed:
        ask()
    assert failed.value.code == "rate_limited" and failed.value.transient
    assert 0 < failed.value.details["retry_after_s"] <= 60
    assert failed.value.details["handed_back"]  # to wait for room is none of the step's attempts


def test_a_step_waits_for_room_at_an_endpoint_however_long(server):
    publish(("llm.*", "allow"))
    only = endpoint(server, "only", max_running=1)
    route(only)
    busy, job = jobs.goal_job(), driving.submit(NewStep(key="ask", tool="llm.complete", arguments={"prompt": "x"}))
    holder = jobs.step(busy, "ask", "llm.complete", state="running", arguments={"prompt": "x"})
    held = new_call(busy, holder, targets_for(busy, needs={"chat"})[0], "llm.complete")
    budget.reserve(held, tokens=1, cost=Decimal(0), least_tokens=1, least_cost=Decimal(0))
    waits = []
    for _ in range(5):
        driving.run_all(job)
        step = job.steps.get()
        assert (step.state, step.error_code) == ("queued", "rate_limited") and "1 call under way" in step.error
        waits.append((step.not_before - timezone.now()).total_seconds())
        Step.objects.filter(pk=step.pk).update(not_before=None)
    assert waits[0] < waits[2] < waits[4]
    budget.settle(held)
    assert driving.run_all(job).state == "succeeded"
    assert failures.tries(job.steps.get()) == 1


def test_many_calls_at_once_reserve_no_more_than_the_job_has(server):
    route(endpoint(server, "one", capabilities=[Capability.CHAT]))
    job = jobs.goal_job()
    Job.objects.filter(pk=job.pk).update(max_cost=Decimal(10), max_tokens=10_000)
    step = jobs.step(job, "many", "llm.complete", state="running", arguments={"prompt": "x"})
    target = targets_for(job, needs={"chat"})[0]
    won: list[LlmCall] = []
    lost: list[str] = []

    def reserve() -> None:
        call = new_call(job, step, target, "llm.complete")
        try:
            budget.reserve(
                call, tokens=3000, cost=Decimal(3), least_tokens=3000, least_cost=Decimal(3), also=lambda: None
            )
            won.append(call)
        except budget.BudgetExhausted as error:
            lost.append(str(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=reserve) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert (len(won), len(lost)) == (3, 5)
    assert "10000 tokens are used or set aside" in lost[0]
    won[0].prompt_tokens, won[0].cost = 10, Decimal("0.5")
    budget.settle(won[0])
    assert budget.left(Job.objects.get(pk=job.pk)).tokens == 10_000 - 6000 - 10
    again = new_call(job, step, target, "llm.complete")
    budget.reserve(again, tokens=3000, cost=Decimal(9), least_tokens=3000, least_cost=Decimal(1))
    assert again.reserved_cost == Decimal("3.5")  # what is left


def test_calls_at_once_over_a_tree_of_jobs_spend_no_more_than_its_root_has(server):
    """Real calls: whoever does not fit is refused before the request; no more than one reservation stays unused."""
    route(endpoint(server, "one", output_tokens=400, capabilities=[Capability.CHAT]))
    root = jobs.goal_job()
    ask(job=root)
    one = LlmCall.objects.get()
    Job.objects.filter(pk=root.pk).update(max_cost=3 * one.reserved_cost)
    child = jobs.goal_job(parent=root, parent_step=root.steps.get(), max_cost=one.reserved_cost)
    steps = [jobs.step(job, f"many-{n}", "llm.complete", state="running") for job in (root, child) for n in range(4)]
    codes: list[str] = []

    def call(step: Step) -> None:
        where = workspace_for(str(step.job_id))
        box = SandboxBox(where, limits=Complete.limits, call_id=str(step.pk), on_output=lambda stream, text: None)
        try:
            Complete().run({"prompt": "Say something."}, box)
            codes.append("")
        except ThinkFailed as error:
            codes.append(error.code)
        finally:
            box.close()
            connection.close()

    threads = [threading.Thread(target=call, args=[step]) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(codes) == {"", "budget_exhausted"}
    spent = sum(LlmCall.objects.filter(job__in=[root, child]).values_list("cost", flat=True))
    assert spent <= 3 * one.reserved_cost
    assert not LlmCall.objects.filter(state=LlmCall.State.OPEN).exists()


def test_money_that_does_not_cover_the_call_ends_the_job_before_the_call(server):
    route(endpoint(server, "one"))
    job = jobs.goal_job()
    Job.objects.filter(pk=job.pk).update(max_cost=Decimal("0.05"))
    job.refresh_from_db()
    with pytest.raises(ThinkFailed) as failed:
        ask(job=job)
    assert failed.value.code == "budget_exhausted" and "$0.0500" in failed.value.message
    assert not LlmCall.objects.exists()


def test_a_call_whose_worker_died_keeps_its_reservation(server):
    route(endpoint(server, "one"))
    job = jobs.goal_job()
    step = jobs.step(job, "ask", "llm.complete", state="running", arguments={"prompt": "x"})
    left_open = new_call(job, step, targets_for(job, needs={"chat"})[0], "llm.complete")
    budget.reserve(left_open, tokens=500, cost=Decimal(1), least_tokens=1, least_cost=Decimal(0))
    step.attempt += 1
    assert budget.give_up_earlier(step) == 1
    left_open.refresh_from_db()
    assert (left_open.state, left_open.error_code) == ("lost", "lost")
    assert budget.left(job).used_tokens == 500


@pytest.mark.parametrize("purpose", ["llm.think", "plan.make", "memory.search"])
def test_a_key_for_models_serves_whoever_asks_a_model(server, settings, tmp_path, monkeypatch, purpose):
    monkeypatch.setattr(redact, "_known", redact._known)
    settings.SECRETS_DIR = tmp_path
    (tmp_path / "key").write_text("of-the-endpoint\n")
    lists = {"tools": ["llm.*"], "agents": ["*"], "groups": ["*"], "hosts": [routing.host_of(server.base_url)]}
    SecretHandle.objects.create(name="key", place="key", **lists)
    route(endpoint(server, "keyed", key="key"))
    target = targets_for(jobs.goal_job(), needs={"chat"})[0]
    assert gateway.endpoint_of(target, purpose).api_key == "of-the-endpoint"
    (tmp_path / "key").write_text("changed-since\n")
    assert gateway.endpoint_of(target, purpose).api_key == "changed-since"  # at its next use
    with pytest.raises(CredentialsRefused, match="The key of keyed cannot be used"):
        gateway.endpoint_of(replace(target, base_url="https://elsewhere.example/v1"), purpose)


def test_texts_become_vectors_in_batches_on_the_ledger(server):
    endpoint(server, "vectors", capabilities=["embeddings"], dimensions=64)
    job = jobs.goal_job()
    step = jobs.step(job, "embed", "llm.complete", state="running", arguments={"prompt": "x"})
    texts = [f"text number {number}" for number in range(150)]
    found = embeddings.embed(job, step, targets_for(job, needs={"embeddings"}), texts, purpose="memory.keep")
    assert len(found.values) == 150 and found.dimensions == 64
    assert found.values[3] != found.values[4]
    assert LlmCall.objects.filter(purpose="memory.keep", endpoint_name="vectors").count() == 3
    assert sum(LlmCall.objects.values_list("prompt_tokens", flat=True)) == found.usage.prompt_tokens > 150


@pytest.mark.parametrize("fault", ["status500", "html", "malformed", "types", "auth"])
def test_vectors_that_do_not_come_are_a_clear_error(server, fault):
    endpoint(server, "vectors", fault, capabilities=["embeddings"])
    job = jobs.goal_job()
    step = jobs.step(job, "embed", "llm.complete", state="running", arguments={"prompt": "x"})
    with pytest.raises(ThinkFailed):
        embeddings.embed(job, step, targets_for(job, needs={"embeddings"}), ["x"], purpose="memory.keep")
    assert LlmCall.objects.get().error_code


def test_nobody_waits_for_vectors_that_nobody_wants_any_more(server):
    endpoint(server, "slow", "slow", capabilities=["embeddings"])
    endpoint(server, "vectors", capabilities=["embeddings"])
    job = jobs.goal_job()
    step = jobs.step(job, "embed", "llm.complete", state="running", arguments={"prompt": "x"})
    with pytest.raises(ThinkFailed) as failed:
        targets = targets_for(job, needs={"embeddings"})
        embeddings.embed(job, step, targets, ["x"], purpose="memory.keep", cancelled=lambda: True)
    assert failed.value.code == "cancelled" and [name for name, _ in ledger()] == ["slow"]
