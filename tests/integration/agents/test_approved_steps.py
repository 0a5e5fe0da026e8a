"""What people approved, until it runs: judged again at the claim, taken back, edited, overtaken by a new policy."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.utils import timezone
from rest_framework.test import APIClient

from agents.engine import reconsider
from agents.engine.control.pause import pause_job, resume_job
from agents.engine.execute import claim_step, execute
from agents.engine.recover import sweep
from agents.models import Agent, Job, Step
from agents.states import StepState
from agents.tokens import create_token
from approvals import editing, taking_back
from approvals.decisions import decide, may_decide
from approvals.errors import AlreadyDecided, InvalidEdit, NotEligible, TooLate
from approvals.models import ApprovalRequest, Policy, PolicyRule, PolicyVersion, RuleApprovers, Vote
from approvals.quorum import standing
from audit.actor import Actor
from tests.factories import people, tools
from tests.factories.log import bodies, events
from tests.integration.agents.driving import HERE, run_all, step_of, submit
from tests.integration.agents.test_engine import step
from tools.models import Permit

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]

HOUR = timedelta(hours=1)


def publish(*rules: dict[str, Any], name: str = "house") -> PolicyVersion:
    """A published version of these rules; what asks, asks the group sre unless it says another one."""
    policy, _ = Policy.objects.get_or_create(name=name)
    policy.versions.filter(status="published").update(status="retired")
    version = PolicyVersion.objects.create(policy=policy, number=policy.versions.count() + 1)
    for order, given in enumerate(rules, start=1):
        fields = {"name": f"rule-{order}", "effect": "ask", "tools": ["test.*"], "reason": "by test", **given}
        roles = fields.pop("roles", [])
        if fields["effect"] == "ask":
            fields["approvers"] = group(fields.get("approvers", "sre"))
        if "escalate_to" in fields:
            fields["escalate_to"] = group(fields["escalate_to"])
        rule = PolicyRule.objects.create(version=version, order=order, **fields)
        for name_, count in roles:
            RuleApprovers.objects.create(rule=rule, group=group(name_), count=count)
    PolicyVersion.objects.filter(pk=version.pk).update(status="published", published_at=timezone.now())
    version.refresh_from_db()
    return version


def group(name: str) -> Group:
    return Group.objects.get_or_create(name=name)[0]


def asking(*rules: dict[str, Any], tool: str = "test.once") -> tuple[Job, ApprovalRequest]:
    """A job whose only step waits for people."""
    publish(*(rules or [{}]))
    job = submit(step("a", tool, text="x"))
    return job, opened(job)


def opened(job: Job, key: str = "a") -> ApprovalRequest:
    """Plays the worker that makes the preview; the request about the step."""
    prepare(job)
    return ApprovalRequest.objects.get(subject_id=str(step_of(job, key).pk), state="pending")


def prepare(job: Job) -> None:
    for one in Step.objects.filter(job=job, state=StepState.READY):
        execute(one.pk, one.attempt, HERE)


def approve(request: ApprovalRequest, by: User, **changes: Any) -> ApprovalRequest:
    given = {"verdict": "approve", "reason": "", "channel": "page", "now": timezone.now(), **changes}
    return decide(request_id=request.pk, by=by, **given)


def member(name: str, *groups: str) -> User:
    return people.user(name, groups=groups or ("sre",))


def take_back(request: ApprovalRequest, by: User) -> ApprovalRequest:
    return taking_back.take_back(request_id=request.pk, by=by, channel="page", now=timezone.now())


def state(request: ApprovalRequest) -> str:
    return str(ApprovalRequest.objects.values_list("state", flat=True).get(pk=request.pk))


def claim(one: Step, now: datetime | None = None) -> bool:
    one.refresh_from_db()
    return claim_step(one.pk, one.attempt, HERE, now=now or timezone.now()) is not None


# ---- quorums and roles


@pytest.mark.parametrize(
    ("voters", "complete"),
    [
        (["s1", "both"], True),
        (["both", "s1"], True),  # whoever comes first, the one in both groups takes the seat that is left
        (["both"], False),
        (["both", "o1"], True),
        (["o1", "o2"], False),
        (["s1", "s2"], False),
        (["s1", "s2", "o1"], True),
    ],
)
def test_one_sre_and_one_owner_are_two_people(voters: Sequence[str], complete: bool):
    groups = {"s1": ["sre"], "s2": ["sre"], "o1": ["owners"], "o2": ["owners"], "both": ["sre", "owners"]}
    users = {name: member(name, *of) for name, of in groups.items()}
    job, request = asking({"roles": [("owners", 1)]})
    for name in voters[:-1]:
        assert approve(request, users[name]).state == "pending"
    last = approve(request, users[voters[-1]])
    assert (last.state == "approved", standing(last).complete) == (complete, complete)
    assert (run_all(job).state == "succeeded") is complete


def test_a_denial_of_either_role_ends_it():
    owner = member("o1", "owners")
    job, request = asking({"roles": [("owners", 1)]})
    assert approve(request, owner, verdict="deny", reason="not today").state == "denied"
    assert (run_all(job).state, step_of(job, "a").error) == ("failed", "not today")


# ---- judged again at the claim


def test_a_voter_who_left_before_it_ran_voids_the_approval_and_it_is_asked_anew():
    grace, alan = member("grace"), member("alan")
    job, request = asking()
    approve(request, grace)
    grace.groups.clear()
    run_all(job)
    assert (state(request), tools.RAN, step_of(job, "a").state) == ("void", [], "waiting_approval")
    new = ApprovalRequest.objects.get(replaces=request)
    assert "grace may not decide it any more" in new.changed[0]
    assert events(request.pk)[-1] == ("approval.closed", "void")
    approve(new, alan)
    assert (run_all(job).state, tools.RAN) == ("succeeded", [("test.once", "x")])


def test_the_permit_of_a_void_approval_is_worth_nothing():
    grace = member("grace")
    job, request = asking()
    approve(request, grace)
    old = step_of(job, "a").permit_id
    User.objects.filter(pk=grace.pk).update(is_active=False)
    run_all(job)
    permit = Permit.objects.get(pk=old)
    assert permit.spent_at is None
    assert permit.expires_at == permit.created_at


def test_what_was_shown_is_what_runs_else_people_see_what_changed():
    grace = member("grace")
    job, request = asking()
    approve(request, grace)
    tools.STATE["shown"] = " twice"
    run_all(job)
    assert (state(request), tools.RAN) == ("void", [])
    new = ApprovalRequest.objects.get(replaces=request)
    assert any(line.startswith("Preview: 2 lines differ") for line in new.changed)
    tools.STATE["target"] = "moved"
    approve(new, grace)
    run_all(job)
    newer = ApprovalRequest.objects.get(replaces=new)
    assert 'Target target: was "", is "moved".' in newer.changed
    assert (newer.digest, tools.RAN) != (new.digest, [("test.once", "x")])
    approve(newer, grace)
    assert run_all(job).state == "succeeded"


def test_what_nobody_ran_in_time_is_asked_anew():
    grace = member("grace")
    job, request = asking({"execution_expires_s": 600})
    approve(request, grace)
    late = timezone.now() + HOUR
    assert not claim(step_of(job, "a"), late)
    assert state(request) == "void"
    assert "did not run by" in opened(job).changed[0]


def test_an_approval_of_a_paused_job_ends_too():
    grace = member("grace")
    job, request = asking({"execution_expires_s": 600})
    pause_job(job.pk, by=Actor.user(1), now=timezone.now())
    approve(request, grace)
    assert reconsider.not_run_in_time(timezone.now()) == 0
    assert reconsider.not_run_in_time(timezone.now() + HOUR) == 1
    assert (state(request), step_of(job, "a").state) == ("void", "pending")
    resume_job(job.pk, by=Actor.user(1), now=timezone.now())
    approve(opened(job), grace)
    assert run_all(job).state == "succeeded"


def test_what_began_in_time_may_run_again_after_a_loss():
    grace = member("grace")
    job, request = asking({"execution_expires_s": 600}, tool="test.note")
    approve(request, grace)
    one = step_of(job, "a")
    assert claim(one)
    now = timezone.now()
    Step.objects.filter(pk=one.pk).update(lease_until=now - HOUR)
    sweep(now + HOUR)
    assert state(request) == "approved"
    assert claim(one, now + HOUR)


# ---- taking back


def test_an_approval_is_taken_back_until_it_runs():
    grace, alan = member("grace"), member("alan")
    job, request = asking()
    approve(request, grace)
    permit = step_of(job, "a").permit_id
    assert take_back(request, grace).state == "pending"
    one = step_of(job, "a")
    job.refresh_from_db()
    assert (one.state, one.permit_id, job.state) == ("waiting_approval", None, "waiting")
    assert Permit.objects.get(pk=permit).expires_at is not None
    assert not claim(one)
    assert events(request.pk, prefix="approval.taken_back") == [("approval.taken_back", "reopened")]
    approve(request, alan)
    assert run_all(job).state == "succeeded"
    with pytest.raises(TooLate):
        take_back(request, alan)
    assert state(request) == "approved"
    assert Vote.objects.get(request=request, user=alan).withdrawn_at is None


def test_one_of_two_votes_is_taken_back_and_may_be_given_again():
    grace, alan = member("grace"), member("alan")
    job, request = asking({"quorum": 2})
    approve(request, grace)
    assert take_back(request, grace).state == "pending"
    assert approve(request, alan).state == "pending"
    assert approve(request, grace).state == "approved"
    with pytest.raises(AlreadyDecided):
        approve(request, member("edsger"))
    assert run_all(job).state == "succeeded"


def test_a_denial_is_not_taken_back():
    grace = member("grace")
    _, request = asking()
    approve(request, grace, verdict="deny", reason="no")
    with pytest.raises(Exception, match="not approved"):
        take_back(request, grace)
    assert state(request) == "denied"


# ---- editing


def test_an_edit_is_decided_anew_and_not_by_its_editor():
    grace, alan = member("grace"), member("alan")
    job, request = asking({"quorum": 2})
    approve(request, alan)
    given = {"by": grace, "reason": "", "channel": "page", "now": timezone.now()}
    for bad in (
        {"text": "x"},
        {"text": 7},
        {"nothing": "x"},
        {"text": "\x00"},
        {"text": "\ud800"},
        {"text": float("nan")},
    ):
        with pytest.raises(InvalidEdit):
            editing.edit(request_id=request.pk, arguments=bad, **given)
    assert state(request) == "pending"
    assert editing.edit(request_id=request.pk, arguments={"text": "y"}, **given).state == "void"
    new = opened(job)
    assert (new.replaces_id, new.call["arguments"], new.excluded_as[str(grace.pk)]) == (
        request.pk,
        {"text": "y"},
        "editor",
    )
    assert 'Argument text: was "x", is "y".' in new.changed
    assert standing(new).have == 0
    with pytest.raises(NotEligible, match="editor"):
        approve(new, grace)
    assert bodies(request.pk, "approval.edited")[0]["actor"]["id"] == str(grace.pk)


def test_an_edit_into_what_policy_denies_is_refused_by_policy():
    grace = member("grace")
    job, request = asking({"effect": "deny", "condition": "call.args.text == 'bad'"}, {})
    given = {"by": grace, "reason": "", "channel": "page", "now": timezone.now()}
    editing.edit(request_id=request.pk, arguments={"text": "bad"}, **given)
    assert (step_of(job, "a").state, step_of(job, "a").error_code) == ("refused", "policy_denied")
    with pytest.raises(NotEligible):
        editing.edit(request_id=asking()[1].pk, arguments={"text": "z"}, **{**given, "by": people.user("nobody")})


# ---- a new policy


def test_a_later_denial_closes_what_waits():
    job, request = asking()
    publish({"effect": "deny"})
    with pytest.raises(Exception, match="decided on anew"):
        approve(request, member("grace"))
    assert reconsider.policies_changed(timezone.now()) == 1
    assert (state(request), step_of(job, "a").state) == ("void", "refused")
    assert run_all(job).state == "failed"


def test_a_denial_by_another_policy_closes_it_too_and_others_are_left_alone():
    job, request = asking()
    publish({"tools": ["git.*"]}, name="other")
    assert reconsider.policies_changed(timezone.now()) == 1
    assert (state(request), reconsider.policies_changed(timezone.now())) == ("pending", 0)
    publish({"effect": "deny"}, name="other")
    assert reconsider.policies_changed(timezone.now()) == 1
    assert (state(request), step_of(job, "a").state) == ("void", "refused")


def test_a_new_version_that_asks_opens_a_new_request():
    job, request = asking()
    publish({"approvers": "owners"})
    reconsider.policies_changed(timezone.now())
    new = opened(job)
    assert new.replaces_id == request.pk
    assert "Policy: was house@1 rule rule-1, is house@2 rule rule-1." in new.changed
    assert "Who must agree is not the same." in new.changed
    assert not may_decide(new, member("grace"))[0]


def test_a_new_version_that_allows_lets_it_run():
    job, request = asking()
    publish({"effect": "allow"})
    reconsider.policies_changed(timezone.now())
    assert (run_all(job).state, state(request)) == ("succeeded", "void")


# ---- who took part


def test_who_handed_the_work_down_answers_for_the_agent_or_made_the_token_decides_nothing():
    boss, owner, maker = member("boss"), member("owner"), member("maker")
    publish({})
    agent = Agent.objects.create(name="helper", instructions="Help.", tools=["test.*"], owner=owner)
    parent = submit(step("p", "test.read", text="p"), owner=boss)
    took_part = {str(maker.pk): "token owner"}
    job = submit(step("a", "test.once", text="x"), agent=agent, parent=parent, took_part=took_part, depth=1)
    request = opened(job)
    ada = people.user("ada")
    assert request.excluded_as == {
        str(ada.pk): "requester",
        str(boss.pk): "delegator",
        str(owner.pk): "agent owner",
        str(maker.pk): "token owner",
    }
    for user in (boss, owner, maker):
        with pytest.raises(NotEligible, match="took part"):
            approve(request, user)
    assert approve(request, member("grace")).state == "approved"


def test_who_made_the_token_is_known_to_the_job():
    ada, root = people.user("ada"), people.user("root", is_superuser=True, groups=("sre",))
    publish({})
    _, secret = create_token(user=ada, name="ci", scopes=["jobs:write"], now=timezone.now(), actor=Actor.user(root.pk))
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    plan = {"steps": [{"key": "a", "tool": "test.once", "arguments": {"text": "x"}}], "title": "t"}
    answer = client.post("/api/v1/jobs", plan, format="json")
    assert answer.status_code == 201, answer.content
    request = opened(Job.objects.get(pk=answer.json()["id"]))
    assert request.excluded_as[str(root.pk)] == "token owner"
    with pytest.raises(NotEligible):
        approve(request, root)
