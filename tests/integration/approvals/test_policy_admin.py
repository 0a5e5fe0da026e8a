"""The back office's pages of policies: rules one by one, trials, two people, packs, YAML."""

from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from approvals.models import Policy, PolicyRule, PolicyVersion
from approvals.policy import packs, rules, shadow, versions, yamlform
from tests.factories import people
from tests.factories.log import events
from tests.integration.approvals.recording import call, decided, played
from tests.integration.approvals.test_policy_lifecycle import draft, publish

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(people.user("root", is_staff=True, is_superuser=True))
    return client


def staff(name: str, *codes: str) -> Client:
    user = people.user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codes, content_type__app_label="approvals"))
    client = Client()
    client.force_login(User.objects.get(pk=user.pk))
    return client


def page(version: PolicyVersion, name: str) -> str:
    suffix = "change" if name == "change" else f"{name}_page"
    return reverse(f"admin:approvals_policyversion_{suffix}", args=[version.pk])


def rule_page(rule: PolicyRule, name: str = "change") -> str:
    return reverse(f"admin:approvals_policyrule_{name}", args=[rule.pk])


def shown(client: Client, path: str, **query: str) -> str:
    answer = client.get(path, query)
    assert answer.status_code == 200
    return answer.content.decode()


def act(client: Client, version: PolicyVersion, name: str, **data: str) -> Any:
    path = reverse(f"admin:approvals_policyversion_{name}", args=[version.pk])
    return client.post(path, {"_form_submitted": "on", **data})


def _empty(value: Any) -> bool:
    return value is None or value is False or value in ("", [])


def form_of(rule: PolicyRule, client: Client, **changes: Any) -> dict[str, Any]:
    """What a browser would post from the rule's page, with changes."""
    form = client.get(rule_page(rule)).context["adminform"].form
    data = {name: form[name].value() for name in form.fields if not _empty(form[name].value())}
    roles = {f"roles-{name}": "0" for name in ("TOTAL_FORMS", "INITIAL_FORMS", "MIN_NUM_FORMS")}
    return data | roles | {"roles-MAX_NUM_FORMS": "9"} | changes


FULL = {
    "match": {
        "branches": ["main", "release/*"],
        "risks": ["high"],
        "risk_at_least": 40,
        "first_use": True,
        "labels": {"env": ["production", "staging"]},
        "time": {"days": ["mon", "fri"], "from": "09:00", "to": "17:00", "zone": "UTC", "outside": True},
        "spent": {"per": "owner", "hours": 24, "tools": ["git.*"], "calls": 10},
        "after": ["private"],
        "carries": ["egress"],
        "exposed": ["untrusted", "private"],
        "unplanned": False,
        "tainted": True,
    },
    "constraints": {
        "profile": "build",
        "network": "none",
        "limits": {"timeout_s": 60},
        "dry_run": True,
        "gives": ["x"],
    },
}


def test_a_rules_page_shows_its_matcher_as_fields_and_saves_the_same(admin):
    version = draft({"tools": ["git.push", "git.tag"], **FULL})
    rule = version.rules.get()
    before = rules.sha256(version)
    answer = admin.post(rule_page(rule), form_of(rule, admin))
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    assert answer["Location"] == page(version, "change")
    assert rules.sha256(version) == before
    admin.post(
        rule_page(rule), form_of(rule, admin, match_owners="ada, bob", match_branches="", how_network="a.example")
    )
    rule.refresh_from_db()
    assert rule.match == {
        **{name: v for name, v in FULL["match"].items() if name != "branches"},
        "owners": ["ada", "bob"],
    }
    assert rule.constraints["network"] == ["a.example"]


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"condition": "call.risk ==="}, "condition", "line 1, column 13"),
        ({"condition": "true &&\n jbo.id == '1'"}, "condition", "line 2, column 2"),
        ({"tools": "GIT PUSH"}, "tools", "no pattern of tool names"),
        ({"effect": "ask"}, "approvers", "names whom"),
        ({"match_from": "9"}, "match_from", "an hour such as 09:30"),
        ({"match_zone": "Mars/Base", "match_days": ["mon"]}, "match_zone", "time zone"),
        ({"match_spent_per": "owner"}, "match_spent_hours", "is needed"),
        ({"how_network": "http://x"}, "how_network", "host names"),
        ({"name": "rule-2"}, "name", "Another rule has this name"),
        ({"expires_s": "0"}, "expires_s", "Must be from 1"),
    ],
)
def test_what_is_wrong_stands_at_its_field(admin, changes, field, words):
    version = draft({}, {})
    rule = version.rules.first()
    assert rule is not None
    answer = admin.post(rule_page(rule), form_of(rule, admin, **changes))
    assert answer.status_code == 200
    assert words in " ".join(answer.context["adminform"].form.errors[field])


def test_rules_are_added_moved_and_deleted_and_a_proposal_is_taken_back(admin, settings):
    settings.POLICY_SECOND_PERSON = True
    version = draft({}, {})
    first, second = version.rules.order_by("order")
    versions.propose(version.pk, by=people.user("ada"), now=timezone.now())
    mover = reverse("admin:approvals_policyversion_move", args=[version.pk, second.pk])
    assert admin.get(mover).status_code == 404
    admin.post(mover, {"to": "up"})
    assert [rule.pk for rule in rules.of(version)] == [second.pk, first.pk]
    version.refresh_from_db()
    assert version.proposed_sha256 == ""
    add = f"{reverse('admin:approvals_policyrule_add')}?version={version.pk}"
    data = form_of(first, admin, name="third", tools="shell.*", effect="deny")
    assert admin.post(add, data).status_code == 302
    assert [rule.name for rule in rules.of(version)] == ["rule-2", "rule-1", "third"]
    assert admin.post(rule_page(first, "delete"), {"post": "yes"})["Location"] == page(version, "change")
    assert version.rules.count() == 2
    assert admin.get(reverse("admin:approvals_policyrule_add")).status_code == 302


def test_rules_of_published_versions_are_looked_at(admin):
    version = publish(draft({"tools": ["git.*"], **FULL}))
    rule = version.rules.get()
    assert "git.*" in shown(admin, rule_page(rule))
    assert admin.post(rule_page(rule), {"name": "x"}).status_code == 403
    assert admin.post(rule_page(rule, "delete"), {"post": "yes"}).status_code == 403
    mover = reverse("admin:approvals_policyversion_move", args=[version.pk, rule.pk])
    assert admin.post(mover, {"to": "up"}).status_code == 403
    for name in ("change", "simulate", "compare", "source"):
        assert str(version) in shown(admin, page(version, name))


def test_rarer_fields_stand_open_where_a_rule_uses_them(admin):
    version = draft({"match": {"time": {"days": ["mon"], "zone": "UTC"}}}, {})
    first, second = version.rules.order_by("order")

    def closed(rule: PolicyRule) -> list[str]:
        sets = admin.get(rule_page(rule)).context["adminform"]
        return [one.name for one in sets if "collapse" in one.classes]

    assert "Times, budgets, sequences" in closed(second)
    assert "Times, budgets, sequences" not in closed(first)


def test_simulate_shows_every_rule_and_why(admin):
    version = draft({"name": "reads", "tools": ["files.*"]}, {"name": "ours", "match": {"owners": ["ada"]}})
    path = page(version, "simulate")
    said = shown(admin, path, tool="git.push", arguments='{"branch": "x"}', owner="bob")
    assert "no rule matches" in said
    assert "owners is bob, wanted ada" in said
    assert "pol-decides" in shown(admin, path, tool="git.push", arguments='{"branch": "x"}', owner="ada")
    asking = draft({"effect": "ask", "approvers": Group.objects.get_or_create(name="sre")[0]}, name="asks")
    assert "1 of sre must agree." in shown(
        admin, page(asking, "simulate"), tool="git.push", arguments='{"branch": "x"}'
    )
    assert "This is no JSON" in shown(admin, path, tool="git.push", arguments="{")
    assert "branches" in shown(admin, path, tool="git.push", arguments='{"branches": 1}')
    assert "There is no such step" in shown(admin, path, step="nothing")
    said = shown(admin, path, tool="git.push", arguments='{"branch": "x"}', now="9999-12-31T23:59:59-12:00")
    assert "years from 1971" in said
    assert "Null characters" in shown(admin, path, tool="git.push", arguments='{"branch": "x"}', groups="a\x00")
    assert "This is no JSON" in shown(admin, path, tool="git.push", arguments="[" * 100_000)
    with played(decided(7, "deny", call("files.read"))):
        assert "pol-decides" in shown(admin, path, step="000007")


def test_from_backtest_to_force_by_two_people(settings):
    settings.POLICY_SECOND_PERSON = True
    writes = ("view_policyversion", "change_policyversion", "add_policyversion")
    ada, bob = staff("ada", *writes), staff("bob", "view_policyversion", "publish_policyversion")
    version = draft({"effect": "allow"})
    with played(decided(1, "deny")):
        assert "by a backtest first" in shown(ada, page(version, "change"))
        assert bob.post(page(version, "backtest"), {"days": "30"}).status_code == 403
        ada.post(page(version, "backtest"), {"days": "30"})
        assert "deny-&gt;allow: 1" in shown(ada, page(version, "backtest"))
        assert ada.post(page(version, "backtest"), {"note": "fine"}).status_code == 403
        act(ada, version, "propose")
        assert "acknowledge" in shown(ada, page(version, "change"))
        bob.post(page(version, "backtest"), {"note": "wanted"})
        act(ada, version, "propose")
        assert act(ada, version, "publish").status_code == 403
        assert "Proposed by ada; you may publish it." in shown(bob, page(version, "change"))
        act(bob, version, "publish")
    version.refresh_from_db()
    assert (version.status, str(version.published_by)) == ("published", "bob")


def test_back_to_an_earlier_version_by_a_button(admin):
    first = publish(draft({"effect": "deny"}, {}))
    loose = versions.new_draft(first.policy, source=first, by=None)
    loose.rules.filter(effect="deny").delete()
    publish(loose)
    assert act(admin, first, "roll_back").status_code == 200  # it wants a reason
    act(admin, first, "roll_back", reason="too loose")
    newest = PolicyVersion.objects.get(number=3)
    assert (newest.status, newest.notes) == ("published", "Back to version 1. too loose")
    assert act(admin, newest, "roll_back", reason="x").status_code == 403


def test_a_shadow_is_started_and_its_differences_listed(admin):
    version = draft({"effect": "allow"})
    with played() as source:
        admin.post(page(version, "shadow"), {"what": "start"})
        source.add(decided(1, "deny"))
        shadow.run_due(timezone.now())
    said = shown(admin, page(version, "shadow"))
    assert "git push origin agent/x" in said and "1 differ" in said
    admin.post(page(version, "shadow"), {"what": "stop"})
    assert events(version.pk, prefix="policy.shadowed")[-1] == ("policy.shadowed", "stopped")


def test_a_draft_is_edited_as_yaml_with_its_lines(admin):
    version = draft({"name": "one", "tools": ["git.*"]})
    text = yamlform.dump(version)
    wrong = admin.post(page(version, "source"), {"source": text.replace("effect: allow", "effect: maybe")})
    assert "line 6, column 13: The effect is allow, ask or deny." in wrong.content.decode()
    admin.post(page(version, "source"), {"source": text.replace("effect: allow", "effect: deny")})
    assert version.rules.get().effect == "deny"
    assert ("policy.drafted", "edited") in events(version.pk)
    other = admin.post(page(version, "source"), {"source": text.replace("policy: house", "policy: other")})
    assert "This is a draft of" in other.content.decode()
    loaded = admin.get(page(version, "source"), {"download": ""})
    assert loaded["Content-Disposition"] == 'attachment; filename="house-1.yaml"'
    published = publish(version)
    assert admin.post(page(published, "source"), {"source": text}).status_code == 403


def test_differences_between_versions_are_shown(admin):
    first = publish(draft({"name": "one"}))
    second = draft({"name": "one", "tools": ["git.*"]}, {"name": "<b>", "effect": "deny"})
    said = shown(admin, page(second, "compare"))
    assert f"From {first} to {second}" in said and "pol-added" in said
    assert "<b>" not in said.split("<h2>From")[1]
    assert "There is no other version" in shown(admin, page(draft({}, name="new"), "compare"))


def test_packs_and_yaml_become_drafts(admin):
    listed = shown(admin, reverse("admin:approvals_policy_packs_page"))
    assert all(pack.name in listed for pack in packs.every())
    answer = admin.post(reverse("admin:approvals_policy_packs_page"), {"pack": "release-manager"})
    assert "There is no group" in answer.content.decode()
    answer = admin.post(
        reverse("admin:approvals_policy_packs_page"), {"pack": "release-manager", "create_groups": "on"}
    )
    assert answer["Location"] == page(PolicyVersion.objects.get(policy__name="release-manager"), "change")
    assert Group.objects.filter(name="sre").exists()
    path = reverse("admin:approvals_policy_import_page")
    assert "line 1" in admin.post(path, {"source": "rules: 3"}).content.decode()
    admin.post(path, {"source": "policy: mine\nrules: [{name: a, tools: ['*'], effect: deny}]\n"})
    assert Policy.objects.get(name="mine").versions.get().status == "draft"


def test_pages_are_for_those_who_may_see_policies():
    version = draft({})
    nobody, reader = staff("nobody"), staff("reader", "view_policyversion", "view_policy")
    for name in ("simulate", "backtest", "shadow", "compare", "source"):
        assert nobody.get(page(version, name)).status_code == 403
        assert reader.get(page(version, name)).status_code == 200
        assert Client().get(page(version, name)).status_code == 302
    assert reader.post(page(version, "shadow"), {"what": "start"}).status_code == 403
    assert reader.post(page(version, "source"), {"source": "x"}).status_code == 403
    for name in ("packs", "import"):
        assert reader.get(reverse(f"admin:approvals_policy_{name}_page")).status_code == 403
