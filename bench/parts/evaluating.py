"""What a decision costs: 200 published rules, asked about many different calls."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.utils import timezone

from approvals.models import Policy, PolicyRule, PolicyVersion
from approvals.policy import published
from approvals.policy.evaluate import Decision, evaluate, evaluate_by
from approvals.policy.inputs import PolicyInput
from bench.parts.figures import Figure, median, percentile

RULES, REACH_MS = 200, 1.0
TOOLS = (
    *("git.push", "git.commit", "git.merge", "git.fetch", "files.read", "files.write", "files.list", "shell.exec"),
    *("shell.script", "llm.think", "llm.complete", "job.delegate", "human.ask", "workspace.prepare", "git.push_tag"),
)
CONDITIONS = (
    "call.args.branch != job.branch && call.risk_score > 60",
    "has(job.labels.env) && job.labels.env == 'production' && 'sre' in job.groups",
    "has(call.args.paths) && call.args.paths.exists(p, p.endsWith('.pem'))",
    "job.environment == 'production' && call.programs.exists(p, p.startsWith('kubectl'))",
    "call.args.path.startsWith('.github/') || call.args.path.matches('^deploy/.*[.]ya?ml$')",
)


def figures(*, quick: bool) -> list[Figure]:
    """The rules are put in force in place of what is, which stays so."""
    rounds, calls = (3, 2_000) if quick else (5, 20_000)
    found = []
    for name, tools in (
        (f"by {RULES} rules for {len(TOOLS)} tools", TOOLS),
        (f"by {RULES} rules, all for the call's tool", ("git.push",)),
    ):
        versions, compiling_ms = _publish(tools)
        given = _calls(tools, calls)
        _times(given[:500], partial(evaluate_by, versions))  # compiles the conditions
        took = [_times(given, partial(evaluate_by, versions)) for _ in range(rounds)]
        found += [
            Figure(name=f"decision {name}: p50", value=median([percentile(one, 50) for one, _ in took]), unit="ms"),
            Figure(
                name=f"decision {name}: p99",
                value=median([percentile(one, 99) for one, _ in took]),
                unit="ms",
                reach=REACH_MS,
                at_least=False,
            ),
            Figure(
                name=f"decision {name}: p99 of its CPU time",
                value=median([percentile(one, 99) for _, one in took]),
                unit="ms",
                reach=REACH_MS,
                at_least=False,
            ),
        ]
    asked, _ = _times(given[: calls // 4], evaluate)
    return [
        *found,
        Figure(name="the same with the query for what is in force: p50", value=percentile(asked, 50), unit="ms"),
        Figure(name=f"reading and compiling {RULES} rules, once a publication", value=compiling_ms, unit="ms"),
    ]


def _times(given: Sequence[PolicyInput], ask: Callable[[PolicyInput], Decision]) -> tuple[list[float], list[float]]:
    """Milliseconds of each: by the clock, and of this thread's CPU time."""
    clock, cpu = [], []
    for call in given:
        began, worked = time.perf_counter(), time.thread_time()
        ask(call)
        cpu.append((time.thread_time() - worked) * 1000)
        clock.append((time.perf_counter() - began) * 1000)
    return clock, cpu


def _publish(tools: Sequence[str]) -> tuple[frozenset[Any], float]:
    """Five policies of forty rules: most allow or ask something narrow, a tenth denies, the last lets through."""
    PolicyVersion.objects.filter(status="published").update(status="retired")
    dice = random.Random(7)
    for number in range(5):
        policy = Policy.objects.create(name=f"bench-{len(tools)}-{number}")
        version = PolicyVersion.objects.create(policy=policy, number=1)
        rules = [_rule(version, place, tools, dice) for place in range(RULES // 5 - 1)]
        rules.append(PolicyRule(version=version, order=RULES, name="rest", tools=["*"], effect="allow"))
        PolicyRule.objects.bulk_create(rules)
        PolicyVersion.objects.filter(pk=version.pk).update(status="published", published_at=timezone.now())
    versions = published.ids()
    began = time.perf_counter()
    published.of(versions)
    return versions, (time.perf_counter() - began) * 1000


def _rule(version: PolicyVersion, place: int, tools: Sequence[str], dice: random.Random) -> PolicyRule:
    tool = dice.choice(tools)
    match: dict[str, Any] = {}
    if dice.random() < 0.7:
        match["repositories"] = [f"team-{dice.randrange(40)}-*"]
    if dice.random() < 0.3:
        match["branches"] = ["release/*", "main"]
    if dice.random() < 0.2:
        match["programs"] = ["kubectl", "terraform", "helm*"]
    if dice.random() < 0.2:
        match["time"] = {"zone": "Europe/Berlin", "days": ["sat", "sun"], "from": "22:00", "to": "06:00"}
    return PolicyRule(
        version=version,
        order=place,
        name=f"rule-{place}",
        tools=[tool if dice.random() < 0.8 else f"{tool.partition('.')[0]}.*"],
        match=match,
        condition=dice.choice(CONDITIONS) if dice.random() < 0.5 or not match else "",
        effect="deny" if place % 10 == 0 else "allow",
        reason="bench",
    )


def _calls(tools: Sequence[str], count: int) -> list[PolicyInput]:
    dice = random.Random(8)
    plain = PolicyInput(
        tool="git.push",
        arguments={},
        effect="once",
        queue="git",
        risk="medium",
        agent="helper",
        owner="ada",
        owner_id=1,
        groups=["sre", "staff"],
        repository="",
        branch="main",
        labels={"env": "staging", "team": "blue"},
        job_id="01a1fec0-0000-7000-8000-000000000000",
        step_id="01a1fec0-0000-7000-8000-000000000001",
        kind="goal",
        risk_score=45,
        environment="production",
        programs=("kubectl", "jq"),
        now=datetime(2026, 3, 28, 23, 30, tzinfo=UTC),
    )
    return [
        replace(
            plain,
            tool=dice.choice(tools),
            repository=f"team-{dice.randrange(40)}-app",
            target_branch=dice.choice(["main", "feature/x", "release/9"]),
            arguments={
                "branch": "feature/x",
                "path": "src/app/models.py",
                "paths": ["src/app/models.py", "tests/test_models.py"],
                "message": "A message of some length, as they are. " * 5,
            },
        )
        for _ in range(count)
    ]
