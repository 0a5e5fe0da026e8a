"""A call to try, as people describe it: what they leave out is filled in as it would be for a job of theirs."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from approvals.errors import InvalidTrial
from approvals.policy.inputs import PolicyInput
from tools import registry, risk
from tools.errors import InvalidArguments, ToolRefused, UnknownTool
from tools.spec import Effect, Risk, Tool

_TEXTS = ("agent", "owner", "repository", "branch", "environment", "tenant", "kind", "target_branch")
_LISTS = ("groups", "programs", "seen", "tainted")
_FLAGS = ("first_use", "unplanned")
FIELDS = frozenset(
    {"tool", "arguments", "effect", "queue", "risk", "risk_score", "labels", "spent", "now"}
    | {*_TEXTS, *_LISTS, *_FLAGS}
)
KINDS = ("goal", "plan", "workflow", "chat")


def made(given: Mapping[str, Any], *, now: datetime) -> PolicyInput:
    """The input of a described call. Effect, queue, risk, programs and branch follow from tool and arguments where they
    are not given; what it has not been told of the past is nothing.

    Raises:
        InvalidTrial: with the field.
    """
    _check(given)
    arguments = given.get("arguments", {})
    facts: dict[str, Any] = {"risk": "low", "risk_score": 0, "effect": "once", "queue": "shell"}
    try:
        tool = registry.get(given["tool"])
    except UnknownTool:
        if not {"effect", "risk"} <= set(given):
            raise InvalidTrial(
                f"There is no tool {given['tool']!r} here: say its effect and risk to try it all the same.",
                field="tool",
            ) from None
    else:
        facts = {"effect": str(tool.effect_of(arguments)), "queue": tool.queue, **_told(tool, arguments, given)}
    facts |= {name: given[name] for name in ("effect", "queue", "risk", "risk_score", "target_branch") if name in given}
    if "programs" in given:
        facts["programs"] = tuple(given["programs"])
    return PolicyInput(
        tool=given["tool"],
        arguments=arguments,
        agent=given.get("agent", ""),
        owner=given.get("owner", ""),
        owner_id=0,
        groups=list(given.get("groups", [])),
        repository=given.get("repository", ""),
        branch=given.get("branch", "main" if given.get("repository") else ""),
        labels=dict(given.get("labels", {})),
        job_id="",
        step_id="",
        kind=given.get("kind", "goal"),
        tenant=given.get("tenant", "default"),
        environment=given.get("environment", ""),
        first_use=given.get("first_use", False),
        seen=frozenset(given.get("seen", ())),
        unplanned=given.get("unplanned", False),
        tainted=tuple(given.get("tainted", ())),
        spent=_Spent(given.get("spent", {})),
        now=_moment(given.get("now"), now),
        **facts,
    )


class _Spent(dict[str, Mapping[str, float]]):
    """Accounts of a call that is only tried: every one that is asked for has what was given, or nothing."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        spent = {name: float(given.get(name, 0)) for name in ("calls", "tokens", "minutes")}
        super().__init__({"job/0/*": spent, "owner/24/*": spent})
        self._spent = spent

    def get(self, key: str, default: Any = None) -> Any:
        return self._spent


def _told(tool: Tool, arguments: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        registry.validate(tool, arguments)
    except InvalidArguments as error:
        raise InvalidTrial(f"{error}", field=getattr(error, "field", "") or "arguments") from None
    except ToolRefused as error:
        raise InvalidTrial(f"{tool.name} does not take this: {error}", field="arguments") from None
    default = given.get("branch", "main" if given.get("repository") else "")
    place = risk.Place(default_branch=default, environment=given.get("environment", ""))
    score = risk.assess(tool, arguments, place)
    branch = risk.branch_of(tool.name, arguments)
    return {
        "risk": str(score.level),
        "risk_score": score.score,
        "programs": risk.programs_of(tool.name, arguments),
        "target_branch": branch if isinstance(branch, str) else default or None,
    }


def _check(given: Mapping[str, Any]) -> None:
    for name in sorted(set(given) - FIELDS, key=str):
        raise InvalidTrial(
            f"There is no {str(name)[:60]!r} in a call; known are {', '.join(sorted(FIELDS))}.", field=name
        )
    if not isinstance(given.get("tool"), str) or not given["tool"]:
        raise InvalidTrial("Say which tool is called.", field="tool")
    for name in ("arguments", "labels", "spent"):
        if not isinstance(given.get(name, {}), dict):
            raise InvalidTrial("Must be an object.", field=name)
    for name in _TEXTS:
        if not isinstance(given.get(name, ""), str):
            raise InvalidTrial("Must be text.", field=name)
    for name in _LISTS:
        value = given.get(name, [])
        if not isinstance(value, list) or any(not isinstance(one, str) for one in value):
            raise InvalidTrial("Must be a list of texts.", field=name)
    for name, values in (("risk", list(Risk)), ("effect", list(Effect)), ("kind", KINDS)):
        if name in given and given[name] not in [str(value) for value in values]:
            raise InvalidTrial(f"Must be one of {', '.join(map(str, values))}.", field=name)
    score = given.get("risk_score", 0)
    if not isinstance(score, int) or isinstance(score, bool) or not 0 <= score <= 100:
        raise InvalidTrial("Must be a whole number from 0 to 100.", field="risk_score")
    for name in _FLAGS:
        if not isinstance(given.get(name, False), bool):
            raise InvalidTrial("Must be true or false.", field=name)
    if any(not isinstance(one, int) or isinstance(one, bool) or one < 0 for one in given.get("spent", {}).values()):
        raise InvalidTrial("Must have whole numbers for calls, tokens, minutes.", field="spent")


def _moment(given: Any, now: datetime) -> datetime:
    if given is None:
        return now
    try:
        found = datetime.fromisoformat(given)
    except (TypeError, ValueError):
        raise InvalidTrial("Must be a moment such as 2026-03-02T10:00:00+01:00.", field="now") from None
    if not 1970 < found.year < 9999:  # the same moment must have a date in every time zone
        raise InvalidTrial("Must be in the years from 1971 to 9998.", field="now")
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
