"""Grants, questions back, emergencies and deputies, with the steps that wait for them."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from agents.engine import asked, children
from agents.models import Agent, Job, Step
from approvals import comments, deputies, glass, granting
from approvals.errors import AlreadyDecided, InvalidGrant, NotEligible
from approvals.models import ApprovalRequest, Comment, Grant, Vote
from approvals.quorum import standing
from tests.factories import people, states, tools
from tests.factories.log import events
from tests.integration.agents.driving import run_all, step_of, submit
from tests.integration.agents.test_approved_steps import (
    HOUR,
    approve,
    asking,
    claim,
    group,
    member,
    opened,
    publish,
    state,
    take_back,
)
from tests.integration.agents.test_engine import step

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]


# ---- grants


def grant(request: ApprovalRequest, by: User, **changes: Any) -> Grant:
    given = {"minutes": 30, "uses": 2, "matcher": {"text": "fix/*"}, "now": timezone.now(), **changes}
    return granting.give(request_id=request.pk, by=by, **given)


def granted(**changes: Any) -> tuple[Job, Grant]:
    """A job whose steps wait for each other, the first approved with a grant for texts like fix/*."""
    publish({"grant_max_s": 3600})
    texts = ["fix/1", "fix/2", "other", "fix/../3", "fix/4", "fix/5"]
    keys = [f"s{number}" for number in range(len(texts))]
    chain = zip(keys, ["", *keys], texts, strict=False)
    job = submit(*(step(key, "test.note", *([before] if before else []), text=text) for key, before, text in chain))
    return job, grant(opened(job, "s0"), member("grace"), **changes)


def test_a_grant_covers_what_fits_for_so_many_uses():
    job, given = granted()
    assert (given.words, given.uses) == ('test.note in this job, where text is like "fix/*"', 0)
    run_all(job)
    assert [text for _, text in tools.RAN] == ["fix/1", "fix/2"]
    assert step_of(job, "s1").decision["grant"] == {"id": str(given.pk), "words": given.words, "use": 1, "of": 2}
    assert not ApprovalRequest.objects.filter(subject_id=str(step_of(job, "s1").pk)).exists()
    assert events(given.pk) == [("grant.given", "ok"), ("grant.used", "ok")]
    alan = member("alan")
    for key in ("s2", "s3"):  # neither another text nor a way out of the folder is covered
        approve(opened(job, key), alan)
        run_all(job)
    assert (step_of(job, "s4").state, step_of(job, "s5").state) == ("succeeded", "waiting_approval")
    given.refresh_from_db()
    assert (given.uses, given.uses_max) == (2, 2)


@pytest.mark.parametrize("how", ["revoked", "expired", "policy", "giver left", "taken back"])
def test_a_grant_ends(how: str):
    job, given = granted()
    grace = member("grace")
    if how == "revoked":
        with pytest.raises(NotEligible):
            granting.revoke(grant_id=given.pk, by=people.user("stranger"), now=timezone.now())
        granting.revoke(grant_id=given.pk, by=people.user("ada"), now=timezone.now())
    elif how == "expired":
        Grant.objects.filter(pk=given.pk).update(expires_at=timezone.now())
    elif how == "policy":
        publish({"grant_max_s": 3600})
    elif how == "giver left":
        claim(step_of(job, "s0"))
        grace.groups.clear()
    else:
        take_back(given.from_request, grace)
    facts = granting.Facts(
        subject_type="step",
        subject_id="s",
        parent_id=str(job.pk),
        tool="test.note",
        arguments={"text": "fix/2"},
        risk="low",
        target=given.target,
        policy_version_id=str(given.policy_version_id),
        rule=given.rule,
    )
    assert granting.use(facts, now=timezone.now()) is None
    assert Grant.objects.get(pk=given.pk).uses == 0


def test_a_grant_that_says_too_much_is_refused_and_approves_nothing():
    publish({"grant_max_s": 600})
    grace = member("grace")
    request = opened(submit(step("a", "test.note", text="fix/1")))
    for wrong, field in [
        ({"minutes": 11}, "minutes"),
        ({"minutes": 0}, "minutes"),
        ({"uses": 51}, "uses"),
        ({"matcher": {"text": "*"}}, "matcher"),
        ({"matcher": {}}, "matcher"),
        ({"matcher": {"text": "other/*"}}, "matcher"),
    ]:
        with pytest.raises(InvalidGrant) as caught:
            grant(request, grace, **{"minutes": 5, **wrong})
        assert caught.value.field == field
    ApprovalRequest.objects.filter(pk=request.pk).update(risk="high")
    with pytest.raises(InvalidGrant, match="high risk"):
        grant(request, grace, minutes=5)
    assert (state(request), Vote.objects.count()) == ("pending", 0)


# ---- asking back


def test_the_requester_answers_where_there_is_no_agent():
    grace, ada = member("grace"), people.user("ada")
    job, request = asking()
    asked_back = comments.ask_back(request_id=request.pk, by=grace, text="Why?", channel="page", now=timezone.now())
    assert (asked_back.state, Step.objects.filter(job=job).count()) == ("open", 1)
    with pytest.raises(NotEligible):
        comments.answer(comment_id=asked_back.pk, text="So.", answered_by=grace, now=timezone.now())
    answered = comments.answer(comment_id=asked_back.pk, text="So.", answered_by=ada, now=timezone.now())
    assert (answered.state, answered.answer, answered.answered_by) == ("answered", "So.", f"user:{ada.pk}")
    with pytest.raises(AlreadyDecided):
        comments.answer(comment_id=asked_back.pk, text="No.", answered_by=ada, now=timezone.now())
    assert state(request) == "pending"
    assert [event for event, _ in events(request.pk)][-2:] == ["approval.asked_back", "approval.answered"]


@pytest.mark.parametrize("ends", ["succeeded", "failed"])
def test_an_agent_is_asked_by_a_step_that_policy_lets_through(ends: str):
    grace = member("grace")
    publish({}, {"tools": ["llm.*"], "effect": "allow"})
    agent = Agent.objects.create(name="helper", instructions="Help.", tools=["test.*"])
    job = submit(step("a", "test.once", text="x"), agent=agent)
    request = opened(job)
    Job.objects.filter(pk=job.pk).update(kind=Job.Kind.GOAL)
    asked_back = comments.ask_back(request_id=request.pk, by=grace, text="Why?", channel="page", now=timezone.now())
    question = step_of(job, asked.key_of(asked_back))
    assert (question.tool, question.state, question.decision["rule"]) == ("llm.complete", "queued", "rule-2")
    assert "Why?" in question.arguments["prompt"]
    assert asked.answer_all(timezone.now()) == 0
    states.move(question, ends, result={"text": "Since the tests are green."}, error="No model.")
    assert asked.answer_all(timezone.now()) == 1
    asked_back.refresh_from_db()
    if ends == "succeeded":
        assert (asked_back.answer, asked_back.answered_by) == ("Since the tests are green.", "agent:helper")
    else:
        assert asked_back.state == Comment.State.FAILED
        ada = people.user("ada")
        assert (
            comments.answer(comment_id=asked_back.pk, text="So.", answered_by=ada, now=timezone.now()).answer == "So."
        )


# ---- in an emergency, and out of office


def test_a_broken_glass_runs_and_is_reviewed_by_somebody_else():
    root, second = people.user("root", is_superuser=True), people.user("second", is_superuser=True)
    ada = people.user("ada", is_superuser=True, groups=("sre",))
    job, request = asking({"quorum": 2})
    given = {"reason": "Production is down, nobody else is awake.", "channel": "page", "now": timezone.now()}
    with pytest.raises(NotEligible):
        glass.break_glass(request_id=request.pk, by=ada, **given)
    with pytest.raises(NotEligible):
        glass.break_glass(request_id=request.pk, by=member("grace"), **given)
    assert glass.break_glass(request_id=request.pk, by=root, **given).state == "approved"
    assert run_all(job).state == "succeeded"
    assert not glass.to_review(root).exists()
    assert not glass.to_review(ada).exists()
    broken = glass.to_review(second).get()
    said = {"verdict": "justified", "words": "It was down.", "now": timezone.now()}
    for user in (root, ada, member("grace")):
        with pytest.raises(NotEligible):
            glass.review(glass_id=broken.pk, by=user, **said)
    assert glass.review(glass_id=broken.pk, by=second, **said).verdict == "justified"
    assert not glass.to_review(second).exists()
    assert [event for event, _ in events(request.pk)][-3:] == ["glass.broken", "approval.closed", "glass.reviewed"]


def test_who_broke_the_glass_must_still_be_allowed_to_when_it_runs():
    root = people.user("root", is_superuser=True)
    job, request = asking()
    given = {"reason": "Production is down, nobody else is awake.", "channel": "page", "now": timezone.now()}
    glass.break_glass(request_id=request.pk, by=root, **given)
    User.objects.filter(pk=root.pk).update(is_superuser=False)
    run_all(job)
    assert (state(request), tools.RAN) == ("void", [])


def test_a_deputys_vote_is_the_persons():
    grace, alan, edsger = member("grace"), people.user("alan"), member("edsger")
    now = timezone.now()
    given = deputies.delegate(person=grace, deputy=alan, starts_at=now - HOUR, ends_at=now + HOUR, now=now)
    job, request = asking({"quorum": 2})
    approve(request, alan)
    assert Vote.objects.get(request=request).on_behalf_of == grace
    assert standing(request).roles[0].who == ("alan for grace",)
    with pytest.raises(Exception, match="deputy has voted"):
        approve(request, grace)
    assert approve(request, edsger).state == "approved"
    deputies.revoke(delegation_id=given.pk, by=grace, now=timezone.now())
    run_all(job)
    assert (state(request), tools.RAN) == ("void", [])


def test_a_deputy_of_one_group_is_none_of_another():
    grace, alan = member("grace", "sre", "owners"), people.user("alan")
    now, only = timezone.now(), [group("owners")]
    deputies.delegate(person=grace, deputy=alan, starts_at=now - HOUR, ends_at=now + HOUR, groups=only, now=now)
    _, request = asking()
    with pytest.raises(NotEligible):
        approve(request, alan)


def test_a_child_job_waits_for_the_same_judgement():
    """A step that is a job of its own is not born of an approval that counts for nothing any more."""
    grace = member("grace")
    publish({"tools": ["job.*"]}, {"tools": ["llm.*"], "effect": "allow", "name": "models"})
    agent = Agent.objects.create(name="helper", instructions="Help.", tools=["test.*"])
    job = submit(step("a", "job.delegate", goal="Do it."), agent=agent)
    request = opened(job)
    approve(request, grace)
    grace.groups.clear()
    children.sweep(timezone.now())
    assert (state(request), Job.objects.filter(parent=job).count()) == ("void", 0)
    approve(opened(job), member("alan"))
    children.sweep(timezone.now())
    assert Job.objects.filter(parent=job).count() == 1
