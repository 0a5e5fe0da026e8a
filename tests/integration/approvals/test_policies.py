"""Policies in a real database: what they say, how they are published, and that the published ones never change."""

import threading
from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, connection, connections, transaction
from django.utils import timezone

from approvals.defaults import ensure_policies
from approvals.errors import InvalidPolicy, NotADraft
from approvals.models import Policy, PolicyRule, PolicyVersion
from approvals.policy import versions
from approvals.policy.evaluate import Decision, PolicyInput, evaluate
from tests.factories import approvals, people
from tests.factories.log import bodies, events
from tests.factories.policies import publish

pytestmark = pytest.mark.django_db(transaction=True)

PUSH = PolicyInput(
    tool="git.push",
    arguments={"remote": "origin", "branch": "release"},
    effect="once",
    queue="git",
    risk="high",
    agent="helper",
    owner="ada",
    owner_id=1,
    groups=["staff"],
    repository="shop",
    branch="main",
    labels={"env": "prod"},
    job_id="j",
    step_id="s",
    kind="goal",
)


def effect(given: PolicyInput = PUSH, **changes: Any) -> str:
    return evaluate(replace(given, **changes)).effect


def draft(*rules: dict[str, Any], name: str = "house", by=None) -> PolicyVersion:
    policy, _ = Policy.objects.get_or_create(name=name)
    version = versions.new_draft(policy, by=by)
    for place, rule in enumerate(rules, start=1):
        given = {"name": f"rule-{place}", "tools": ["*"], "effect": "allow", **rule}
        PolicyRule.objects.create(version=version, order=place, **given)
    return version


def test_with_no_policy_everything_is_denied():
    decision = evaluate(PUSH)
    assert (decision.effect, decision.policy, decision.rule) == ("deny", "", "")
    assert "No published policy" in decision.reason


def test_what_no_rule_matches_is_denied():
    publish(("files.*", "allow"))
    assert effect() == "deny"
    assert effect(tool="files.read") == "allow"


def test_the_first_matching_rule_decides_and_a_matching_deny_wins_over_all():
    publish(("git.*", "allow"), ("git.push", "ask"), ("*", "deny", "job.repository == 'vault'"))
    assert effect() == "allow"
    assert effect(repository="vault") == "deny"


def test_an_ask_names_its_approvers_quorum_and_rule():
    version = publish(("git.push", "ask"), quorum=2)
    decision = evaluate(PUSH)
    group = Group.objects.get(name="approvers")
    assert (decision.effect, decision.policy, decision.rule) == ("ask", "testing@1", "rule-1")
    assert (decision.approvers_id, decision.quorum) == (group.pk, 2)
    assert decision.policy_version_id == str(version.pk)
    assert Decision.from_json(decision.as_json()) == decision


def test_across_policies_the_stricter_answer_wins():
    publish(("git.*", "allow"), name="a")
    assert effect() == "allow"
    publish(("git.push", "ask"), name="b")
    assert effect() == "ask"
    assert effect(tool="git.commit") == "allow"  # a policy that says nothing of a call does not deny it
    publish(("git.push", "deny"), name="c")
    assert evaluate(PUSH).policy == "c@1"


def test_of_two_that_ask_the_larger_quorum_is_asked():
    publish(("git.push", "ask"), name="a", quorum=1)
    publish(("git.push", "ask"), name="b", quorum=2)
    assert evaluate(PUSH).policy == "b@1"


def test_conditions_see_the_call_and_the_job():
    publish(
        (
            "git.push",
            "allow",
            "call.args.branch != job.branch && job.labels.env == 'prod' && 'staff' in job.groups"
            " && call.risk == 'high' && call.effect == 'once' && job.owner == 'ada' && job.kind == 'goal'",
        )
    )
    assert effect() == "allow"
    assert effect(arguments={"branch": "main"}) == "deny"


@pytest.mark.parametrize(("rule", "expected"), [("allow", "deny"), ("ask", "ask"), ("deny", "deny")])
def test_a_condition_that_fails_fails_closed_and_says_so(rule, expected):
    publish(("git.push", rule, "call.args.missing == true"))
    decision = evaluate(PUSH)
    assert decision.effect == expected
    assert "could not be evaluated" in decision.reason


def test_an_ask_whose_condition_fails_is_not_walked_past_to_an_allow():
    publish(("git.push", "ask", "call.args.missing == true"), ("git.*", "allow"))
    assert effect() == "ask"


def test_arguments_that_no_condition_can_read_are_denied():
    publish(("*", "allow", "call.tool != ''"))
    assert effect(arguments={"n": object()}) == "deny"


def test_publishing_puts_the_new_in_force_at_once_and_retires_the_old():
    approvals.approvers("grace")
    first = versions.publish(draft({"effect": "allow"}).pk, by=None, now=timezone.now())
    assert evaluate(PUSH).policy == "house@1"
    by = people.user("root")
    second = versions.new_draft(first.policy, source=first, by=by)
    second.rules.update(effect="deny")
    assert effect() == "allow"
    versions.publish(second.pk, by=by, now=timezone.now())
    first.refresh_from_db()
    assert (first.status, evaluate(PUSH).effect, evaluate(PUSH).policy) == ("retired", "deny", "house@2")
    assert events(first.pk) == [("policy.drafted", "ok"), ("policy.published", "ok"), ("policy.retired", "ok")]
    (body,) = bodies(second.pk, "policy.published")
    assert body["actor"]["id"] == str(by.pk)
    assert len(body["context"]["rules_sha256"]) == 64
    versions.retire(second.pk, by=by)
    assert effect() == "deny"
    assert evaluate(PUSH).policy == ""


def test_a_publication_on_another_connection_is_seen_by_the_next_evaluation():
    publish(("git.*", "allow"))
    assert effect() == "allow"
    errors: list[BaseException] = []

    def elsewhere() -> None:
        try:
            publish(("git.*", "deny"))
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(60)
    assert errors == []
    assert effect() == "deny"


def test_rules_are_read_once_and_then_only_the_ids_are_checked(django_assert_num_queries):
    publish(("git.*", "allow"))
    evaluate(PUSH)
    with django_assert_num_queries(1):
        evaluate(PUSH)


def test_a_publication_that_is_rolled_back_was_never_in_force():
    publish(("git.*", "allow"))
    assert effect() == "allow"
    with transaction.atomic():
        publish(("git.*", "deny"))
        assert effect() == "deny"  # inside, it is seen
        transaction.set_rollback(True)
    assert effect() == "allow"


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"condition": "call.risk =="}, "line 1, column"),
        ({"condition": "user.name == 'x'"}, "Unknown name"),
        ({"tools": []}, "names no tool"),
        ({"tools": ["GIT *"]}, "no pattern"),
        ({"effect": "ask", "quorum": 2}, "has 1 active member"),
    ],
)
def test_what_could_never_work_is_not_published(rule, words):
    approvals.approvers("grace")
    if rule.get("effect") == "ask":
        rule = {**rule, "approvers": Group.objects.get(name="approvers")}
    version = draft(rule)
    with pytest.raises(InvalidPolicy) as caught:
        versions.publish(version.pk, by=None, now=timezone.now())
    ((name, message),) = caught.value.problems
    assert name == "rule-1"
    assert words in message
    version.refresh_from_db()
    assert version.status == "draft"
    assert events(version.pk, prefix="policy.published") == []


def test_an_empty_version_is_not_published():
    with pytest.raises(InvalidPolicy):
        versions.publish(draft().pk, by=None, now=timezone.now())


def test_inactive_members_do_not_count_for_the_quorum():
    grace, alan = approvals.approvers("grace", "alan")
    type(alan).objects.filter(pk=alan.pk).update(is_active=False)
    group = Group.objects.get(name="approvers")
    with pytest.raises(InvalidPolicy):
        versions.publish(draft({"effect": "ask", "approvers": group, "quorum": 2}).pk, by=grace, now=timezone.now())


def test_a_version_is_published_once():
    version = versions.publish(draft({}).pk, by=None, now=timezone.now())
    with pytest.raises(NotADraft):
        versions.publish(version.pk, by=None, now=timezone.now())
    versions.retire(version.pk, by=None)
    with pytest.raises(NotADraft):
        versions.publish(version.pk, by=None, now=timezone.now())
    with pytest.raises(NotADraft):
        versions.retire(version.pk, by=None)


@pytest.mark.parametrize("status", ["published", "retired"])
def test_published_and_retired_versions_and_their_rules_never_change(status):
    version = versions.publish(draft({}).pk, by=None, now=timezone.now())
    if status == "retired":
        versions.retire(version.pk, by=None)
    rows = PolicyVersion.objects.filter(pk=version.pk)
    rules = PolicyRule.objects.filter(version=version)
    other = draft({"name": "other"})
    tries = [
        lambda: rows.update(notes="changed"),
        lambda: rows.update(number=99),
        lambda: rows.update(status="draft"),
        lambda: rows.update(status="retired", notes="changed"),
        lambda: rows._raw_delete(rows.db),
        lambda: rules.update(effect="deny"),
        lambda: rules.update(version=other),
        lambda: rules.delete(),
        lambda: PolicyRule.objects.filter(version=other).update(version=version),
        lambda: PolicyRule.objects.create(version=version, order=9, name="late", tools=["*"], effect="allow"),
        lambda: Policy.objects.filter(pk=version.policy_id).update(name="another-name"),
    ]
    for attempt in tries:
        with pytest.raises(IntegrityError), transaction.atomic():
            attempt()
    version.refresh_from_db()
    assert (version.status, version.rules.count()) == (status, 1)


def test_drafts_change_and_go():
    version = draft({}, {})
    version.rules.update(effect="deny")
    PolicyVersion.objects.filter(pk=version.pk).update(notes="better")
    PolicyVersion.objects.get(pk=version.pk).delete()
    assert not PolicyRule.objects.exists()


def test_an_edit_that_is_under_way_is_in_the_version_or_refused():
    """Publishing waits for an edit's transaction: no rule changes behind a publication's back."""
    version = draft({})
    edited, published = threading.Event(), threading.Event()
    outcome: list[str] = []

    def publisher() -> None:
        try:
            edited.wait(60)
            versions.publish(version.pk, by=None, now=timezone.now())
            published.set()
        finally:
            connections.close_all()

    thread = threading.Thread(target=publisher)
    thread.start()
    with transaction.atomic():
        version.rules.update(effect="deny")
        edited.set()
        deadline = timezone.now().timestamp() + 10
        while timezone.now().timestamp() < deadline:  # until the publisher waits for our lock
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
                if cursor.fetchone()[0]:
                    break
        outcome.append("committed" if not published.is_set() else "too late")
    thread.join(60)
    assert outcome == ["committed"]
    assert published.is_set()
    assert effect() == "deny"


def test_the_default_policy_frees_the_workspace_and_asks_for_what_leaves_it():
    approvals.approvers("grace")
    group = Group.objects.get(name="approvers")
    version = ensure_policies(group)
    assert version is not None and str(version) == "default@1" and version.status == "published"
    allowed = ["llm.think", "workspace.prepare", "files.write", "git.status", "git.commit", "git.tag", "human.ask"]
    for tool in allowed:
        assert effect(tool=tool, risk="medium") == "allow", tool
    assert effect(tool="shell.exec", risk="medium") == "allow"
    assert effect(tool="shell.script", risk="low") == "allow"
    for tool in ("shell.exec", "git.push", "git.push_tag", "git.merge", "git.rebase"):
        decision = evaluate(replace(PUSH, tool=tool))
        assert (decision.effect, decision.approvers_id) == ("ask", group.pk), tool
    assert effect(tool="mcp.server.anything") == "ask"
    assert effect(tool="other.anything") == "deny"
    assert effect(tool="git.unknown") == "deny"
    assert ensure_policies(group) is None
    assert PolicyVersion.objects.count() == 1


def test_the_default_policy_is_not_published_to_a_group_of_nobody():
    with pytest.raises(InvalidPolicy):
        ensure_policies(Group.objects.create(name="empty"))
    assert not Policy.objects.exists()
