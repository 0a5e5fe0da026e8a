"""Steps that reach the network: decided on by their hosts, recorded, and never run again by themselves."""

from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from agents.engine.execute import claim_step
from agents.engine.intake import NewStep
from agents.engine.recover import expire_leases
from agents.models import Step
from agents.states import JobState, StepState
from tests.factories.policies import publish
from tests.integration.agents.driving import HERE, run_all, step_of, submit
from tests.integration.tools.web_server import serve
from tools import permits
from tools.sandbox import probe

pytestmark = pytest.mark.django_db(transaction=True)


def curl(*hosts: str, url: str = "", **more: Any) -> dict[str, Any]:
    return {"argv": ["curl", "-sSk", "--max-time", "20", url], "network": list(hosts), **more}


def test_what_a_step_reached_stands_in_its_row(tmp_path: Path, settings: Any) -> None:
    if not any(report.works for report in probe.tiers(network=True)):
        pytest.skip("no tier has a network here")
    with serve(tmp_path) as server:
        server.page("/x", "hello")
        host = f"127.0.0.1:{server.port}"
        settings.EGRESS_EXCEPTIONS = [host]
        publish(("shell.*", "allow", f"has(call.network) && call.network == ['{host}']"))
        one = NewStep(key="one", tool="shell.exec", arguments=curl(host, url=f"https://{host}/x"))
        other = NewStep(key="other", tool="shell.exec", arguments=curl(host, "evil.example", url=f"https://{host}/x"))
        job = run_all(submit(one, other))
        assert len(server.seen) == 1
    assert (step_of(job, "one").state, step_of(job, "other").state) == (StepState.SUCCEEDED, StepState.REFUSED)
    assert job.state == JobState.FAILED
    row = step_of(job, "one")
    assert (row.effect, row.risk) == ("once", "high")
    held = row.result["sandbox"]
    assert (held["network"], held["hosts"]) == ("allow-list", [host])
    assert [(one["host"], one["port"], one["allowed"]) for one in held["connections"]] == [
        ("127.0.0.1", server.port, True)
    ]


@pytest.mark.parametrize(("hosts", "state"), [(["pypi.org"], StepState.IN_DOUBT), ([], StepState.QUEUED)])
def test_a_lost_command_that_may_have_been_heard_waits_for_a_person(hosts: list[str], state: str) -> None:
    publish(("shell.*", "allow"))
    arguments = curl(*hosts) if hosts else {"argv": ["true"]}
    job = submit(NewStep(key="one", tool="shell.exec", arguments=arguments))
    one = step_of(job, "one")
    claim = claim_step(one.pk, one.attempt, HERE, now=timezone.now())
    assert claim is not None
    if claim.step.permit_id is not None:  # of what may run twice the claim itself spends it
        permits.spend(claim.step.permit_id, digest=claim.call.digest(), by=HERE.worker, now=timezone.now())
    Step.objects.filter(pk=one.pk).update(lease_until=timezone.now())
    expire_leases(timezone.now())
    assert step_of(job, "one").state == state


def test_of_a_list_every_command_with_a_network_is_a_step_of_its_own() -> None:
    publish(("shell.*", "allow"))
    for key, arguments, kinds in (
        ("m", {"argv": ["echo", "${{ item }}"], "network": ["pypi.org"]}, {Step.Kind.CALL}),
        ("n", {"argv": ["echo", "${{ item }}"]}, {Step.Kind.CHUNK}),
    ):
        spec = {"over": ["a", "b", "c"], "arguments": arguments}
        job = submit(NewStep(key=key, tool="shell.exec", arguments={}, kind=Step.Kind.MAP, spec=spec))
        rows = Step.objects.filter(job=job, parent__isnull=False)
        assert {row.kind for row in rows} == kinds
        assert {row.effect for row in rows} == {"once" if Step.Kind.CALL in kinds else "repeatable"}
