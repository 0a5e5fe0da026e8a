"""How grave a record is, and whether it tells of success, for systems that sort by it."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from audit.kinds import Event


class Severity(IntEnum):
    """Numbers as OCSF's `severity_id`."""

    INFORMATIONAL = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4


_LOW = {Event.STEP_REFUSED, Event.STEP_FAILED, Event.AUTH_FAILED, Event.TRIGGER_REFUSED, Event.STEP_IN_DOUBT}
_MEDIUM = {Event.APPROVAL_REFUSED, Event.PERMIT_REFUSED, Event.STEP_LATE_RESULT, Event.PAYLOAD_ERASED}
_HIGH = {Event.GLASS_BROKEN, Event.KEY_REVOKE, Event.KEY_ROTATE}
_BAD_OUTCOMES = frozenset({"failed", "refused", "denied", "deny", "expired", "void", "unjustified", "in_doubt", "lost"})
_BAD_EVENTS = _LOW | {Event.APPROVAL_REFUSED, Event.PERMIT_REFUSED}


def severity(facts: Mapping[str, Any]) -> Severity:
    event = facts["event"]
    if event in _HIGH or facts["outcome"] == "unjustified":
        return Severity.HIGH
    if event in _MEDIUM:
        return Severity.MEDIUM
    if event in _LOW or facts["outcome"] in _BAD_OUTCOMES:
        return Severity.LOW
    return Severity.INFORMATIONAL


def succeeded(facts: Mapping[str, Any]) -> bool:
    return facts["outcome"] not in _BAD_OUTCOMES and facts["event"] not in _BAD_EVENTS
