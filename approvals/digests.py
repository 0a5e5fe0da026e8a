"""What an approval is bound to, and what makes two requests alike. Pure."""

import hashlib
from collections.abc import Mapping
from typing import Any

from audit.canonical import canonical_json
from tools.spec import Call


def binding(call: Call, *, policy_version_id: str | None, rule: str) -> str:
    """SHA-256, hex, of what an approval is for: the call (tool, schema version, arguments, workspace, target state,
    preview, and how it must run) and the rule of the policy version that asked.

    A published version never changes, so that it stands for its rule's constraints, quorum and approvers too.
    """
    body = {"call": call.digest(), "policy_version": policy_version_id and str(policy_version_id), "rule": rule}
    return hashlib.sha256(b"countersign-approval/v1\n" + canonical_json(body)).hexdigest()


def alike(*, tool: str, target: Mapping[str, Any], policy_version_id: str | None, rule: str, parent_kind: str) -> str:
    """The same for requests that may be decided together: same rule, tool, target and policy version."""
    body = {
        "tool": tool,
        "target": dict(target),
        "policy_version": policy_version_id and str(policy_version_id),
        "rule": rule,
        "subject": parent_kind,
    }
    return hashlib.sha256(b"countersign-alike/v1\n" + canonical_json(body)).hexdigest()


def target_of(context: Mapping[str, Any], environment: str) -> dict[str, str]:
    """What a call works on, as far as grants and batches go: repository, branch, environment."""
    return {
        "repository": str(context.get("repository") or ""),
        "branch": str(context.get("branch") or ""),
        "environment": environment,
    }
