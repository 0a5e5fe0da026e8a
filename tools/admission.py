"""Tools by others: none may be used until an administrator enables it, and then exactly as it was accepted.

Where they come from tells what it found (`note`); people enable and disable (`enable`, `disable`); the registry asks for
what may be used (`Admitted`). A definition that is another than the accepted one takes the tool out of use until somebody
has seen the difference and accepts it.
"""

import difflib
import json
import logging
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet

from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event
from tools import registry
from tools.admitted import AdmittedTool
from tools.definitions import digest_of, flaw
from tools.errors import ToolDisabled, ToolError
from tools.models import ToolDefinition
from tools.spec import Effect, Tool

log = logging.getLogger(__name__)

AGAIN_S = 30.0


class Refused(ToolError):
    """A tool by others cannot be enabled as asked."""

    code = "tool_not_admitted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A tool as its origin describes it now. definition: JSON with at least name, summary, schema, effect, queue."""

    name: str
    origin: str
    definition: Mapping[str, Any]
    problem: str = ""


# kind of origin ("plugin") -> makes the tool of an accepted definition, or raises ToolError
_kinds: dict[str, Callable[[ToolDefinition], Tool]] = {}


def add_origin(kind: str, build: Callable[[ToolDefinition], Tool]) -> None:
    """Tools whose origin is `kind:…` are made by `build` from their rows, in each process that uses them.

    `build` raises ToolError where it cannot give exactly what `row.pinned` says.
    """
    _kinds[kind] = build


def note(found: Iterable[Found], *, kind: str, now: datetime, actor: Actor) -> list[ToolDefinition]:
    """Writes down what the origins of this kind have now: all of it, so that what is missing is gone.

    A new tool is disabled; one that is another than it was, has a problem or is gone is disabled. Gives the rows that changed.
    """
    given = {one.name: one for one in found}
    changed = []
    with transaction.atomic():
        rows = {row.name: row for row in _locked(ToolDefinition.objects.all())}
        for name, one in sorted(given.items()):
            row = rows.get(name)
            if row is not None and row.origin != one.origin and row.enabled:
                log.warning("tool.name_taken", extra={"tool": name, "origin": one.origin})
                continue
            if changed_row := _noted(row, one, now=now, actor=actor):
                changed.append(changed_row)
        for name, row in sorted(rows.items()):
            if row.origin.startswith(f"{kind}:") and name not in given and (row.enabled or row.problem != _GONE):
                changed.append(_gone(row, actor=actor))
    if changed:
        _tell()
    return changed


_GONE = "It is no longer there."


def _noted(row: ToolDefinition | None, one: Found, *, now: datetime, actor: Actor) -> ToolDefinition | None:
    problem = one.problem or flaw(one.name, one.origin, one.definition)
    sha256 = digest_of(one.definition)
    if row is None:
        row = ToolDefinition(name=one.name[:100], origin=one.origin)
        row.definition, row.found_sha256, row.found_at, row.problem = dict(one.definition), sha256, now, problem
        row.save(force_insert=True)
        _record(Event.TOOL_FOUND, row, actor=actor, outcome="ok", payload={"definition": dict(one.definition)})
        return row
    if (row.origin, row.found_sha256, row.problem) == (one.origin, sha256, problem):
        return None
    was = row.enabled
    same = row.found_sha256 == sha256
    row.origin, row.problem = one.origin, problem
    if not same:
        row.definition, row.found_sha256, row.found_at = dict(one.definition), sha256, now
    row.enabled = was and same and not problem
    _save(row)
    outcome = "disabled" if was and not row.enabled else "ok"
    payload = {"definition": dict(one.definition), "problem": problem}
    _record(Event.TOOL_CHANGED, row, actor=actor, outcome=outcome, payload=payload)
    return row


def _gone(row: ToolDefinition, *, actor: Actor) -> ToolDefinition:
    outcome = "disabled" if row.enabled else "gone"
    row.enabled, row.problem = False, _GONE
    _save(row)
    _record(Event.TOOL_CHANGED, row, actor=actor, outcome=outcome, payload={"problem": _GONE})
    return row


@transaction.atomic
def enable(
    name: str, *, sha256: str, by: User | None, now: datetime, actor: Actor, effect: str = "", queue: str = ""
) -> ToolDefinition:
    """Lets the tool be used as the definition with this digest says, which whoever enables it has seen.

    effect, queue: as the administrator judges them; empty is as before, or as the definition says. by: the person, None
    for a command.

    Raises:
        Refused: there is no such tool, it has a problem, it is not what was seen, or effect or queue are none.
    """
    row = _locked(ToolDefinition.objects.filter(name=name)).first()
    if row is None:
        raise Refused(f"There is no tool {name!r} by others.")
    if row.problem:
        raise Refused(f"{name} cannot be enabled: {row.problem}")
    if row.found_sha256 != sha256:
        raise Refused(f"{name} has changed meanwhile: look at it again.", now=row.found_sha256)
    first = row.pinned is None
    effect = effect or row.effect or str(row.definition.get("effect", ""))
    queue = queue or row.queue or str(row.definition.get("queue", ""))
    if effect not in set(Effect):
        raise Refused(f"There is no effect {effect!r}: it is one of {', '.join(Effect)}.")
    if queue not in settings.QUEUES:
        raise Refused(f"No worker serves the queue {queue!r}.")
    if row.enabled and (row.effect, row.queue) == (effect, queue):
        return row
    another = (row.pinned_sha256, row.effect, row.queue) != (sha256, effect, queue)
    shown = "" if first else difference(row)
    row.pinned, row.pinned_sha256, row.effect, row.queue = row.definition, sha256, effect, queue
    row.version += 1 if another else 0
    row.enabled, row.enabled_by, row.enabled_at = True, by, now
    _check(row)
    _save(row)
    _record(
        Event.TOOL_ENABLED,
        row,
        actor=actor,
        outcome="ok" if first else "accepted",
        context={"effect": effect, "queue": queue, "version": row.version},
        payload={"definition": row.definition, "difference": shown},
    )
    _tell()
    return row


@transaction.atomic
def disable(name: str, *, actor: Actor, reason: str = "") -> bool:
    """Takes the tool out of use: models are no longer offered it, and steps that ask for it are refused. Was it in use?

    Raises:
        Refused: there is no such tool.
    """
    row = _locked(ToolDefinition.objects.filter(name=name)).first()
    if row is None:
        raise Refused(f"There is no tool {name!r} by others.")
    if not row.enabled:
        return False
    row.enabled = False
    _save(row)
    _record(Event.TOOL_DISABLED, row, actor=actor, outcome="ok", payload={"reason": reason[:2000]})
    _tell()
    return True


def difference(row: ToolDefinition) -> str:
    """What was found against what was accepted, as a unified diff of their JSON; "" where they are the same."""
    was, now = (_lines(one) for one in (row.pinned or {}, row.definition))
    return "\n".join(difflib.unified_diff(was, now, "accepted", "found", lineterm="", n=3))


def state_of(row: ToolDefinition) -> str:
    """A word for people: enabled, changed, broken, or disabled."""
    if row.enabled:
        return "enabled"
    if row.problem:
        return "broken"
    return "changed" if row.pinned_sha256 and row.pinned_sha256 != row.found_sha256 else "disabled"


class Admitted:
    """The registry's source: every tool by others that is enabled, as this process can give it."""

    def __init__(self) -> None:
        self._lacks = False  # a tool that is enabled could not be made here: it is tried again after a while

    def version(self) -> Hashable:
        """The revisions of the rows that are enabled; where one could not be made, another version every AGAIN_S."""
        enabled = ToolDefinition.objects.filter(enabled=True).order_by().values_list("revision", flat=True)
        return frozenset(enabled), time.monotonic() // AGAIN_S if self._lacks else None

    def tools(self, version: Hashable) -> list[Tool]:
        """Those of these revisions that can be made; of the others `why_not` says why."""
        assert isinstance(version, tuple)
        found, lacks = [], False
        for row in ToolDefinition.objects.filter(revision__in=version[0]):
            try:
                found.append(made(row))
            except ToolError as error:
                lacks = True
                log.error("tool.not_made", extra={"tool": row.name, "code": error.code, "why": error.message})
        self._lacks = lacks
        return found

    def why_not(self, name: str) -> str:
        """See `tools.registry.Source.why_not`."""
        row = ToolDefinition.objects.filter(name=name).first()
        if row is None:
            return ""
        if row.enabled:
            try:
                made(row)
            except ToolError as error:
                return f"The tool {name} cannot be used by this process: {error.message}"
            return f"The tool {name} is enabled, and this process has not taken it in yet: try again in a minute."
        words = {
            "broken": f"it has a problem. {row.problem}",
            "changed": "it is no longer what an administrator accepted, and nobody has accepted the change.",
            "disabled": "no administrator has enabled it.",
        }
        return f"The tool {name} is disabled: {words[state_of(row)]}"


def made(row: ToolDefinition) -> Tool:
    """The tool of an accepted definition, with the effect, the queue and the version that hold here.

    Raises:
        ToolDisabled: its origin is unknown here, its queue is served by nobody, or its origin cannot give exactly it.
    """
    build = _kinds.get(row.origin.partition(":")[0])
    if build is None:
        raise ToolDisabled(f"Nothing here makes tools of {row.origin}.")
    if row.queue not in settings.QUEUES:
        raise ToolDisabled(f"No worker serves the queue {row.queue!r}.")
    if why := flaw(row.name, row.origin, row.pinned or {}):
        raise ToolDisabled(why)
    return AdmittedTool(
        build(row), name=row.name, effect=Effect(row.effect), queue=row.queue, schema_version=row.version
    )


def _check(row: ToolDefinition) -> None:
    try:
        made(row)
    except ToolError as error:
        raise Refused(f"{row.name} cannot be enabled: {error.message}") from error


def _save(row: ToolDefinition) -> None:
    row.revision = uuid4()
    row.save()


def _locked(rows: QuerySet[ToolDefinition]) -> QuerySet[ToolDefinition]:
    return rows.select_for_update(of=("self",)).order_by("name")


def _tell() -> None:
    """This process sees the change at once, and again once it is committed (or was rolled back, within a second)."""
    registry.forget()
    transaction.on_commit(registry.forget)


def _record(
    event: Event,
    row: ToolDefinition,
    *,
    actor: Actor,
    outcome: str,
    context: Mapping[str, Any] | None = None,
    payload: Mapping[str, Any] | None = None,
) -> UUID:
    return record(
        event,
        actor=actor,
        target=Target(type="tool", id=row.name),
        outcome=outcome,
        context={"origin": row.origin, "found": row.found_sha256, "accepted": row.pinned_sha256, **(context or {})},
        payload=payload,
    )


def _lines(definition: Mapping[str, Any]) -> list[str]:
    return json.dumps(definition, indent=2, sort_keys=True, ensure_ascii=False).splitlines()
