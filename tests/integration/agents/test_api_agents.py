"""Agents by API: their profiles, versions, records and teams."""

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from agents import profiles
from agents.models import Agent, AgentVersion, Team, TeamMember
from tests.factories import jobs
from tests.factories.log import bodies
from tests.factories.people import user
from tests.integration.agents import web
from tests.integration.agents.api import client, problem
from tests.integration.agents.test_plan_pages import ended

pytestmark = pytest.mark.django_db(transaction=True)
AGENTS = "/api/v1/agents"


def helper() -> Agent:
    return jobs.agent("helper", capabilities=["code"], role="Mends code", instructions="Be brief.")


def change(who, **given):
    return client(who).post(f"{AGENTS}/helper/versions", given, format="json")


def test_a_profile_its_record_and_its_teams_are_read():
    agent = helper()
    team = Team.objects.create(name="menders", lead=jobs.agent("lead"))
    TeamMember.objects.create(team=team, agent=agent, part="Mends")
    for state in ("succeeded", "failed", "cancelled"):
        ended(agent, state, cost="0.5")
    ada, eve = client(user("ada")), client(user("eve"))
    seen = ada.get(f"{AGENTS}/helper").json()
    assert (seen["version"], seen["role"], seen["teams"], seen["planning"]) == (1, "Mends code", ["menders"], "loop")
    assert (seen["record"]["jobs"], seen["record"]["success"], seen["record"]["median_s"]) == (3, 0.5, 90.0)
    assert eve.get(f"{AGENTS}/helper").json()["record"]["jobs"] == 0  # of others' jobs nothing is told
    (version,) = ada.get(f"{AGENTS}/helper/versions").json()["results"]
    assert (version["number"], version["definition"]["instructions"]) == (1, "Be brief.")
    assert version["record"]["cost"] == "1.500000"
    assert ada.get(f"{AGENTS}/helper/versions/1").json() == version
    (found,) = ada.get("/api/v1/teams").json()["results"]
    assert (found["lead"], found["members"]) == ("lead", [{"agent": "helper", "part": "Mends"}])
    problem(ada.get(f"{AGENTS}/nobody"), 404, "not_found")
    problem(ada.get(f"{AGENTS}/helper/versions/9"), 404, "not_found")


def test_a_profile_is_changed_as_a_version_by_those_who_may():
    agent = helper()
    root = user("root", is_superuser=True)
    problem(change(user("eve"), version=0, role="Mine"), 403, "not_allowed")
    made = change(root, version=0, instructions="Be bold.", max_cost="2.50", tools=["files.*"], note="Bolder.")
    assert made.status_code == 201, made.content
    assert (made.json()["number"], made.json()["created_by"], made.json()["note"]) == (2, "root", "Bolder.")
    agent.refresh_from_db()
    assert (agent.instructions, str(agent.max_cost), agent.role) == ("Be bold.", "2.500000", "Mends code")
    # what it said before is a version as well, though no job ever ran by it
    assert AgentVersion.objects.get(agent=agent, number=1).definition["instructions"] == "Be brief."
    assert [body["context"]["version"] for body in bodies(agent.pk, "agent.changed")] == [1, 2]
    assert profiles.version_of(agent, now=timezone.now()).number == 2
    problem(change(root, version=1, role="Late"), 409, "not_now")
    assert change(root, version=2, role="Mends code").json()["number"] == 2  # it says so already
    problem(change(root, version=2, route="nowhere"), 400, "invalid_input", "route")
    problem(change(root, version=2, max_steps=0, colour="red"), 400, "invalid_input", "max_steps", "colour")
    with pytest.raises(ValidationError, match="An object of texts"):  # as the back office would write it
        Agent(name="x", instructions="x", tools=["*"], labels={"team": ["a"]}).full_clean()
    agent.refresh_from_db()
    assert (agent.role, AgentVersion.objects.filter(agent=agent).count()) == ("Mends code", 2)
    assert web.signed_in(user("eve")).get("/agents/profiles/helper/").status_code == 200
