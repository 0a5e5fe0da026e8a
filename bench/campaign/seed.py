"""What the campaign's stack has at its start: people, tokens, one policy, one repository with a remote that counts."""

import json
import stat
from datetime import timedelta
from pathlib import Path

from django.contrib.auth.models import Group, User
from django.db import transaction
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from agents.demo import repository as sample
from agents.models import ApiToken, Repository
from agents.tokens import create_token
from approvals.models import Policy, PolicyRule
from approvals.policy import versions
from audit.actor import Actor

ALLOWED = ["campaign.look", "campaign.repeat", "campaign.once", "campaign.blind", "files.*", "git.*", "shell.*"]
HOOK = """#!/bin/sh
while read old new ref; do echo "$ref $old $new" >> '{pushes}'; done
"""


def seed(folder: Path) -> None:
    """Writes `folder`/tokens.json: {"requester": token, "approver": token}."""
    now = timezone.now()
    with transaction.atomic():
        approvers, _ = Group.objects.get_or_create(name="approvers")
        requester = User.objects.create_user("requester")
        requester.is_staff = requester.is_superuser = True
        requester.save()
        approver = User.objects.create_user("approver")
        approver.groups.add(approvers)
        _policy(approvers)
        _repository(folder, requester)
        every, _ = IntervalSchedule.objects.get_or_create(every=2, period=IntervalSchedule.SECONDS)
        PeriodicTask.objects.create(
            name="What two beats send twice", task="agents.clean_workspaces", interval=every, queue="control"
        )
    tokens = {}
    for user in (requester, approver):
        _, tokens[user.username] = create_token(
            user=user,
            name="campaign",
            scopes=list(ApiToken.Scope.values),
            now=now,
            actor=Actor.system("campaign"),
            expires_at=now + timedelta(days=1),
        )
    path = folder / "tokens.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(tokens))


def _policy(approvers: Group) -> None:
    policy = Policy.objects.create(name="campaign", description="Everything, and one tool that asks.")
    draft = versions.new_draft(policy, by=None)
    PolicyRule.objects.create(
        version=draft,
        order=10,
        name="asked",
        tools=["campaign.asked"],
        condition="",
        effect=PolicyRule.Effect.ASK,
        reason="The campaign asks its approver.",
        approvers=approvers,
        expires_s=86_400,
    )
    PolicyRule.objects.create(
        version=draft,
        order=20,
        name="rest",
        tools=[*ALLOWED, "workspace.*"],
        condition="",
        effect=PolicyRule.Effect.ALLOW,
        reason="The campaign's own.",
    )
    versions.publish(draft.pk, by=None, now=timezone.now())


def _repository(folder: Path, owner: User) -> None:
    remote = sample.create(folder / "demo")
    hook = remote / "hooks" / "post-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(HOOK.format(pushes=remote / "pushes"))
    hook.chmod(hook.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    Repository.objects.create(
        name="sample", url=f"file://{remote}", default_branch="main", owner=owner, created_at=timezone.now()
    )
