"""The one door: nothing has an effect but by `run`, and `run` takes a permit for exactly this call."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction

from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event
from tools import batch, constraints, permits, quota, redact, registry, secrets, storable
from tools.box import SandboxBox
from tools.errors import PermitMismatch, ToolRefused
from tools.sandbox.output import clean
from tools.snapshots import Keeper, keep_found
from tools.spec import Call, Effect, OutputSink, Result, Tool
from tools.workspaces import place_of, workspace_for

_SUMMARY_MAX = 300
_TEXT_MAX = 128 * 1024
_PREVIEW_MAX = 256 * 1024
_LOOK_S = 60.0  # a preview, a target state, a probe


def run(
    call: Call,
    permit: UUID | permits.Spent,
    *,
    worker: str,
    on_output: OutputSink,
    cancelled: Callable[[], bool],
    deadline_s: float | None = None,
    subject: str = "",
    keeper: Keeper | None = None,
    now: datetime,
) -> Result:
    """Spends the permit, or takes the proof that it was spent for this call, and does the call.

    Arguments are validated again, and what an approver saw of the world is compared with the world, before the permit
    is spent; nothing happens before that. `on_output(stream, text)` gets the live log, a few times a second at most;
    `cancelled()` is asked several times a second and ends the command's whole tree within two seconds; deadline_s:
    seconds from now for everything together; subject: what the permit must have been given to; keeper: is told of the
    workspace before a tool that may write touches it, and closed by the caller. `call.constraints` bind the run, and where
    they ask for a dry run, its preview is recorded before anything happens.

    Raises:
        UnknownTool, InvalidArguments, ToolRefused: as of `tools.registry.validate`; the permit is unspent.
        PermitMismatch, PermitSpent: the permit does not cover this call as the world is now; nothing ran.
        OverQuota, ServerFull: there is no room for what it might write; the permit is unspent.
        SandboxUnavailable: no tier works here.
        ToolFailed: the tool ran and failed.
    """
    tool = _tool(call)
    if tool.asks_person:
        raise ToolRefused(f"{tool.name} is answered by a person, not run.")
    constraints.check(tool, call.constraints)
    whose = permit.subject if isinstance(permit, permits.Spent) else subject
    _as_it_was_seen(tool, call, subject=whose)
    if call.constraints.get("dry_run"):
        _dry_run(tool, call, subject=whose, worker=worker)
    writes = tool.effect is not Effect.READ
    if writes:
        by_itself = tool.needs_profile != "read" and not tool.makes_room
        quota.admit(place_of(call.workspace_id), by_itself=by_itself)
    if isinstance(permit, permits.Spent):
        subject = permit.use(call.digest())
    else:
        subject = permits.spend(permit, digest=call.digest(), by=worker, now=now, subject=subject).subject
    workspace = workspace_for(call.workspace_id)
    box = SandboxBox(
        partial(keeper.open, workspace) if keeper is not None and writes else workspace,
        limits=constraints.limited(tool.limits, call.constraints),
        call_id=subject,
        on_output=on_output,
        cancelled=cancelled,
        deadline_s=math.inf if deadline_s is None else time.monotonic() + deadline_s,
        most=call.constraints.get("profile", "git"),
        network=call.constraints.get("network"),
    )
    secrets.keep_unspeakable()
    with secrets.acting(subject, worker=worker, purpose="run"):
        try:
            if call.many:
                return batch.run(tool, call, box, storable=lambda result: _kept(result, box))
            result = tool.run(call.arguments, box)
        finally:
            box.close()
            if writes and (tool.needs_profile != "read" or box.record_sandbox()):
                quota.note(workspace)
        return _kept(_with_undo(tool, call, result), box)


def preview(call: Call, *, subject: str = "") -> tuple[str, dict[str, Any]]:
    """What the call would do, as text for an approver, and what it depends on (`Call.target_state`). No effect.

    subject: whose call it is (the step's id), for secrets that are not everybody's.

    Raises:
        UnknownTool, InvalidArguments, ToolRefused, ToolFailed, SandboxUnavailable
    """
    tool = _tool(call)
    if tool.asks_person:
        return "", {}
    if call.many:
        return redact.text(clean(batch.describe(tool, call))), {}
    secrets.keep_unspeakable()
    with secrets.acting(subject, purpose="preview"):
        state = _target_state(tool, call)
        text = redact.text(clean(tool.preview(call.arguments, _looking_box(tool, call))))
    if len(text) > _PREVIEW_MAX:
        text = f"{text[:_PREVIEW_MAX]}\n[... {len(text) - _PREVIEW_MAX} characters left out ...]"
    return text, state


def _dry_run(tool: Tool, call: Call, *, subject: str, worker: str) -> None:
    """Makes the preview and records it, in a transaction of its own; what it depends on must be the same afterwards.

    Raises:
        PermitMismatch: the world changed meanwhile; what `preview` raises. Nothing ran, and the permit is unspent.
    """
    text, state = preview(call, subject=subject)
    with transaction.atomic():
        record(
            Event.STEP_PREVIEWED,
            actor=Actor.worker(worker),
            target=Target(type="step", id=subject),
            context={
                "tool": tool.name,
                "digest": call.digest(),
                "preview_sha256": hashlib.sha256(text.encode()).hexdigest(),
            },
            payload={"preview": text},
        )
    if call.many:
        return
    with secrets.acting(subject, worker=worker, purpose="preview"):
        changed = _canonical(state) != _canonical(_target_state(tool, call))
    if changed:
        raise PermitMismatch("The target changed after its dry run.")


def probe(call: Call, *, subject: str = "") -> Result | None:
    """Did a lost attempt of this call happen? A Result if it did, None if it did not. No effect.

    subject: what its permit was issued for (the step's id).

    Raises:
        ToolFailed: it cannot be told; a person decides.
    """
    tool = _tool(call)
    box = _looking_box(tool, call, subject)
    secrets.keep_unspeakable()
    with secrets.acting(subject, purpose="probe"):
        found = tool.probe(call.arguments, call.target_state, box)
        if found is None:
            return None
        keep_found(box.workspace, subject)
        return _kept(_with_undo(tool, call, found), box)


def _with_undo(tool: Tool, call: Call, result: Result) -> Result:
    """With the call that would take it back, where the tool knows one."""
    undo = tool.undo(call.arguments, result.data) if result.ok else None
    return result if undo is None else replace(result, data={**result.data, "undo": undo})


def _tool(call: Call) -> Tool:
    tool = registry.get(call.tool, at_once=True)
    if call.schema_version != tool.schema_version:
        raise PermitMismatch(
            f"{tool.name} has changed since this call was made.", made=call.schema_version, now=tool.schema_version
        )
    batch.validate(tool, call)
    return tool


def _target_state(tool: Tool, call: Call) -> dict[str, Any]:
    state: dict[str, Any] = storable.data(tool.target_state(call.arguments, _looking_box(tool, call)))
    return state


def _looking_box(tool: Tool, call: Call, subject: str = "") -> SandboxBox:
    return SandboxBox(
        workspace_for(call.workspace_id),
        limits=tool.limits,
        call_id=subject,
        deadline_s=time.monotonic() + _LOOK_S,
        read_only=True,
        network=call.constraints.get("network"),
    )


def _as_it_was_seen(tool: Tool, call: Call, *, subject: str) -> None:
    """Compares what an approver saw of the world with the world. Raises PermitMismatch, and what a preview raises."""
    if not (call.target_state or call.preview_digest):
        return
    if call.preview_digest:
        text, state = preview(call, subject=subject)
    else:
        with secrets.acting(subject, purpose="preview"):
            text, state = "", _target_state(tool, call)
    seen, found = _canonical(call.target_state), _canonical(state)
    if seen != found:
        raise PermitMismatch("The target changed after it was approved.", seen=seen, found=found)
    if preview_digest(text) != call.preview_digest:
        raise PermitMismatch("What it would do is not what its preview showed when it was approved.")


def preview_digest(text: str) -> str:
    """SHA-256, hex, of a preview as an approver saw it; "" where there is none."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() if text else ""


def _canonical(state: Mapping[str, Any]) -> str:
    return json.dumps(state, sort_keys=True)


def _kept(result: Result, box: SandboxBox) -> Result:
    """Bounded, without control characters or secrets, and with the record of what held it."""
    text = redact.text(clean(result.text))
    cut = max(0, len(text) - _TEXT_MAX)
    if cut:
        text = f"{text[: _TEXT_MAX // 2]}\n[... {cut} characters left out ...]\n{text[-_TEXT_MAX // 2 :]}"
    summary = " ".join(redact.text(clean(result.summary)).split())
    return replace(
        result,
        summary=summary if len(summary) <= _SUMMARY_MAX else summary[: _SUMMARY_MAX - 1] + "…",
        text=text,
        data=redact.data(storable.data(result.data)),
        truncated_bytes=result.truncated_bytes + cut,
        sandbox=_with_secrets(dict(result.sandbox) or dict(box.record_sandbox())),
    )


def _with_secrets(held: dict[str, Any]) -> dict[str, Any]:
    used = secrets.current().used
    return {**held, "secrets": list(used)} if used else held
