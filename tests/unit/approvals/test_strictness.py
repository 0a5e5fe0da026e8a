"""What counts as plainly stricter is so for every call, tried on many small policies."""

import itertools
import random
from typing import Any

from approvals.models import PolicyRule
from approvals.policy import evaluate
from approvals.policy.rules import COPIED
from approvals.policy.strictness import no_looser
from tests.integration.approvals.recording import call

RANK = {"allow": 0, "ask": 1, "deny": 2}
TOOLS = ("files.read", "git.push", "shell.exec")
PATTERNS = (["*"], ["git.*"], ["files.*", "shell.*"], ["git.push"])
OTHER = evaluate.compiled("other@1", "", [PolicyRule(name="x", order=1, tools=["*"], effect="allow")])


def rule(effect: str, tools: list[str], **more: Any) -> dict[str, Any]:
    plain = {name: getattr(PolicyRule(), name) for name in COPIED}
    return plain | {"name": "r", "effect": effect, "tools": tools, "roles": [], "order": 1} | more


def answers(rules: list[dict[str, Any]], *, beside: bool) -> list[int]:
    compiled = evaluate.compiled(
        "p@1", "", [PolicyRule(**{name: value for name, value in one.items() if name != "roles"}) for one in rules]
    )
    policies = [compiled, OTHER] if beside else [compiled]
    return [RANK[evaluate.decide(policies, call(tool, arguments={}, labels={"env": env})).effect]
            for tool, env in itertools.product(TOOLS, ("test", "production"))]  # fmt: skip


def drawn(chance: random.Random) -> dict[str, Any]:
    match = chance.choice([{}, {}, {"labels": {"env": ["production"]}}])
    return rule(chance.choice(list(RANK)), chance.choice(PATTERNS), match=match)


def changed(rules: list[dict[str, Any]], chance: random.Random) -> list[dict[str, Any]]:
    new = [dict(one) for one in rules]
    for _ in range(chance.randint(1, 2)):
        what = chance.randrange(4)
        if what == 0 and new:
            new.pop(chance.randrange(len(new)))
        elif what == 1:
            new.insert(chance.randint(0, len(new)), drawn(chance))
        elif what == 2 and new:
            new[chance.randrange(len(new))]["effect"] = chance.choice(list(RANK))
        elif new:
            chance.shuffle(new)
    return new


def test_what_is_plainly_stricter_is_never_looser_for_any_call():
    chance, found = random.Random(7), 0
    for _ in range(800):
        old = [drawn(chance) for _ in range(chance.randint(1, 4))]
        new = changed(old, chance)
        if not no_looser(new, old):
            continue
        found += 1
        for beside in (False, True):
            pairs = zip(answers(new, beside=beside), answers(old, beside=beside), strict=True)
            assert all(now >= was for now, was in pairs), (old, new)
    assert found > 100


def test_what_an_approval_takes_is_compared_too():
    ask = rule("ask", ["git.*"], approvers_id=1, quorum=2)
    assert no_looser([ask], [ask])
    assert no_looser([ask | {"quorum": 3, "second_factor": True}], [ask])
    for looser in (
        {"quorum": 1},
        {"approvers_id": 2},
        {"grant_max_s": 60},
        {"roles": [{"group": 3, "count": 1}]},
        {"execution_expires_s": 10**6},
        {"effect": "allow"},
    ):
        assert not no_looser([ask | looser], [ask]), looser


def test_constraints_and_labels_are_not_taken_away():
    bound = rule("allow", ["shell.*"], constraints={"profile": "read"})
    gives = rule("allow", ["files.*"], constraints={"gives": ["private"]})
    assert not no_looser([bound | {"constraints": {}}], [bound])
    assert no_looser([bound], [bound | {"constraints": {}}])
    assert not no_looser([], [gives])
    assert not no_looser([gives | {"constraints": {}}], [gives])
    assert no_looser([], [bound])
