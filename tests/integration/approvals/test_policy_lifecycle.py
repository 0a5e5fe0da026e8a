"""From a draft to what is in force: tried, proposed, published by two people, rolled back."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.utils import timezone

from approvals.errors import (
    BacktestNeeded,
    InvalidPolicy,
    NotAcknowledged,
    NotADraft,
    NotProposed,
    SamePerson,
)
from approvals.models import Policy, PolicyRule, PolicyVersion, RuleApprovers
from approvals.policy import backtest, comparing, rollback, rules, versions
from tests.factories import approvals, people
from tests.factories.log import bodies, events
from tests.integration.approvals.recording import call, decided, played

pytestmark = pytest.mark.django_db


def draft(*given: dict[str, Any], name: str = "house") -> PolicyVersion:
    policy, _ = Policy.objects.get_or_create(name=name)
    version = versions.new_draft(policy, by=None)
    for place, rule in enumerate(given, start=1):
        PolicyRule.objects.create(
            version=version, order=place, **{"name": f"rule-{place}", "tools": ["*"], "effect": "allow", **rule}
        )
    return version


def publish(version: PolicyVersion, by=None, **more: Any) -> PolicyVersion:
    return versions.publish(version.pk, by=by, now=timezone.now(), **more)


def tried(version: PolicyVersion, days: int = 30) -> dict[str, Any]:
    backtest.start(version.pk, days=days, by=None, now=timezone.now())
    assert backtest.run(version.pk)
    version.refresh_from_db()
    return version.backtest


# two people


def test_publishing_takes_two_people_and_exactly_what_was_proposed(settings):
    settings.POLICY_SECOND_PERSON = True
    ada, bob = people.user("ada"), people.user("bob")
    version = draft({"effect": "allow"})
    with pytest.raises(NotProposed):
        publish(version, ada)
    versions.propose(version.pk, by=ada, now=timezone.now())
    with pytest.raises(SamePerson):
        publish(version, ada)
    version.rules.update(effect="deny")
    with pytest.raises(NotProposed, match="changed"):
        publish(version, bob)
    versions.propose(version.pk, by=ada, now=timezone.now())
    assert publish(version, bob).status == "published"
    (body,) = bodies(version.pk, "policy.published")
    assert (body["actor"]["id"], body["context"]["proposed_by"]) == (str(bob.pk), ada.pk)
    assert [found for found in events(version.pk) if found[0] == "policy.proposed"] == [("policy.proposed", "ok")] * 2


def test_an_edit_takes_the_proposal_back_and_says_so(settings):
    settings.POLICY_SECOND_PERSON = True
    ada = people.user("ada")
    version = draft({"effect": "allow"})
    versions.propose(version.pk, by=ada, now=timezone.now())
    facts = rules.rules_json(version)
    facts[0]["effect"] = "deny"
    versions.replace_rules(version.pk, facts, by=ada)
    version.refresh_from_db()
    assert (version.proposed_by, version.proposed_sha256) == (None, "")
    assert ("policy.proposed", "edited") in events(version.pk)
    versions.propose(version.pk, by=ada, now=timezone.now())
    versions.withdraw(version.pk, by=ada)
    assert ("policy.proposed", "withdrawn") in events(version.pk)
    with pytest.raises(NotProposed):
        versions.withdraw(version.pk, by=ada)


def test_the_rules_that_somebody_looked_at_are_the_ones_that_are_published():
    version = draft({"effect": "allow"})
    seen = rules.sha256(version)
    version.rules.update(tools=["git.*"])
    with pytest.raises(NotProposed, match="since you looked"):
        publish(version, people.user("ada"), digest=seen)


def test_every_field_of_a_rule_counts_in_its_hash_and_is_copied():
    group = Group.objects.create(name="sre")
    version = draft({"effect": "allow"})
    rule = version.rules.get()
    changes = {
        "match": {"owners": ["ada"]},
        "constraints": {"profile": "read"},
        "execution_expires_s": 60,
        "grant_max_s": 60,
        "second_factor": True,
        "escalate_to": group,
        "approvers": group,
        "condition": "call.risk == 'low'",
        "order": 7,
    }
    seen = {rules.sha256(version)}
    for name, value in changes.items():
        setattr(rule, name, value)
        rule.save()
        seen.add(rules.sha256(version))
    RuleApprovers.objects.create(rule=rule, group=group, count=2)
    seen.add(rules.sha256(version))
    assert len(seen) == len(changes) + 2
    copy = versions.new_draft(version.policy, source=version, by=None)
    assert rules.sha256(copy) == rules.sha256(version)


# quorums


def asking(quorum: int = 1, *roles: tuple[str, int], group: str = "sre", **more: Any) -> PolicyVersion:
    asked, _ = Group.objects.get_or_create(name=group)
    version = draft({"effect": "ask", "approvers": asked, "quorum": quorum, **more})
    for name, count in roles:
        other, _ = Group.objects.get_or_create(name=name)
        RuleApprovers.objects.create(rule=version.rules.get(), group=other, count=count)
    return version


def test_one_sre_and_one_owner_must_be_two_people():
    both = people.user("both", groups=("sre", "owners"))
    version = asking(1, ("owners", 1))
    with pytest.raises(InvalidPolicy) as refused:
        publish(version)
    assert "all different people" in refused.value.problems[0][1]
    people.user("other", groups=("owners",))
    assert publish(version).status == "published"
    assert both.is_active


def test_people_are_matched_to_roles_not_taken_as_they_come():
    people.user("a", groups=("sre", "owners"))
    people.user("b", groups=("sre",))
    people.user("c", groups=("owners", "leads"))
    assert versions.problems(asking(1, ("owners", 1), ("leads", 1))) == []
    people.user("c").groups.clear()
    assert versions.problems(asking(2, ("owners", 1)))


def test_a_quorum_of_people_who_are_not_active_is_never_reached():
    people.user("gone", groups=("sre",), is_active=False)
    ((_, message),) = versions.problems(asking())
    assert "nobody active" in message


def test_who_is_asked_about_their_own_calls_only_can_never_agree():
    people.user("ada", groups=("sre",))
    ((_, message),) = versions.problems(asking(match={"owners": ["ada"]}))
    assert "nobody approves their own" in message
    people.user("bob", groups=("sre",))
    assert versions.problems(asking(match={"owners": ["ada"]})) == []
    assert [name for name, _ in rules.warnings(asking(2))] == ["rule-1", "rule-1"]


# backtests


def test_every_flip_is_counted_grouped_and_shown():
    decisions = [decided(place, "deny", call(arguments={"branch": f"b{place}"})) for place in range(30)]
    decisions += [decided(100, "allow", call("files.read")), decided(101, "ask", call("git.tag"))]
    decisions += [decided(102, "allow", call("shell.exec")), decided(103, "deny", call("git.merge"), hours_ago=99)]
    publish(draft({"tools": ["files.*", "shell.*"]}, {"tools": ["git.tag"]}))
    with played(*decisions):
        version = draft(
            {"tools": ["git.push"]}, {"tools": ["files.*"], "effect": "deny"}, {"tools": ["shell.*"]},
            {"tools": ["git.merge"]},
        )  # fmt: skip
        state = tried(version, days=2)
    assert state["counts"] == {"deny->allow": 30, "allow->deny": 1, "ask->deny": 1}
    assert (state["compared"], state["same"], state["state"]) == (33, 1, "done")
    first = state["groups"][0]
    assert (first["flip"], first["count"], first["tool"]) == ("deny->allow", 30, "git.push")
    assert (first["was"], first["now"]) == ("old@1 then", "house@2 rule-1")
    assert len(first["examples"]) == backtest.EXAMPLES
    assert first["examples"][0]["command"] == "git push origin agent/x"


def test_a_denied_call_that_would_run_must_be_answered_for_by_name():
    ada = people.user("ada")
    with played(decided(1, "deny")):
        version = draft({"effect": "allow"})
        with pytest.raises(BacktestNeeded):
            publish(version, ada)
        tried(version)
        with pytest.raises(NotAcknowledged, match="1 call that was denied"):
            publish(version, ada)
        with pytest.raises(ValueError, match="why"):
            backtest.acknowledge(version.pk, by=ada, note=" ", now=timezone.now())
        backtest.acknowledge(version.pk, by=ada, note="wanted since the outage", now=timezone.now())
        publish(version, ada)
    (body,) = bodies(version.pk, "policy.acknowledged")
    assert (body["actor"]["id"], body["context"]["flips"]) == (str(ada.pk), 1)


def test_a_changed_draft_needs_a_new_backtest_and_a_new_answer():
    ada = people.user("ada")
    with played(decided(1, "deny")):
        version = draft({"effect": "allow"})
        tried(version)
        backtest.acknowledge(version.pk, by=ada, note="fine", now=timezone.now())
        version.rules.update(tools=["git.*"])
        with pytest.raises(BacktestNeeded):
            publish(version, ada)
        with pytest.raises(BacktestNeeded):
            backtest.acknowledge(version.pk, by=ada, note="fine", now=timezone.now())
        tried(version)
        with pytest.raises(NotAcknowledged):
            publish(version, ada)


def test_a_backtest_of_one_day_or_of_last_month_is_not_enough():
    ada = people.user("ada")
    with played(decided(1, "allow")):
        version = draft({"effect": "allow"})
        tried(version, days=1)
        with pytest.raises(BacktestNeeded):
            publish(version, ada)
        tried(version)
        with pytest.raises(BacktestNeeded):
            versions.publish(version.pk, by=ada, now=timezone.now() + timedelta(days=8))
        publish(version, ada)


def test_what_the_version_in_force_allows_already_is_not_the_drafts_doing():
    publish(draft({"effect": "allow"}))
    with played(decided(1, "deny")):
        state = tried(draft({"effect": "allow"}, {"effect": "deny", "tools": ["shell.*"]}))
    assert (state["counts"], state["already"]) == ({}, {"deny->allow": 1})


def test_a_draft_is_tried_beside_the_other_policies_in_force():
    publish(draft({"effect": "deny", "tools": ["git.push"]}, name="strict"))
    with played(decided(1, "deny")):
        assert tried(draft({"effect": "allow"}))["counts"] == {}


def test_what_a_freeze_window_decided_is_counted_apart():
    with played(decided(1, "deny", policy="freeze")):
        state = tried(draft({"effect": "allow"}))
    assert (state["counts"], state["frozen"]) == ({}, 1)


def test_it_goes_in_slices_that_anybody_may_go_on_with(monkeypatch):
    monkeypatch.setattr(backtest, "PAGE", 10)
    with played(*(decided(place, "deny") for place in range(35))) as source:
        version = draft({"effect": "allow"})
        backtest.start(version.pk, days=3, by=None, now=timezone.now())
        assert not backtest.run(version.pk, seconds=0)
        version.refresh_from_db()
        assert (version.backtest["state"], version.backtest["compared"], version.backtest["total"]) == (
            "running",
            10,
            35,
        )
        assert backtest.run_due(timezone.now(), seconds=60) == 1
        assert backtest.run_due(timezone.now()) == 0
        version.refresh_from_db()
    assert (version.backtest["state"], version.backtest["compared"], source.pages) == ("done", 35, 4)


def test_an_edit_ends_a_backtest_that_is_under_way():
    with played(decided(1, "deny")):
        version = draft({"effect": "allow"})
        backtest.start(version.pk, days=3, by=None, now=timezone.now())
        version.rules.update(effect="ask", approvers=Group.objects.create(name="sre"))
        assert backtest.run(version.pk)
        version.refresh_from_db()
    assert version.backtest["state"] == "stale"


# rolling back


def test_back_to_something_plainly_stricter_takes_one_person_and_one_step(settings):
    settings.POLICY_SECOND_PERSON = True
    ada = people.user("ada")
    strict = publish(draft({"tools": ["git.*"], "effect": "deny"}, {"effect": "allow", "tools": ["files.*"]}))
    loose = versions.new_draft(strict.policy, source=strict, by=None)
    loose.rules.filter(effect="deny").delete()
    publish(loose)
    with played(decided(1, "deny", call("files.read"))):
        back = rollback.roll_back(strict.pk, by=ada, reason="too loose", now=timezone.now())
    assert (back.version.status, back.missing) == ("published", "")
    assert rules.sha256(back.version) == rules.sha256(strict)
    assert back.version.notes == "Back to version 1. too loose"


def test_back_to_something_looser_takes_what_every_publication_takes(settings):
    settings.POLICY_SECOND_PERSON = True
    ada, bob = people.user("ada"), people.user("bob")
    loose = publish(draft({"effect": "allow"}))
    publish(draft({"effect": "deny"}))
    with played(decided(1, "deny")):
        back = rollback.roll_back(loose.pk, by=ada, reason="", now=timezone.now())
        assert back.version.status == "draft"
        assert "acknowledge" in back.missing
        backtest.acknowledge(back.version.pk, by=ada, note="the outage", now=timezone.now())
        versions.propose(back.version.pk, by=ada, now=timezone.now())
        with pytest.raises(SamePerson):
            publish(back.version, ada)
        publish(back.version, bob)
    with pytest.raises(NotADraft):
        rollback.roll_back(back.version.pk, by=ada, reason="", now=timezone.now())


def test_back_with_nothing_on_record_and_one_person_enough_is_one_step(settings):
    loose = publish(draft({"effect": "allow"}))
    publish(draft({"effect": "deny"}))
    with played():
        back = rollback.roll_back(loose.pk, by=people.user("ada"), reason="", now=timezone.now())
    assert (back.version.status, back.missing) == ("published", "")


def test_a_rollback_to_a_group_without_members_is_refused():
    (grace,) = approvals.approvers("grace", group="sre")
    asked = publish(asking())
    publish(draft({"effect": "deny"}))
    grace.groups.clear()
    back = rollback.roll_back(asked.pk, by=people.user("ada"), reason="", now=timezone.now())
    assert (back.version.status, bool(back.missing)) == ("draft", True)


# differences


def test_a_comparison_names_rules_fields_and_places():
    old = draft({"name": "a"}, {"name": "b"}, {"name": "c"})
    new = draft({"name": "c"}, {"name": "a", "tools": ["git.*"]}, {"name": "d", "effect": "deny"})
    found = {(one.kind, one.rule, one.field) for one in comparing.changes(old, new)}
    assert ("removed", "b", "") in found and ("added", "d", "") in found and ("changed", "a", "tools") in found
    assert len([one for one in found if one[0] == "moved"]) == 1
    assert "-  - name: b" in comparing.text(old, new)
