"""The policy of a new server: work inside the job's own workspace is free, what leaves it asks people."""

from django.contrib.auth.models import Group, User
from django.db import transaction
from django.utils import timezone

from approvals.models import Policy, PolicyRule, PolicyVersion
from approvals.policy import versions
from approvals.policy.match import matches
from tools import registry

NAME = "default"
ALLOW, ASK = PolicyRule.Effect.ALLOW, PolicyRule.Effect.ASK
DAY_S = 86_400

# (name, tools, condition, effect, reason); what no rule matches is denied
RULES: list[tuple[str, list[str], str, str, str]] = [
    ("model-turns", ["llm.*"], "", ALLOW, "The model's turns are bounded by the job's limits."),
    ("workspace", ["workspace.*"], "", ALLOW, "The workspace is the job's own."),
    ("files", ["files.*"], "", ALLOW, "Files of the job's own workspace."),
    ("artifacts", ["artifacts.*"], "", ALLOW, "Whoever sees the job may have what it made."),
    (
        "delegation",
        ["job.delegate", "job.workflow"],
        "",
        ALLOW,
        "It starts a job of no wider grant, whose every step is decided on.",
    ),
    ("plans", ["plan.*"], "", ALLOW, "A plan does nothing by itself: each of its steps is decided on when it runs."),
    (
        "memory",
        ["memory.search", "memory.propose", "memory.learn"],
        "",
        ALLOW,
        "What is proposed is recalled by nobody until it is admitted.",
    ),
    ("memory-admission", ["memory.admit"], "", ASK, "Later jobs on this repository will be told it."),
    ("questions", ["human.*"], "", ALLOW, "Asking a person changes nothing."),
    ("offers", ["job.propose"], "", ALLOW, "It offers a person a job, and starts none."),
    (
        "git-reading",
        ["git.status", "git.diff", "git.fetch", "git.log", "git.show"],
        "",
        ALLOW,
        "Reading changes nothing outside.",
    ),
    (
        "git-local",
        [
            "git.branch",
            "git.checkout",
            "git.add",
            "git.commit",
            "git.tag",
            "git.apply",
            "git.stash",
            "git.cherry_pick",
            "git.revert",
        ],
        "",
        ALLOW,
        "Commits and tags stay in the workspace until they are pushed.",
    ),
    (
        "git-reset-keeping",
        ["git.reset"],
        "!has(call.args.mode) || call.args.mode != 'hard'",
        ALLOW,
        "It changes no file's content that is not committed.",
    ),
    ("git-discard", ["git.reset", "git.clean"], "", ASK, "It takes away what no commit holds."),
    (
        "git-delete-local-branch",
        ["git.delete_branch"],
        "(!has(call.args.at) || call.args.at != 'origin') && (!has(call.args.unmerged) || !call.args.unmerged)",
        ALLOW,
        "Its commits are on other branches too.",
    ),
    ("git-delete-branch", ["git.delete_branch"], "", ASK, "A branch goes away, at the remote for everybody."),
    (
        "git-clone",
        ["git.clone"],
        "",
        ASK,
        "It fetches from an address that the call names.",
    ),
    (
        "git-force-push",
        ["git.force_push", "git.restore_branch"],
        "",
        ASK,
        "Commits that others may have built on can leave the branch.",
    ),
    (
        "git-pull-request",
        ["git.pull_request", "git.close_pull_request"],
        "",
        ASK,
        "Others are told, and see what it says.",
    ),
    (
        "git-push",
        ["git.push"],
        "",
        ASK,
        "A push leaves this server: others build on it.",
    ),
    ("git-push-tag", ["git.push_tag"], "", ASK, "A pushed tag is a promise to others: it is never moved."),
    ("git-merge-abort", ["git.merge"], "has(call.args.abort) && call.args.abort", ALLOW, "It takes back a merge."),
    ("git-rebase", ["git.rebase"], "", ASK, "A rebase writes a branch's history anew."),
    ("git-merge", ["git.merge"], "", ASK, "A merge joins histories, often into the default branch."),
    ("http-reading", ["http.fetch"], "", ASK, "It reaches out of this server, and brings in what others wrote."),
    ("http-sending", ["http.post"], "", ASK, "What is sent leaves this server for good."),
    ("mcp-servers", ["mcp.*"], "", ASK, "A server by others does it, and what it answers is untrusted."),
    (
        "code",
        ["code.*"],
        "",
        ALLOW,
        "The project's own checks run in a sandbox, without network, in the job's own workspace.",
    ),
    ("evolution", ["evolve.propose", "evolve.rank"], "", ALLOW, "Nothing that it writes runs or is kept by this."),
    (
        "evolution-trials",
        ["evolve.begin", "evolve.measure"],
        "call.risk in ['low', 'medium']",
        ALLOW,
        "The command runs in a sandbox, without network, on a copy of the job's own workspace.",
    ),
    (
        "evolution-high-risk",
        ["evolve.begin", "evolve.measure"],
        "",
        ASK,
        "This command looks dangerous, or cannot be told from one that is.",
    ),
    ("evolution-result", ["evolve.apply"], "", ASK, "What a model wrote becomes part of the work."),
    (
        "shell-network",
        ["shell.*"],
        "has(call.args.network)",
        ASK,
        "This command would reach hosts outside: it may send what it reads, and bring in what others wrote.",
    ),
    (
        "shell-secrets",
        ["shell.*"],
        "has(call.args.secrets)",
        ASK,
        "This command would be given a secret, and could do whatever that allows.",
    ),
    (
        "shell-high-risk",
        ["shell.*"],
        "call.risk == 'high'",
        ASK,
        "This command looks dangerous, or cannot be told from one that is.",
    ),
    (
        "shell",
        ["shell.*"],
        "call.risk in ['low', 'medium']",
        ALLOW,
        "Commands run in a sandbox, without network, in the job's own workspace.",
    ),
]


@transaction.atomic
def ensure_policies(approvers: Group) -> PolicyVersion | None:
    """Publishes the default policy, which asks `approvers`, where the server has no policy at all.

    Gives the version that it published, or None where there was a policy before.

    Raises:
        InvalidPolicy: the group has no active member.
    """
    if Policy.objects.exists():
        return None
    policy = Policy.objects.create(name=NAME, description="What a new server starts with. Make a draft to change it.")
    draft = versions.new_draft(policy, by=None)
    PolicyRule.objects.bulk_create(
        PolicyRule(
            version=draft,
            order=place * 10,
            name=name,
            tools=tools,
            condition=condition,
            effect=effect,
            reason=reason,
            approvers=approvers if effect == ASK else None,
            expires_s=DAY_S,
        )
        for place, (name, tools, condition, effect, reason) in enumerate(RULES, start=1)
    )
    return versions.publish(draft.pk, by=None, now=timezone.now())


def uncovered() -> list[str]:
    """The tools of which every call is denied, since no rule that is published names them; none where nothing is
    published at all. A server that is older than a tool has them."""
    patterns = [
        pattern
        for tools in PolicyRule.objects.filter(version__status=PolicyVersion.Status.PUBLISHED)
        .order_by()
        .values_list("tools", flat=True)
        for pattern in tools
    ]
    return [tool.name for tool in registry.every() if patterns and not matches(patterns, tool.name)]


@transaction.atomic
def draft_for_uncovered(by: User | None) -> PolicyVersion | None:
    """A draft of the default policy (else of the first one in force) with the server's own rules for tools that no
    published rule names, behind those that it has. None where there is nothing to add.

    Who is asked is the group that the policy asks already, else `approvers`.
    """
    wanted = set(uncovered())
    rules = [rule for rule in RULES if any(matches(rule[1], tool) for tool in wanted)]
    published = PolicyVersion.objects.filter(status=PolicyVersion.Status.PUBLISHED).select_related("policy")
    live = published.filter(policy__name=NAME).first() or published.order_by("policy__name").first()
    if not rules or live is None:
        return None
    asking = live.rules.filter(approvers__isnull=False).first()
    group = asking.approvers if asking is not None else Group.objects.filter(name="approvers").first()
    names = ", ".join(sorted(wanted))
    draft = versions.new_draft(live.policy, source=live, by=by, notes=f"Rules for tools that had none: {names}."[:500])
    taken = set(draft.rules.values_list("name", flat=True))
    last = max(draft.rules.values_list("order", flat=True), default=0)
    for place, (name, tools, condition, effect, reason) in enumerate(rules, start=1):
        PolicyRule.objects.create(
            version=draft,
            order=last + place * 10,
            name=name if name not in taken else f"{name}-{draft.number}",
            tools=sorted(tool for tool in wanted if matches(tools, tool)),
            condition=condition,
            effect=effect if effect != ASK or group is not None else PolicyRule.Effect.DENY,
            reason=reason,
            approvers=group if effect == ASK else None,
        )
    return draft
