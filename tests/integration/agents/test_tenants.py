"""Tenants: whose work it is, and how many jobs may be unfinished."""

from functools import partial

import pytest
from django.contrib.auth.models import Group
from django.utils import timezone

from agents.errors import QueueFull, UnknownTenant
from agents.models import Job, RateLimit, Step, Tenant
from agents.submit import submit
from agents.tenants import default_tenant, tenant_for
from audit.kinds import Event
from audit.models import Record
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.api import JOBS, client, problem
from tests.integration.agents.test_engine_recovery import side_by_side

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]

PLAN = {"steps": [{"key": "a", "tool": "test.note"}]}


@pytest.fixture(autouse=True)
def _allowed():
    publish(("test.*", "allow"))


def tenant(name: str, **fields: object) -> Tenant:
    made = Tenant.objects.create(name=name, **fields)
    made.groups.add(Group.objects.get_or_create(name=name)[0])
    return made


def begin(name: str = "ada", **more: object) -> Job:
    return submit({**PLAN, **more}, user=user(name), now=timezone.now())[0]


def test_a_job_and_its_steps_are_its_user_s_tenant_s():
    red, blue = tenant("red"), tenant("blue")
    user("ada", groups=("red",))
    user("bob", groups=("red", "blue"))
    user("eve")
    assert begin("ada").tenant == red
    assert begin("bob", tenant="blue").tenant == blue
    assert begin("bob").tenant == begin("eve").tenant == default_tenant()
    assert set(Step.objects.filter(job__tenant=red).values_list("tenant__name", flat=True)) == {"red"}


def test_nobody_uses_another_tenant_s_share_nor_the_default_s_past_their_own():
    tenant("red")
    tenant("blue")
    ada = user("ada", groups=("red",))
    for name in ("blue", "default", "nothing"):
        with pytest.raises(UnknownTenant):
            tenant_for(ada, name)
    assert tenant_for(user("root", is_superuser=True), "blue").name == "blue"
    problem(client(ada).post(JOBS, {**PLAN, "tenant": "blue"}), 400, "unknown_tenant", "tenant")


def test_a_full_tenant_is_told_to_come_back_and_others_are_let_in():
    tenant("red", jobs_queued_max=2)
    ada = user("ada", groups=("red",))
    begin("ada")
    begin("ada")
    response = client(ada).post(JOBS, PLAN)
    problem(response, 429, "queue_full")
    assert int(response["Retry-After"]) > 0
    begin("eve")
    assert Job.objects.count() == 3


def test_one_user_cannot_take_every_place(settings):
    settings.JOBS_QUEUED_MAX_PER_USER = 1
    begin("ada")
    with pytest.raises(QueueFull, match="You have 1"):
        begin("ada")
    begin("eve")


def test_submissions_at_once_never_take_more_places_than_there_are():
    tenant("red", jobs_queued_max=3)
    user("ada", groups=("red",))
    raised = side_by_side(*[partial(begin, "ada")] * 8)
    assert [type(one) for one in raised] == [QueueFull] * 5
    assert Job.objects.count() == 3


# the API and the back office

TENANTS = "/api/v1/tenants"


def test_members_read_their_tenants_and_what_they_have_under_way():
    tenant("red", weight=3)
    tenant("blue")
    ada = user("ada", groups=("red",))
    begin("ada")
    [found] = client(ada).get(TENANTS).json()["results"]
    assert (found["name"], found["weight"], found["groups"]) == ("red", 3, ["red"])
    assert (found["jobs_unfinished"], found["steps_waiting"], found["steps_running"]) == (1, 1, 0)
    problem(client(ada).get(f"{TENANTS}/blue"), 404, "not_found")
    problem(client(ada).patch(f"{TENANTS}/red", {"weight": 100}), 403, "not_allowed")
    problem(client(ada).post(TENANTS, {"name": "mine"}), 403, "not_allowed")


def test_staff_add_and_change_tenants_and_it_is_recorded():
    Group.objects.create(name="payments")
    root = client(user("root", is_superuser=True, is_staff=True))
    assert root.post(TENANTS, {"name": "pay", "weight": 3, "groups": ["payments"]}).status_code == 201
    problem(root.post(TENANTS, {"name": "pay"}), 400, "invalid_input", "name")
    problem(root.post(TENANTS, {"name": "x", "weight": 101}), 400, "invalid_input", "weight")
    problem(root.post(TENANTS, {"name": "x", "groups": ["nobody"]}), 400, "invalid_input", "groups[0]")
    changed = root.patch(f"{TENANTS}/pay", {"max_running": 2, "jobs_queued_max": None}).json()
    assert (changed["weight"], changed["max_running"], changed["groups"]) == (3, 2, ["payments"])
    problem(root.patch(f"{TENANTS}/pay", {"weight": None}), 400, "invalid_input", "weight")
    assert Record.objects.filter(event=str(Event.ADMIN_CHANGED), target_type="tenant").count() == 2
    assert {one["name"] for one in root.get(TENANTS).json()["results"]} == {"pay"}


def test_the_api_says_for_which_job_another_waits():
    ada = user("ada")
    first, second = begin("ada", concurrency_key="deploy/prod"), begin("ada", concurrency_key="deploy/prod")
    found = client(ada).get(f"{JOBS}/{second.pk}").json()
    assert (found["waits_for_job"], found["concurrency_key"]) == (str(first.pk), "deploy/prod")
    assert found["tenant"] == "default"
    problem(
        client(ada).post(JOBS, {**PLAN, "concurrency_key": "deploy/prod", "on_conflict": "reject"}),
        409,
        "key_busy",
        "concurrency_key",
    )
    page = client(ada).get(f"/jobs/{second.pk}/")
    assert f"Waits for job {str(first.pk)[-12:]} (key deploy/prod)" in page.content.decode()


@pytest.mark.parametrize(
    ("changes", "ok"),
    [
        ({}, True),
        ({"pattern": "git push"}, False),
        ({"calls": ""}, False),
        ({"calls": "0"}, False),
        ({"tokens": "5"}, False),
    ],
)
def test_the_back_office_takes_limits_that_make_sense(changes: dict[str, str], ok: bool):
    root = client(user("root", is_superuser=True, is_staff=True))
    data = {"name": "pushes", "kind": "tool", "pattern": "git.push", "calls": "2", "window_s": "60", "enabled": "on"}
    answer = root.post("/admin/agents/ratelimit/add/", {**data, **changes}, format="multipart")
    assert (answer.status_code == 302) is ok
    assert RateLimit.objects.exists() is ok
    assert root.get("/admin/agents/ratelimit/").status_code == 200
    assert root.get("/admin/agents/tenant/").status_code == 200
