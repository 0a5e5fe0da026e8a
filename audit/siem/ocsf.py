"""Records as OCSF 1.6.0 events (https://schema.ocsf.io).

Signing in and out is Authentication (3002); what changes policies, people, keys to the API and the like is Entity
Management (3004); everything else is API Activity (6003). Nothing is lost: `raw_data` is the signed body as it is, and
`unmapped` holds the signature and the key, so that a copy in a SIEM can still be checked against the log.
"""

from typing import Any

from audit.kinds import Event
from audit.siem.severity import severity, succeeded
from audit.siem.source import Sequenced

VERSION = "1.6.0"
PRODUCT = {"name": "Countersign", "vendor_name": "Countersign"}
AUTHENTICATION, ENTITY_MANAGEMENT, API_ACTIVITY = 3002, 3004, 6003
OTHER = 99
_LOGON = {Event.AUTH_SIGNED_IN: 1, Event.AUTH_FAILED: 1, Event.AUTH_SIGNED_OUT: 2}
_ENTITIES = ("policy.", "workflow.", "admin.", "token.", "grant.", "delegation.", "identity.", "trigger.changed")
_CREATE = ("created", "added", "drafted", "given", "linked")
_DELETE = ("revoked", "deleted", "retired", "unlinked", "removed")
_ACTIVITIES = {1: "Create", 2: "Read", 3: "Update", 4: "Delete"}


def event(record: Sequenced) -> dict[str, Any]:
    """One record as an OCSF event; JSON."""
    facts = record.facts
    name = str(facts["event"])
    if name.startswith("auth."):
        found = _authentication(facts, name)
    elif name.startswith(_ENTITIES):
        found = _entity_management(facts, name)
    else:
        found = _api_activity(facts, name)
    class_uid, activity = found["class_uid"], found["activity_id"]
    context = facts.get("context") or {}
    metadata: dict[str, Any] = {
        "version": VERSION,
        "product": PRODUCT,
        "uid": facts["id"],
        "event_code": name,
        "original_time": facts["ts"],
        "sequence": record.index,
        "log_name": "audit",
    }
    if context.get("job") or context.get("parent"):
        metadata["correlation_uid"] = str(context.get("job") or context.get("parent"))
    if context.get("tenant"):
        metadata["tenant_uid"] = str(context["tenant"])
    return {
        **found,
        "category_uid": class_uid // 1000,
        "type_uid": class_uid * 100 + activity,
        "time": record.time_ms,
        "severity_id": int(severity(facts)),
        "status_id": 1 if succeeded(facts) else 2,
        "status_detail": str(facts["outcome"]),
        "message": f"{name} {facts['target']['type']} {facts['target']['id']}: {facts['outcome']}",
        "metadata": metadata,
        "raw_data": record.body,
        "unmapped": {"signature": record.signature, "kid": record.kid, "prev": record.prev, "context": context},
    }


def _authentication(facts: dict[str, Any], name: str) -> dict[str, Any]:
    activity = _LOGON.get(Event(name), OTHER)
    return {
        "class_uid": AUTHENTICATION,
        "activity_id": activity,
        "activity_name": {1: "Logon", 2: "Logoff"}.get(activity, name),
        "user": {"uid": str(facts["target"]["id"])},
        "actor": _actor(facts),
    }


def _entity_management(facts: dict[str, Any], name: str) -> dict[str, Any]:
    done = str((facts.get("context") or {}).get("action") or name.partition(".")[2])
    activity = 1 if done in _CREATE else 4 if done in _DELETE else 3
    return {
        "class_uid": ENTITY_MANAGEMENT,
        "activity_id": activity,
        "activity_name": _ACTIVITIES[activity],
        "entity": {"uid": str(facts["target"]["id"]), "type": str(facts["target"]["type"])},
        "actor": _actor(facts),
    }


def _api_activity(facts: dict[str, Any], name: str) -> dict[str, Any]:
    context = facts.get("context") or {}
    api: dict[str, Any] = {"operation": name, "service": {"name": "countersign"}}
    if context.get("tool"):
        api["request"] = {"uid": str(facts["target"]["id"]), "flags": [str(context["tool"])]}
    return {
        "class_uid": API_ACTIVITY,
        "activity_id": OTHER,
        "activity_name": name,
        "actor": _actor(facts),
        "api": api,
        "src_endpoint": {"name": str(context.get("worker") or "countersign"), "svc_name": "countersign"},
        "resources": [{"uid": str(facts["target"]["id"]), "type": str(facts["target"]["type"])}],
    }


def _actor(facts: dict[str, Any]) -> dict[str, Any]:
    """A person is a user; agents, workers and the server itself are applications that act, perhaps for a user."""
    actor = facts["actor"]
    if actor["type"] == "user":
        return {"user": {"uid": str(actor["id"])}}
    found: dict[str, Any] = {"app_name": f"{actor['type']}:{actor['id']}"}
    if actor.get("on_behalf_of"):
        found["user"] = {"uid": str(actor["on_behalf_of"])}
    return found
