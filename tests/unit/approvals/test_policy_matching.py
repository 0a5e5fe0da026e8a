"""What a rule may ask of a call: the schema, each matcher, and the evaluator against a naive one."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given as with_values
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from approvals.models import PolicyRule
from approvals.policy import clock, conditions, constraints, expectations, matching, packs, published, yamlform
from approvals.policy.evaluate import compiled, decide
from approvals.policy.inputs import PolicyInput, budget_key
from tools import labels, registry

NOW = datetime(2026, 3, 27, 22, 30, tzinfo=UTC)  # a Friday, 23:30 in Berlin

CALL = PolicyInput(
    tool="shell.script",
    arguments={"script": "ls && rm x", "network": ["example.org"]},
    effect="repeatable",
    queue="shell",
    risk="medium",
    risk_score=45,
    agent="helper",
    owner="ada",
    owner_id=1,
    groups=["staff", "sre"],
    repository="shop",
    branch="main",
    labels={"env": "prod", "n": 3},
    job_id="j",
    step_id="s",
    kind="goal",
    tenant="acme",
    environment="production",
    programs=("ls", "rm"),
    target_branch="release/1",
    first_use=True,
    seen=frozenset({"private"}),
    unplanned=True,
    tainted=("script",),
    spent={budget_key("job", 0): {"calls": 10, "tokens": 500, "minutes": 2.5}},
    now=NOW,
)


def fits(match: dict[str, Any], *, strict: bool = True, **changes: Any) -> bool:
    assert matching.problems(match) == []
    return matching.compiled(match).fits(replace(CALL, **changes), strict=strict)


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({}, True),
        ({"agents": ["help*"]}, True),
        ({"agents": ["other", "Helper"]}, False),
        ({"owners": ["ada"]}, True),
        ({"groups": ["sre"]}, True),
        ({"groups": ["s"]}, False),
        ({"tenants": ["acme"]}, True),
        ({"repositories": ["sh*"]}, True),
        ({"branches": ["release/*"]}, True),
        ({"branches": ["main"]}, False),
        ({"environments": ["prod*"]}, True),
        ({"effects": ["read", "repeatable"]}, True),
        ({"risks": ["high"]}, False),
        ({"risk_at_least": 45}, True),
        ({"risk_at_least": 46}, False),
        ({"labels": {"env": ["prod"]}}, True),
        ({"labels": {"n": ["3"]}}, True),
        ({"labels": {"env": ["prod"], "team": ["*"]}}, False),
        ({"first_use": True}, True),
        ({"first_use": False}, False),
        ({"after": ["priv*"]}, True),
        ({"after": ["public"]}, False),
        ({"carries": ["egress"]}, True),
        ({"carries": ["private"]}, False),
        ({"exposed": ["untrusted", "egress", "priv*"]}, True),
        ({"exposed": ["egress", "public"]}, False),
        ({"unplanned": True}, True),
        ({"unplanned": False}, False),
        ({"tainted": True}, True),
        ({"tainted": False}, False),
        ({"spent": {"per": "job", "calls": 10}}, True),
        ({"spent": {"per": "job", "calls": 11, "tokens": 501}}, False),
        ({"spent": {"per": "job", "calls": 11, "minutes": 2}}, True),
        ({"agents": ["helper"], "tenants": ["other"]}, False),
    ],
)
def test_each_matcher_fits_what_it_says(match, expected):
    assert fits(match) is expected
    assert matching.compiled(match).misfits(CALL, strict=True) == [] or not expected


def test_an_allow_needs_every_program_and_a_deny_needs_one():
    assert not fits({"programs": ["ls"]})
    assert fits({"programs": ["ls", "r*"]})
    assert fits({"programs": ["rm"]}, strict=False)
    assert not fits({"programs": ["mv"]}, strict=False)
    assert not fits({"programs": ["*"]}, strict=False, programs=())  # a tool that runs no program


@pytest.mark.parametrize(
    ("match", "unknown"),
    [
        ({"programs": ["*"]}, {"programs": None}),
        ({"branches": ["*"]}, {"target_branch": None}),
        ({"first_use": False}, {"first_use": None}),
        ({"after": ["x"]}, {"seen": None}),
        ({"exposed": ["x"]}, {"seen": None}),
        ({"carries": ["x"]}, {"tool": "mcp.gone.tool"}),
        ({"unplanned": False}, {"unplanned": None}),
        ({"tainted": False}, {"tainted": None}),
        ({"spent": {"per": "job", "calls": 1}}, {"spent": {}}),
        ({"time": {"zone": "UTC"}}, {"now": None}),
    ],
)
def test_what_cannot_be_told_fits_no_allow_and_every_ask_or_deny(match, unknown):
    assert not fits(match, strict=True, **unknown)
    assert fits(match, strict=False, **unknown)


@pytest.mark.parametrize(
    ("match", "named"),
    [
        ([], "must be an object"),
        ({"agent": ["x"]}, "no 'agent'"),
        ({"agents": []}, "match.agents"),
        ({"agents": "x"}, "match.agents"),
        ({"agents": [""]}, "match.agents"),
        ({"agents": ["x" * 201]}, "match.agents"),
        ({"effects": ["write"]}, "match.effects"),
        ({"risks": [{}]}, "match.risks"),
        ({"risk_at_least": True}, "risk_at_least"),
        ({"risk_at_least": 101}, "risk_at_least"),
        ({"first_use": 1}, "first_use"),
        ({"tainted": "yes"}, "tainted"),
        ({"exposed": "untrusted"}, "match.exposed"),
        ({"labels": {}}, "match.labels"),
        ({"labels": {"env": "prod"}}, "match.labels.env"),
        ({"time": {"days": ["monday"], "zone": "UTC"}}, "time.days"),
        ({"time": {"from": "09:00", "zone": "UTC"}}, "both from and to"),
        ({"time": {"from": "9:00", "to": "17:00", "zone": "UTC"}}, "time.from"),
        ({"time": {"from": "09:00", "to": "09:00", "zone": "UTC"}}, "the same"),
        ({"time": {"from": "09:00", "to": "10:00"}}, "time.zone"),
        ({"time": {"zone": "../../etc/passwd"}}, "time.zone"),
        ({"time": {"zone": "UTC", "until": 1}}, "no 'until'"),
        ({"spent": {"per": "job"}}, "needs one of"),
        ({"spent": {"per": "owner", "calls": 5}}, "hours is needed"),
        ({"spent": {"per": "team", "calls": 5}}, "per must be"),
        ({"spent": {"per": "job", "calls": 0}}, "spent.calls"),
        ({"spent": {"per": "job", "calls": 1, "tools": ["Git"]}}, "spent.tools"),
    ],
)
def test_a_wrong_match_is_refused_and_says_where(match, named):
    assert any(named in problem for problem in matching.problems(match)), matching.problems(match)


@pytest.mark.parametrize(
    ("window", "at", "expected"),
    [
        ({"zone": "Europe/Berlin", "days": ["fri"], "from": "23:00", "to": "24:00"}, NOW, True),
        ({"zone": "UTC", "days": ["fri"], "from": "23:00", "to": "24:00"}, NOW, False),
        # over midnight the early hours belong to the day on which it began
        (
            {"zone": "UTC", "days": ["fri"], "from": "22:00", "to": "06:00"},
            datetime(2026, 3, 28, 5, 59, tzinfo=UTC),
            True,
        ),
        (
            {"zone": "UTC", "days": ["fri"], "from": "22:00", "to": "06:00"},
            datetime(2026, 3, 28, 6, 0, tzinfo=UTC),
            False,
        ),
        (
            {"zone": "UTC", "days": ["sat"], "from": "22:00", "to": "06:00"},
            datetime(2026, 3, 28, 5, 0, tzinfo=UTC),
            False,
        ),
        (
            {"zone": "UTC", "days": ["mon"], "from": "22:00", "to": "06:00"},
            datetime(2026, 3, 31, 1, 0, tzinfo=UTC),
            True,
        ),
        (
            {"zone": "UTC", "days": ["sun"], "from": "22:00", "to": "06:00"},
            datetime(2026, 3, 30, 1, 0, tzinfo=UTC),
            True,
        ),
        # the night in which Berlin loses an hour: 01:30 UTC is 03:30 there
        ({"zone": "Europe/Berlin", "from": "03:00", "to": "04:00"}, datetime(2026, 3, 29, 1, 30, tzinfo=UTC), True),
        ({"zone": "Europe/Berlin", "from": "02:00", "to": "03:00"}, datetime(2026, 3, 29, 1, 30, tzinfo=UTC), False),
        ({"zone": "UTC", "days": ["sat", "sun"]}, NOW, False),
        ({"zone": "UTC", "days": ["sat", "sun"], "outside": True}, NOW, True),
    ],
)
def test_a_time_window_holds_by_the_clock_there(window, at, expected):
    assert clock.problems(window) == []
    assert fits({"time": window}, now=at) is expected


def test_conditions_see_the_same_facts_and_say_what_they_read():
    source = (
        "call.program == 'ls' && 'rm' in call.programs && call.branch.startsWith('release/') && call.first_use"
        " && call.unplanned && 'script' in call.tainted && 'egress' in call.labels"
        " && call.risk_score >= 45 && job.tenant == 'acme' && job.environment == 'production' && 'private' in job.seen"
        " && job.spent.calls == 10 && now > timestamp('2026-01-01T00:00:00Z')"
    )
    conditions.check(source)
    assert conditions.holds(source, conditions.scope(CALL.variables()))
    assert conditions.reads(source) == {
        *("programs", "branch", "first_use", "risk_score", "seen", "time", "spent:job/0/*"),
        *("carries", "provenance"),
    }
    assert conditions.reads("call.args.x == 'job.seen now'") == frozenset()
    assert {"seen", "spent:owner/24/*"} <= conditions.reads("job['seen'].size() > 0")


@pytest.mark.parametrize(
    ("given", "effect", "named"),
    [
        ({"profil": "read"}, "allow", "no 'profil'"),
        ({"profile": "root"}, "allow", "profile"),
        ({"network": ["GitHub.com"]}, "allow", "network"),
        ({"network": "all"}, "allow", "network"),
        ({"limits": {"cpu": 1}}, "allow", "no 'cpu'"),
        ({"limits": {"timeout_s": 0}}, "allow", "timeout_s"),
        ({"limits": {}}, "allow", "limits"),
        ({"dry_run": 1}, "allow", "dry_run"),
        ({"gives": ["priv*"]}, "allow", "gives"),
        ({"gives": []}, "allow", "gives"),
        ({"profile": "read"}, "deny", "denies"),
    ],
)
def test_wrong_constraints_are_refused(given, effect, named):
    assert any(named in problem for problem in constraints.problems(given, effect=effect))


# ---- against a naive evaluator: one rule after the other, nothing compiled, nothing cached

_NAMES = st.sampled_from(["ada", "bob", "main", "rm", "ls", "prod", "a*", "*", "*m*"])
_LISTS = st.lists(_NAMES, min_size=1, max_size=3)
_MATCHES = st.fixed_dictionaries(
    {},
    optional={
        "owners": _LISTS,
        "programs": _LISTS,
        "branches": _LISTS,
        "environments": _LISTS,
        "groups": _LISTS,
        "risks": st.lists(st.sampled_from(["low", "medium", "high"]), min_size=1, max_size=2),
        "first_use": st.booleans(),
        "after": _LISTS,
        "risk_at_least": st.integers(1, 100),
    },
)
_RULES = st.lists(
    st.tuples(
        st.sampled_from(["*", "git.*", "git.push", "files.*"]),
        st.sampled_from(["allow", "ask", "deny"]),
        _MATCHES,
        st.sampled_from(["", "call.risk == 'low'", "call.args.n > 1", "job.owner == 'ada'"]),
    ),
    max_size=6,
)
_CALLS = st.fixed_dictionaries(
    {
        "tool": st.sampled_from(["git.push", "git.log", "files.read", "shell.exec"]),
        "arguments": st.sampled_from([{}, {"n": 1}, {"n": 2}]),
        "owner": st.sampled_from(["ada", "bob"]),
        "groups": st.lists(st.sampled_from(["ada", "prod"]), max_size=2, unique=True),
        "risk": st.sampled_from(["low", "medium", "high"]),
        "risk_score": st.integers(0, 100),
        "environment": st.sampled_from(["", "prod"]),
        "programs": st.sampled_from([None, (), ("rm",), ("ls", "rm")]),
        "target_branch": st.sampled_from([None, "", "main"]),
        "first_use": st.sampled_from([None, True, False]),
        "seen": st.sampled_from([None, frozenset(), frozenset({"prod"})]),
    }
)


@hypothesis_settings(max_examples=300, deadline=None)
@with_values(policies=st.lists(_RULES, max_size=3), changes=_CALLS)
def test_the_evaluator_says_what_a_naive_one_says(policies, changes):
    call = replace(CALL, **changes)
    made = [
        compiled(
            f"p{number}",
            f"v{number}",
            [
                PolicyRule(
                    order=place, name=f"r{place}", tools=[tools], effect=effect, match=match, condition=condition
                )
                for place, (tools, effect, match, condition) in enumerate(rules)
            ],
        )
        for number, rules in enumerate(policies)
    ]
    decision = decide(made, call)
    assert (decision.effect, decision.policy, decision.rule) == _naive(policies, call)


def test_rules_that_cannot_fit_a_call_have_nothing_looked_up_for_it():
    rules = expectations.unsaved(yamlform.load(packs.named("injection-defence").source))
    known = published.Published(policies=(compiled("pack@1", "", rules),))
    looked_up = set()
    for tool in registry.builtin():
        for arguments in tool.examples:
            assert labels.of_call(tool, arguments) <= labels.may_be(tool), tool.name
            effect = str(tool.effect_of(arguments))
            call = replace(CALL, tool=tool.name, arguments=arguments, effect=effect)
            call = replace(call, seen=None, unplanned=None, tainted=None)  # everything may be so
            needs = known.needs(tool.name, effect)
            assert decide(known.policies, call).effect == ("ask" if needs.passing else "deny"), tool.name
            looked_up |= {tool.name} if "provenance" in needs.facts else set()
    assert not looked_up & {"files.read", "files.search", "git.diff", "llm.think", "memory.search", "code.test"}
    assert {"files.write", "http.fetch", "git.push", "git.commit", "shell.exec"} <= looked_up
    assert known.needs("mcp.any.read", "read").passing and not known.needs("files.write", "read").facts


def _naive(policies: list[Any], call: PolicyInput) -> tuple[str, str, str]:
    answers = []
    for number, rules in enumerate(policies):
        matching_ones = [
            (effect, place)
            for place, (tools, effect, match, condition) in enumerate(rules)
            if fnmatchcase(call.tool, tools) and _fits(match, effect, call) and _holds(condition, effect, call)
        ]
        denies = [one for one in matching_ones if one[0] == "deny"]
        if matching_ones:
            effect, place = (denies or matching_ones)[0]
            answers.append((effect, f"p{number}", f"r{place}"))
    if not answers:
        return "deny", "", ""
    return min(answers, key=lambda one: (["deny", "ask", "allow"].index(one[0]), one[1]))


def _holds(condition: str, effect: str, call: PolicyInput) -> bool:
    if condition == "call.risk == 'low'":
        return call.risk == "low"
    if condition == "job.owner == 'ada'":
        return call.owner == "ada"
    if condition:
        return call.arguments["n"] > 1 if "n" in call.arguments else effect != "allow"
    return True


def _fits(match: Mapping[str, Any], effect: str, call: PolicyInput) -> bool:
    unknown = effect != "allow"

    def any_of(patterns: list[str], value: str) -> bool:
        return any(fnmatchcase(value, pattern) for pattern in patterns)

    for name, wanted in match.items():
        if name == "owners":
            good = any_of(wanted, call.owner)
        elif name == "environments":
            good = any_of(wanted, call.environment)
        elif name == "groups":
            good = any(any_of(wanted, group) for group in call.groups)
        elif name == "risks":
            good = call.risk in wanted
        elif name == "risk_at_least":
            good = call.risk_score >= wanted
        elif name == "first_use":
            good = unknown if call.first_use is None else call.first_use == wanted
        elif name == "after":
            good = unknown if call.seen is None else any(any_of(wanted, label) for label in call.seen)
        elif name == "branches":
            known = call.target_branch
            good = unknown if known is None else known != "" and any_of(wanted, known)
        else:
            hits = None if call.programs is None else [any_of(wanted, program) for program in call.programs]
            good = unknown if hits is None else bool(hits) and (all(hits) if effect == "allow" else any(hits))
        if not good:
            return False
    return True
