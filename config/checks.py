"""System checks of the installation as a whole, run by `manage.py check` (those of production by `check --deploy`).

countersign.E001  a tool's queue is served by no worker group
countersign.E002  a queue is served by two worker groups
countersign.E003  others may read the folder of the audit log's keys
countersign.E004  FLOWER_URL without FLOWER_BASIC_AUTH
countersign.W005  no policy is published, so that nothing runs (with --database)
countersign.E005  OIDC_ISSUER without its client, or groups of a claim that is not named
countersign.E006  APPROVAL_CHANNELS names what is no channel
countersign.E007  EGRESS_EXCEPTIONS names what is no address
countersign.W101  PUBLIC_URL is not https (deploy)
countersign.W102  the mailbox page, which shows every mail to staff, is on (deploy)
countersign.W103  repositories by local path are allowed (deploy)
countersign.W104  the model is the scripted one (deploy)
countersign.W106  OIDC_ISSUER is not https (deploy)
countersign.W107  no second factor is asked for high risk (deploy)
"""

import stat
from collections import Counter
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from approvals.channels import every
from approvals.models import PolicyVersion
from approvals.policy.startup import NOTHING_RUNS
from tools import registry
from tools.egress.addresses import Exceptions


@register(Tags.compatibility)
def queues(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Each tool's queue is consumed by exactly one worker group."""
    counts = Counter(settings.QUEUES)
    found: list[CheckMessage] = [
        Error(
            f"The tool {tool.name} runs on the queue {tool.queue!r}, which no group of WORKER_GROUPS serves.",
            id="countersign.E001",
        )
        for tool in registry.builtin()
        if tool.queue not in counts
    ]
    found += [
        Error(f"The queue {queue!r} stands in {count} groups of WORKER_GROUPS.", id="countersign.E002")
        for queue, count in counts.items()
        if count > 1
    ]
    return found


@register(Tags.security)
def keys(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """What must stay secret is closed to others."""
    found: list[CheckMessage] = []
    folder = Path(settings.AUDIT_KEY_DIR)
    if folder.is_dir() and stat.S_IMODE(folder.stat().st_mode) & 0o077:
        found.append(Error(f"Others may read {folder}.", hint=f"chmod 700 {folder}", id="countersign.E003"))
    if settings.FLOWER_URL and not settings.FLOWER_BASIC_AUTH:
        found.append(
            Error(
                "FLOWER_URL is set without FLOWER_BASIC_AUTH.",
                hint="Flower without a password lets anybody on its network run tasks.",
                id="countersign.E004",
            )
        )
    return found


@register(Tags.database)
def policies(app_configs: Any, databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Something is allowed at all."""
    if not databases or "default" not in databases:
        return []
    try:
        published = PolicyVersion.objects.filter(status=PolicyVersion.Status.PUBLISHED).exists()
    except DatabaseError:  # not there yet, or not migrated: others say so
        return []
    if published:
        return []
    return [
        Warning(
            NOTHING_RUNS,
            hint="Publish one in the admin, or run manage.py seed.",
            id="countersign.W005",
        )
    ]


@register(Tags.security)
def company_accounts(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Half a provider signs nobody in, and half a mapping gives nobody a group."""
    found: list[CheckMessage] = []
    for app in settings.SOCIALACCOUNT_PROVIDERS.get("openid_connect", {}).get("APPS", []):
        if not (app["client_id"] and app["secret"]):
            found.append(
                Error("OIDC_ISSUER is set without OIDC_CLIENT_ID and OIDC_CLIENT_SECRET.", id="countersign.E005")
            )
    if bool(settings.OIDC_GROUPS) != bool(settings.OIDC_GROUPS_CLAIM):
        found.append(Error("OIDC_GROUPS and OIDC_GROUPS_CLAIM go together.", id="countersign.E005"))
    return found


@register(Tags.compatibility)
def channels(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """The ways to reach people about approvals load."""
    try:
        every()
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="See docs/howto/notifications.md.", id="countersign.E006")]
    return []


@register(Tags.security)
def egress(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """The addresses that calls may reach are addresses."""
    try:
        Exceptions.parse(settings.EGRESS_EXCEPTIONS)
    except ValueError as error:
        return [Error(f"EGRESS_EXCEPTIONS: {error}.", hint="10.1.2.3:443, 10.8.0.0/16", id="countersign.E007")]
    return []


@register(Tags.security, deploy=True)
def production(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """What is right in development and wrong in production."""
    found: list[CheckMessage] = []
    if not settings.PUBLIC_URL.startswith("https://"):
        found.append(
            Warning(f"PUBLIC_URL is {settings.PUBLIC_URL}: links in mails should be https.", id="countersign.W101")
        )
    if settings.MAILBOX_ENABLED:
        found.append(Warning("The development mailbox page is on.", hint="Set EMAIL_HOST.", id="countersign.W102"))
    if settings.ALLOW_LOCAL_REPOSITORIES:
        found.append(Warning("Repositories by local path are allowed.", id="countersign.W103"))
    if settings.ALLOW_LOCAL_WEBHOOKS:
        found.append(Warning("Webhooks to private addresses are allowed.", id="countersign.W105"))
    if settings.OIDC_ISSUER and not settings.OIDC_ISSUER.startswith("https://"):
        found.append(Warning("OIDC_ISSUER should be https.", id="countersign.W106"))
    if not settings.STEP_UP:
        found.append(
            Warning("Nothing asks for a second factor at high risk.", hint="STEP_UP=true", id="countersign.W107")
        )
    if settings.LLM_SCRIPTED:
        found.append(Warning("The model is the scripted one, which plays the demo only.", id="countersign.W104"))
    return found
