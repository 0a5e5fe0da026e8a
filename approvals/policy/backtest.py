"""A draft on the decisions of the last days: which would be others.

It runs in slices, a transaction each, and its place stands in the draft's row: whoever has the time goes on with it
(who asked for it first, then the sweeper), and a process that dies loses a slice.

A flip is a decision whose effect would be another one. What the version in force would flip as well is not the draft's
doing and is counted apart.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from approvals.errors import BacktestNeeded, NotAcknowledged, NotADraft
from approvals.models import Policy, PolicyVersion
from approvals.policy import recorded, rules, trial
from approvals.policy.evaluate import FREEZE
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

DRAFT = PolicyVersion.Status.DRAFT
DAYS_MAX = 365
DECISIONS_MAX = 200_000
GOOD_FOR = timedelta(days=7)
PAGE = 500
EXAMPLES = 25  # of a group of flips
LISTED_MAX = 2_000  # examples in all
GROUPS_MAX = 500
OPENING = "deny->allow"
NOTE_MAX_CHARS = 1000
Json = dict[str, Any]


@transaction.atomic
def start(version_id: UUID, *, days: int, by: User | None, now: datetime) -> PolicyVersion:
    """Begins anew; `run` goes on with it.

    Raises:
        NotADraft: only drafts are tried: what is published decides already.
        ValueError: days are out of bounds.
        PolicyVersion.DoesNotExist
    """
    if not 1 <= days <= DAYS_MAX:
        raise ValueError(f"A backtest looks back 1 to {DAYS_MAX} days.")
    version = _locked(version_id)
    since = now - timedelta(days=days)
    version.backtest = {
        "state": "running",
        "days": days,
        "since": since.isoformat(),
        "until": now.isoformat(),
        "rules_sha256": rules.sha256(version),
        "against": [one.label for one in trial.beside(version)],
        "total": min(DECISIONS_MAX, recorded.source().count(since, now)),
        "cursor": "",
        "compared": 0,
        "inexact": 0,
        "same": 0,
        "counts": {},
        "already": {},
        "groups": [],
        "listed": 0,
        "started_by": by.pk if by else None,
        "started_at": now.isoformat(),
        "finished_at": None,
        "acknowledged": None,
    }
    version.save(update_fields=["backtest"])
    return version


def run(version_id: UUID, *, seconds: float | None = None, told: Callable[[Json], None] | None = None) -> bool:
    """Goes on until it is done or `seconds` are over; True where it is done. told: called after each slice.

    Raises:
        NotADraft, PolicyVersion.DoesNotExist
    """
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        state = _slice(version_id)
        if told is not None:
            told(state)
        if state["state"] != "running":
            return True
        if end is not None and time.monotonic() >= end:
            return False


def run_due(now: datetime, *, seconds: float = 0.5) -> int:
    """Goes on with those that are under way; how many there were. For the sweeper."""
    due = PolicyVersion.objects.filter(status=DRAFT, backtest__state="running").values_list("pk", flat=True)[:3]
    for version_id in due:
        try:
            run(version_id, seconds=seconds)
        except (NotADraft, PolicyVersion.DoesNotExist):
            continue
    return len(due)


@transaction.atomic
def acknowledge(version_id: UUID, *, by: User, note: str, now: datetime) -> PolicyVersion:
    """`by` has looked at the calls that were denied and would be allowed, and answers for it by name.

    Raises:
        BacktestNeeded: there is none of these rules.
        NotADraft, PolicyVersion.DoesNotExist
        ValueError: the note is empty or too long.
    """
    version = _locked(version_id)
    note = note.strip()
    if not note or len(note) > NOTE_MAX_CHARS or "\x00" in note:
        raise ValueError(f"Say in up to {NOTE_MAX_CHARS} characters why these calls may run.")
    if not is_current(version):
        raise BacktestNeeded("There is no finished backtest of these rules to acknowledge.")
    state: Json = dict(version.backtest or {})
    state["acknowledged"] = {"by": by.pk, "name": by.get_username(), "at": now.isoformat(), "note": note}
    version.backtest = state
    version.save(update_fields=["backtest"])
    record(
        Event.POLICY_ACKNOWLEDGED,
        actor=Actor.user(by.pk),
        target=Target(type="policy_version", id=str(version.pk)),
        context={
            "policy": version.policy.name,
            "version": version.number,
            "rules_sha256": state["rules_sha256"],
            "flips": state["counts"].get(OPENING, 0),
        },
        payload={"note": note, "groups": [one for one in state["groups"] if one["flip"] == OPENING]},
    )
    return version


def is_current(version: PolicyVersion) -> bool:
    """Is there a finished backtest of the rules as they are now?"""
    state = version.backtest or {}
    return state.get("state") == "done" and state.get("rules_sha256") == rules.sha256(version)


def _suffices(version: PolicyVersion, days: int, *, now: datetime) -> bool:
    """Also: does it look back far enough, and was it made lately?"""
    if not is_current(version):
        return False
    state = version.backtest or {}
    return bool(state["days"] >= days and now - datetime.fromisoformat(state["until"]) <= GOOD_FOR)


def must_acknowledge(version: PolicyVersion) -> bool:
    """Would calls run that were denied, and has nobody answered for it?"""
    state = version.backtest or {}
    return bool(state.get("counts", {}).get(OPENING)) and not state.get("acknowledged")


def require(version: PolicyVersion, *, now: datetime) -> None:
    """Before a draft is proposed or published.

    Raises:
        BacktestNeeded: decisions are on record, and these rules were not tried on them.
        NotAcknowledged: calls that were denied would be allowed, and nobody has acknowledged it.
    """
    days = settings.POLICY_BACKTEST_DAYS
    if days <= 0:
        return
    if not _suffices(version, days, now=now):
        since = now - timedelta(days=days)
        found, _ = recorded.source().page(since, now, before="", limit=1)
        if not found:
            return
        raise BacktestNeeded(
            f"Decisions of the last {days} days are on record: try these very rules on them by a backtest first."
        )
    if must_acknowledge(version):
        count = (version.backtest or {})["counts"][OPENING]
        raise NotAcknowledged(
            f"{count} call{'s' if count != 1 else ''} that {'were' if count != 1 else 'was'} denied would be allowed: "
            "somebody must acknowledge that."
        )


@transaction.atomic
def _slice(version_id: UUID) -> Json:
    version = _locked(version_id)
    state: Json = dict(version.backtest or {})
    if state.get("state") != "running":
        return state or {"state": "none"}
    if state["rules_sha256"] != rules.sha256(version):
        state |= {"state": "stale"}
    else:
        _compare(version, state)
    version.backtest = state
    version.save(update_fields=["backtest"])
    return state


def _compare(version: PolicyVersion, state: Json) -> None:
    since, until = (datetime.fromisoformat(state[name]) for name in ("since", "until"))
    room = DECISIONS_MAX - state["compared"]
    found, cursor = recorded.source().page(since, until, before=state["cursor"], limit=min(PAGE, room))
    draft, live = trial.beside(version), trial.in_force()
    groups = {_key(one): one for one in state["groups"]}
    for one in found:
        _look_at(one, draft, live, state, groups)
    state["groups"] = sorted(groups.values(), key=lambda one: (_SEVERITY.index(one["flip"]), -one["count"]))
    state["cursor"] = cursor
    state["total"] = max(state["total"], state["compared"])
    if not cursor or state["compared"] >= DECISIONS_MAX:
        state |= {"state": "done", "cursor": "", "finished_at": state["until"], "bounded": bool(cursor)}


_SEVERITY = [OPENING, "ask->allow", "deny->ask", "allow->deny", "ask->deny", "allow->ask"]


def _key(group: Json) -> tuple[str, ...]:
    return (group["flip"], group["tool"], group["was"], group["now"])


def _look_at(
    one: recorded.Recorded, draft: trial.Policies, live: trial.Policies, state: Json, groups: dict[Any, Json]
) -> None:
    state["compared"] += 1
    state["inexact"] += 0 if one.exact else 1
    if one.decision.policy == FREEZE:  # no policy's doing: windows stand above them, and are over
        state["frozen"] = state.get("frozen", 0) + 1
        return
    answer = trial.strictest(draft, one.inputs)
    was, now = one.decision.effect, answer.effect
    flip = f"{was}->{now}"
    if was == now or flip not in _SEVERITY:
        state["same"] += 1
        return
    if trial.strictest(live, one.inputs).effect == now:
        state["already"][flip] = state["already"].get(flip, 0) + 1
        return
    state["counts"][flip] = state["counts"].get(flip, 0) + 1
    new: Json = {
        "flip": flip,
        "tool": one.inputs[0].tool,
        "was": _rule(one.decision),
        "now": _rule(answer),
        "reason": answer.reason,
        "count": 0,
        "examples": [],
    }
    if _key(new) not in groups and len(groups) >= GROUPS_MAX:
        state["groups_left_out"] = state.get("groups_left_out", 0) + 1
        return
    group = groups.setdefault(_key(new), new)
    group["count"] += 1
    if len(group["examples"]) < EXAMPLES and state["listed"] < LISTED_MAX:
        state["listed"] += 1
        group["examples"].append(
            {"subject": one.subject_id, "path": one.path, "command": one.command[:300], "at": one.at.isoformat()}
        )


def _rule(decision: Any) -> str:
    return f"{decision.policy} {decision.rule}".strip()


def _locked(version_id: UUID) -> PolicyVersion:
    version = PolicyVersion.objects.select_related("policy").get(pk=version_id)
    Policy.objects.select_for_update().get(pk=version.policy_id)
    version = PolicyVersion.objects.select_for_update(of=("self",)).select_related("policy").get(pk=version_id)
    if version.status != DRAFT:
        raise NotADraft(f"{version} is {version.status}: only drafts are tried on past decisions.")
    return version
