"""What the API tells of jobs that start jobs, and of maps."""

import pytest
from django.utils import timezone
from guardian.shortcuts import assign_perm

from agents.engine import children
from agents.engine.intake import NewStep
from agents.models import Agent, Job, Step
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents import api
from tests.integration.agents.driving import run_all, submit

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]


def test_parent_and_child_name_each_other_and_what_was_granted():
    publish(("*", "allow"))
    Agent.objects.create(name="reader", instructions="work", tools=["files.*"])
    arguments = {"goal": "look", "agent": "reader", "tools": ["files.read"], "max_tokens": 300}
    job = submit(NewStep(key="d", tool="job.delegate", arguments=arguments))
    ada = api.client(user("ada"))
    before = ada.get(f"{api.JOBS}/{job.pk}")
    assert (before.json()["children"], before.json()["parent"], before.json()["depth"]) == ([], None, 0)
    assert children.sweep(timezone.now()) == 1
    child = Job.objects.get(parent=job)
    after = ada.get(f"{api.JOBS}/{job.pk}", headers={"If-None-Match": before["ETag"]})
    assert after.json()["children"] == [str(child.pk)]
    told = ada.get(f"{api.JOBS}/{child.pk}").json()
    assert (told["parent"], told["parent_step"], told["depth"]) == (str(job.pk), "d", 1)
    assert (told["grant"], told["max_tokens"], told["trigger"]) == ([["files.read"]], 300, "")
    step = ada.get(f"{api.JOBS}/{job.pk}/steps/d").json()
    assert (step["kind"], step["child_job"], step["parent"]) == ("job", str(child.pk), None)
    listed = ada.get(f"{api.JOBS}?parent={job.pk}").json()["results"]
    assert [one["id"] for one in listed] == [str(child.pk)]
    assert ada.get(f"{api.JOBS}?parent={child.pk}").json()["results"] == []
    api.problem(ada.get(f"{api.JOBS}?parent=x"), 400, "invalid_input", "parent")


def test_children_that_were_not_shared_are_not_named():
    publish(("*", "allow"))
    Agent.objects.create(name="reader", instructions="work", tools=["files.*"])
    job = submit(NewStep(key="d", tool="job.delegate", arguments={"goal": "look", "agent": "reader"}))
    children.sweep(timezone.now())
    bob = user("bob")
    assign_perm("agents.view_job", bob, job)
    client = api.client(bob)
    assert client.get(f"{api.JOBS}/{job.pk}").json()["children"] == []
    assert client.get(f"{api.JOBS}?parent={job.pk}").json()["results"] == []


def test_chunks_name_their_map_and_the_map_what_it_fans_out_over():
    publish(("test.*", "allow"))
    spec = {"over": ["a", "b"], "arguments": {"text": "${{ item }}"}, "chunk": 1}
    job = run_all(submit(NewStep(key="m", tool="test.note", arguments={}, kind=Step.Kind.MAP, spec=spec)))
    ada = api.client(user("ada"))
    rows = ada.get(f"{api.JOBS}/{job.pk}/steps").json()["results"]
    assert [(one["key"], one["kind"], one["parent"]) for one in rows] == [
        ("m", "map", None),
        ("m.1", "chunk", "m"),
        ("m.2", "chunk", "m"),
    ]
    told = ada.get(f"{api.JOBS}/{job.pk}/steps/m").json()["spec"]
    assert (told["over"], told["items"], told["chunks"]) == (["a", "b"], 2, 2)
