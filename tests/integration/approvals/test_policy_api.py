"""Policies by REST: strict, by permission and scope, with problems that say what is wrong and where."""

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from agents.tokens import create_token
from approvals.models import PolicyVersion
from approvals.policy import shadow
from audit.actor import Actor
from tests.factories import people
from tests.integration.approvals.recording import decided, played
from tests.integration.approvals.test_policy_lifecycle import draft, publish

pytestmark = pytest.mark.django_db
YAML = "policy: house\nrules:\n  - {name: files, tools: ['files.*'], effect: allow}\n"
ALL = ("view_policyversion", "add_policyversion", "change_policyversion", "publish_policyversion")
URL = "/api/v1/policies"


def client(name: str, *codes: str) -> Client:
    user = people.user(name)
    user.user_permissions.set(Permission.objects.filter(codename__in=codes, content_type__app_label="approvals"))
    made = Client()
    made.force_login(User.objects.get(pk=user.pk))
    return made


def post(by: Client, path: str, body: dict[str, Any] | None = None, *, code: int = 200, method: str = "post") -> Any:
    answer = getattr(by, method)(path, body or {}, content_type="application/json")
    assert answer.status_code == code, answer.content
    return answer.json() if answer.content else None


def test_from_yaml_to_force_by_two_people(settings):
    settings.POLICY_SECOND_PERSON = True
    ada, bob = client("ada", *ALL), client("bob", *ALL)
    made = post(ada, "/api/v1/policy-imports", {"yaml": YAML}, code=201)
    one = f"{URL}/house/versions/1"
    assert (made["number"], made["status"], made["missing"][0][:19]) == (1, "draft", "Publishing takes tw")
    with played(decided(1, "deny")):
        assert post(ada, f"{one}/propose", code=409)["code"] == "backtest_needed"
        state = post(ada, f"{one}/backtest", {"days": 30}, code=202)
        assert (state["state"], state["compared"], state["must_acknowledge"]) == ("done", 1, False)
        assert ada.get(f"{one}/backtest").json()["same"] == 1
        post(ada, f"{one}/propose")
        assert post(ada, f"{one}/publish", code=403)["code"] == "same_person"
        assert post(bob, f"{one}/publish", {"rules_sha256": "0" * 64}, code=409)["code"] == "not_proposed"
        shown = post(bob, f"{one}/publish", {"rules_sha256": made["rules_sha256"]})
    assert (shown["status"], shown["published_by"], shown["missing"]) == ("published", "bob", [])
    (listed,) = ada.get(URL).json()["results"]
    assert (listed["name"], listed["published"], listed["latest"]) == ("house", 1, 1)


def test_a_denied_call_that_would_run_is_acknowledged_by_name():
    ada = client("ada", *ALL)
    version = draft({"effect": "allow"})
    one = f"{URL}/house/versions/{version.number}"
    with played(decided(1, "deny")):
        assert post(ada, f"{one}/backtest", code=202)["counts"] == {"deny->allow": 1}
        assert post(ada, f"{one}/publish", code=409)["code"] == "not_acknowledged"
        assert post(ada, f"{one}/acknowledge", {"note": " "}, code=400)["errors"]
        post(ada, f"{one}/acknowledge", {"note": "wanted"})
        assert post(ada, f"{one}/publish")["status"] == "published"


def test_problems_of_yaml_come_with_their_lines():
    ada = client("ada", *ALL)
    problem = post(ada, "/api/v1/policy-imports", {"yaml": YAML.replace("allow", "maybe")}, code=400)
    assert problem["code"] == "invalid_policy_file"
    assert problem["errors"] == [
        {"field": "rules[0].effect", "message": "line 3, column 47: The effect is allow, ask or deny."}
    ]
    assert post(ada, "/api/v1/policy-imports", {"yml": ""}, code=400)["errors"][0]["field"] in ("yml", "yaml")


def test_rules_are_replaced_compared_and_rolled_back():
    ada = client("ada", *ALL)
    post(ada, "/api/v1/policy-imports", {"yaml": YAML}, code=201)
    with played():
        post(ada, f"{URL}/house/versions/1/publish")
        assert post(ada, f"{URL}/house/versions", code=201)["yaml"].endswith("tools: [files.*]\n    effect: allow\n")
        two = f"{URL}/house/versions/2"
        post(ada, two, {"yaml": YAML.replace("allow", "deny")}, method="put")
        assert ada.get(f"{two}/diff").json()["changes"][0]["field"] == "effect"
        post(ada, f"{two}/publish")
        assert post(ada, two, {"yaml": YAML}, code=409, method="put")["code"] == "not_a_draft"
        back = post(ada, f"{URL}/house/versions/1/rollback", {"reason": "oops"})
    assert (back["version"]["number"], back["version"]["status"], back["missing"]) == (3, "published", "")
    assert post(ada, f"{URL}/house/versions/3/retire")["status"] == "retired"


def test_simulate_says_of_each_rule_why():
    ada = client("ada", "view_policyversion")
    version = draft({"tools": ["files.*"]}, {"match": {"owners": ["ada"]}})
    path = f"{URL}/house/versions/{version.number}/simulate"
    call = {"tool": "git.push", "arguments": {"branch": "x"}, "owner": "bob"}
    said = post(ada, path, {"call": call})
    assert said["decision"]["effect"] == "deny"
    assert [(one["state"], one["fails"]) for one in said["rules"]] == [("no", ["tools"]), ("no", ["owners"])]
    problem = post(ada, path, {"call": {"tool": "git.push", "arguments": {}}}, code=400)
    assert (problem["code"], problem["errors"][0]["field"]) == ("invalid_trial", "arguments.branch")
    assert post(ada, path, {}, code=400)["errors"][0]["field"] == "call"
    assert post(ada, path, {"step": "none"}, code=404)["code"] == "unknown_policy"


def test_a_shadow_by_rest():
    ada = client("ada", *ALL)
    version = draft({"effect": "allow"})
    path = f"{URL}/house/versions/{version.number}/shadow"
    with played() as source:
        assert post(ada, path)["since"]
        source.add(decided(1, "deny"))
        shadow.run_due(timezone.now())
    shown = ada.get(path).json()
    assert (shown["differ"], shown["differences"][0]["draft"]["effect"]) == (1, "allow")
    assert post(ada, path, method="delete")["since"] is None


def test_packs_are_listed_and_drafted():
    ada = client("ada", *ALL)
    assert "read-only" in [pack["name"] for pack in ada.get("/api/v1/policy-packs").json()]
    assert post(ada, "/api/v1/policy-packs/read-only/draft", code=201)["policy"] == "read-only"
    assert post(ada, "/api/v1/policy-packs/release-manager/draft", code=400)["code"] == "invalid_policy_file"
    assert post(ada, "/api/v1/policy-packs/none/draft", code=404)["code"] == "unknown_policy"


def test_each_operation_asks_for_its_permission_and_its_scope():
    version = publish(draft({}))
    two = draft({})
    reader, nobody = client("reader", "view_policyversion"), client("nobody")
    one = f"{URL}/house/versions/{two.number}"
    assert reader.get(one).status_code == 200
    assert nobody.get(one).status_code == 403
    assert Client().get(one).status_code == 401
    for path in ("propose", "publish", "backtest", "shadow", "retire", "rollback", "withdraw"):
        post(reader, f"{one}/{path}", code=403)
    post(reader, f"{one}/acknowledge", {"note": "x"}, code=403)
    post(reader, one, {"yaml": YAML}, code=403, method="put")
    post(reader, "/api/v1/policy-imports", {"yaml": YAML}, code=403)
    owner = User.objects.get(username="reader")
    for scopes, code in ((["policies:read"], 200), (["jobs:read"], 403)):
        _, secret = create_token(user=owner, name="ci", scopes=scopes, now=timezone.now(), actor=Actor.user(owner.pk))
        answer = Client().get(one, headers={"Authorization": f"Bearer {secret}"})
        assert answer.status_code == code
    assert PolicyVersion.objects.get(pk=version.pk).status == "published"
    for path in (f"{URL}/none/versions", f"{URL}/house/versions/99", f"{URL}/house/versions/99999999999999"):
        assert reader.get(path).status_code == 404
