"""The page of models, and what admins enter about endpoints."""

import itertools
from datetime import date, timedelta
from decimal import Decimal

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.utils import timezone

from agents.models import Job, LlmCall, ModelEndpoint, ModelRoute, RouteEntry
from agents.web.bars import REST, SERIES_MAX, stacked
from agents.web.jobpage import _cost
from config.doctor.models import endpoints as doctor
from tests.factories import jobs
from tests.factories.people import user
from tests.integration.agents import web
from tests.integration.agents.test_web_pages import get, strict
from tools.secrets.models import SecretHandle

pytestmark = pytest.mark.django_db(transaction=True)


def called(endpoint: str, *, cost: str = "0", error: str = "", kept: bool = False, days: int = 0, owner: str = "ada"):
    job = jobs.goal_job(goal=f"goal of {owner}")
    if owner != "ada":
        type(job).objects.filter(pk=job.pk).update(owner=user(owner))
    step = jobs.step(job, "think-1", "llm.think", arguments={"turn": 1})
    return LlmCall.objects.create(
        step=step,
        job=job,
        attempt=1,
        endpoint="https://models.example/v1",
        endpoint_name=endpoint,
        model="m",
        prompt_tokens=0 if kept else 1000,
        completion_tokens=0 if kept else 500,
        latency_ms=1500,
        cost=Decimal(cost),
        error_code=error,
        error="it said no" if error else "",
        from_cache=kept,
        at=timezone.now() - timedelta(days=days),
    )


def test_the_page_says_how_each_endpoint_does_and_what_it_costs():
    fast = ModelEndpoint.objects.create(name="fast", base_url="https://models.example/v1", model="tiny", cache_s=60)
    ModelEndpoint.objects.create(
        name="sick",
        base_url="https://sick.example/v1",
        model="big",
        failures=4,
        open_until=timezone.now() + timedelta(minutes=2),
    )
    route = ModelRoute.objects.create(name="main", strategy="cost", is_default=True)
    RouteEntry.objects.create(route=route, endpoint=fast)
    called("fast", cost="1.25")
    called("fast", cost="0.5", days=3)
    called("fast", kept=True)
    called("sick", error="endpoint_failed")
    html = get(web.signed_in(user("ada")), "/agents/models/")
    strict(html)
    for said in ("fast", "$1.75", "tiny", "left alone for", "0%", "endpoint_failed"):
        assert said in html, said
    assert "models.example" not in html  # addresses are for those who keep the endpoints
    assert "33%" in html  # of the calls to `fast` came from the cache
    assert "the cheapest first" in html and "default" in html
    assert 'class="series-0"' in html and "it said no" in html


def test_who_may_not_see_a_job_does_not_see_what_it_spent():
    called("fast", cost="7", owner="ada")
    called("fast", cost="0.5", owner="eve")
    assert "$0.50" in (html := get(web.signed_in(user("eve")), "/agents/models/")) and "$7" not in html
    admin = User.objects.create_superuser("root")
    assert "$7.50" in get(web.signed_in(admin), "/agents/models/")


def test_a_server_without_endpoints_shows_that_of_its_settings(settings):
    settings.LLM_BASE_URL, settings.LLM_MODEL, settings.LLM_SCRIPTED = "http://127.0.0.1:9/v1", "scripted-demo", True
    client = web.signed_in(User.objects.create_superuser("root"))
    html = get(client, "/agents/models/")
    assert "scripted-demo at http://127.0.0.1:9/v1" in html and "No routes" in html
    one = ModelEndpoint.objects.create(name="mine", base_url="https://models.example/v1", model="m")
    html = get(client, "/agents/models/")
    assert "on no route" in html and "http://127.0.0.1:9/v1" in html  # which is the one that is asked
    RouteEntry.objects.create(route=ModelRoute.objects.create(name="main", is_default=True), endpoint=one)
    html = get(client, "/agents/models/")
    assert "on no route" not in html and "http://127.0.0.1:9/v1" not in html


FORM = {
    **{"name": "x", "base_url": "https://models.example/v1/", "model": "m", "capabilities": ["chat"]},
    **{"context_tokens": 1000, "output_tokens": 100, "prompt_price": 0, "completion_price": 0},
    **{"timeout_s": 10, "cache_s": 0, "enabled": "on"},
}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"base_url": "models.example/v1"}, "starts with https://"),
        ({"base_url": "https://models.example/v1/chat/completions"}, "Leave /chat"),
        ({"base_url": "https://models.example:eighty/v1"}, "This is no address"),
        ({"base_url": "https:///v1"}, "This is no address"),
        ({"base_url": "http://169.254.169.254/v1"}, "link-local"),
        ({"base_url": "http://[fe80::1]/v1"}, "link-local"),
        ({"base_url": "https://me:word@models.example/v1"}, "a key is a secret handle"),
        ({"base_url": "https://models.example/v1?key=x"}, "behind the path"),
        ({"max_running": 0}, "At least 1"),
        ({"prompt_price": -1}, "A price is not negative"),
        ({"key": "other"}, "may not be sent to models.example:443"),
        ({"key": "tool"}, "is not for llm.think"),
        ({"key": "off"}, "is switched off"),
    ],
)
def test_an_endpoint_that_cannot_work_is_refused_with_the_reason(given, told):
    fine = {"tools": ["llm.*"], "hosts": ["models.example"]}
    for name, wrong in (
        ("other", {"hosts": ["b.example"]}),
        ("tool", {"tools": ["git.*"]}),
        ("off", {"enabled": False}),
    ):
        SecretHandle.objects.create(name=name, **{**fine, **wrong})
    client = web.signed_in(User.objects.create_superuser("root"))
    answer = client.post("/admin/agents/modelendpoint/add/", FORM | given)
    assert answer.status_code == 200 and told in answer.content.decode()
    assert not ModelEndpoint.objects.exists()


def test_what_is_saved_is_asked_again_at_once_and_what_is_missing_is_said():
    client = web.signed_in(User.objects.create_superuser("root"))
    html = client.post("/admin/agents/modelendpoint/add/", FORM, follow=True).content.decode()
    one = ModelEndpoint.objects.get(base_url="https://models.example/v1")
    assert "x has no prices" in html and "No route names x yet" in html
    for path, sent in (
        (f"{one.pk}/change/", FORM),
        ("", {"action": "close", "_selected_action": [str(one.pk)]}),
    ):
        ModelEndpoint.objects.update(failures=5, open_until=timezone.now() + timedelta(minutes=9))
        assert client.post(f"/admin/agents/modelendpoint/{path}", sent).status_code == 302
        one.refresh_from_db()
        assert (one.failures, one.open_until) == (0, None)
    assert LogEntry.objects.filter(object_id=str(one.pk), change_message__contains="forgotten").exists()


def test_a_route_that_cannot_work_says_so():
    ModelEndpoint.objects.create(name="mute", base_url="https://models.example/v1", model="m", capabilities=["chat"])
    ModelRoute.objects.create(name="main", is_default=True)
    client = web.signed_in(User.objects.create_superuser("root"))
    form = {"name": "second", "strategy": "order", "is_default": "on"}
    form |= {"entries-TOTAL_FORMS": 1, "entries-INITIAL_FORMS": 0, "entries-0-order": 0, "entries-0-weight": 1}
    form["entries-0-endpoint"] = str(ModelEndpoint.objects.get().pk)
    answer = client.post("/admin/agents/modelroute/add/", form)
    assert answer.status_code == 200 and "main is the default route" in answer.content.decode()
    del form["is_default"]
    html = client.post("/admin/agents/modelroute/add/", form, follow=True).content.decode()
    told = "No enabled endpoint of the route second answers and calls functions"
    assert told in html
    (finding,) = doctor()
    assert finding.level == "warn" and told in finding.says and "main" in finding.says


def test_the_doctor_finds_what_was_right_when_it_was_entered():
    assert [one.level for one in doctor()] == ["ok"]
    one = ModelEndpoint.objects.create(name="x", base_url="https://models.example/v1", model="m", key="gone")
    told = [one.says for one in doctor()]
    assert "x: There is no secret handle 'gone' any more." in told[0] and "no route is the default" in told[1]
    RouteEntry.objects.create(route=ModelRoute.objects.create(name="main", is_default=True), endpoint=one)
    SecretHandle.objects.create(name="gone", place="gone", tools=["llm.*"], hosts=["models.example"])
    assert [(one.level, one.says) for one in doctor()] == [("ok", "1 in use")]


def test_what_a_job_spent_is_shown_with_and_without_a_limit():
    said = [one.text for one in _cost(Job(cost_used=Decimal("0.25"))) + _cost(Job(cost_used=0, max_cost=Decimal(2)))]
    assert said == ["$0.25, no limit", "$0 of $2.00"] and _cost(Job(cost_used=Decimal(0))) == []


def test_bars_stand_on_each_other_and_more_kinds_than_colours_are_one():
    today = date(2026, 3, 5)
    values = {(today, f"kind {number}"): float(10 - number) for number in range(9)}
    bars = stacked([today - timedelta(days=1), today], values, words=lambda value: f"{value:.0f}")
    assert [name for _, name, _ in bars.series][-1] == REST and len(bars.series) == SERIES_MAX
    assert bars.series[-1][2] == "14" and bars.bars[1].said == "54" and bars.bars[0].said == ""
    pieces = bars.bars[1].pieces
    assert sum(piece.height for piece in pieces) == pytest.approx(96, abs=0.1)
    assert all(
        above.y + above.height == pytest.approx(below.y, abs=0.05) for below, above in itertools.pairwise(pieces)
    )
    assert stacked([today], {}, words=str).empty
