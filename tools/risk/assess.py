"""The number behind a risk: the tool's own judgement of its arguments, and what the place and the size add to it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from tools.risk.targets import branch_of
from tools.spec import Effect, Risk, RiskScore, Tool

MEDIUM_FROM, HIGH_FROM = 35, 70
LEVELS = (Risk.LOW, Risk.MEDIUM, Risk.HIGH)
_BASE = {Risk.LOW: 10, Risk.MEDIUM: 45, Risk.HIGH: 80}
_READING = 5
_MANY_CALLS, _MANY_PATHS = 100, 50
# How much more a call weighs that moves the branch that others build on.
_MOVES = {"git.push": 25, "git.force_push": 25, "git.restore_branch": 25, "git.delete_branch": 15, "git.rebase": 15}
_LARGE_LINES, _LARGE_BYTES = 2_000, 128 * 1024
_PRODUCTION = ("prod", "prod-*", "prod_*", "production", "production-*", "production_*", "live")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call acts: the repository's default branch and environment, "" where there is none."""

    default_branch: str = ""
    environment: str = ""


NOWHERE = Place()


def assess(
    tool: Tool, arguments: Mapping[str, Any], place: Place = NOWHERE, *, opinion: RiskScore | None = None
) -> RiskScore:
    """The risk of one call, never below what the tool itself says of it. opinion: a model's; it may raise the risk."""
    said = tool.risk(arguments)
    if tool.effect is Effect.READ and said.level is Risk.LOW and opinion is None:
        return _reading(said)
    score = _BASE[said.level]
    reasons = list(said.reasons)
    for factor in _FACTORS:
        more, why = factor(tool, arguments, place)
        if more:
            score += more
            if why not in reasons:
                reasons.append(why)
    score = min(score, 100)
    found = RiskScore(level=_level(score, said.level), reasons=tuple(reasons), score=score)
    return found if opinion is None else raised(found, opinion)


def assess_each(
    tool: Tool, calls: Sequence[Mapping[str, Any]], place: Place = NOWHERE, *, opinion: RiskScore | None = None
) -> RiskScore:
    """Of many calls the highest; that they are many counts too."""
    scores = [assess(tool, arguments, place, opinion=opinion) for arguments in calls]
    worst = max(scores, key=lambda score: (LEVELS.index(score.level), score.score))
    if len(calls) <= _MANY_CALLS or tool.effect is Effect.READ:
        return worst
    score = min(100, worst.score + 10)
    return replace(
        worst, score=score, level=_level(score, worst.level), reasons=(*worst.reasons, f"{len(calls)} calls at once")
    )


def raised(found: RiskScore, opinion: RiskScore) -> RiskScore:
    """The higher of both; what the opinion would lower is not heard."""
    level = max(found.level, opinion.level, key=LEVELS.index)
    if level is found.level:
        return found
    return RiskScore(level=level, reasons=(*found.reasons, *opinion.reasons), score=max(found.score, _BASE[level]))


def opinion_of(given: Any) -> RiskScore | None:
    """A model's opinion as it is kept ({level, reasons}); None where it is none."""
    if not isinstance(given, Mapping) or given.get("level") not in {str(level) for level in LEVELS}:
        return None
    reasons = given.get("reasons")
    told = [str(reason)[:300] for reason in reasons[:5]] if isinstance(reasons, list) else []
    return RiskScore(level=Risk(given["level"]), reasons=tuple(told))


_READS: dict[tuple[str, ...], RiskScore] = {}


def _reading(said: RiskScore) -> RiskScore:
    """One value for all that only read: maps ask for thousands."""
    known = _READS.get(said.reasons)
    if known is None:
        known = RiskScore(level=Risk.LOW, reasons=said.reasons, score=_READING)
        if len(_READS) < 1000:
            _READS[said.reasons] = known
    return known


def _level(score: int, least: Risk) -> Risk:
    by_score = Risk.HIGH if score >= HIGH_FROM else Risk.MEDIUM if score >= MEDIUM_FROM else Risk.LOW
    return max(by_score, least, key=LEVELS.index)


def _branch(tool: Tool, arguments: Mapping[str, Any], place: Place) -> tuple[int, str]:
    """A push to, or a rebase of, the branch that others build on."""
    if not place.default_branch or tool.name not in _MOVES:
        return 0, ""
    if branch_of(tool.name, arguments) != place.default_branch:
        return 0, ""
    return _MOVES[tool.name], f"{place.default_branch} is the branch that others build on"


def _environment(tool: Tool, arguments: Mapping[str, Any], place: Place) -> tuple[int, str]:
    """What leaves the workspace of a production repository."""
    if not place.environment or tool.effect is not Effect.ONCE:
        return 0, ""
    if not any(fnmatchcase(place.environment.lower(), name) for name in _PRODUCTION):
        return 0, ""
    return 20, f"the repository's environment is {place.environment}"


def _size(tool: Tool, arguments: Mapping[str, Any], place: Place) -> tuple[int, str]:
    """Much text at once, or many files."""
    content = arguments.get("content")
    if isinstance(content, str) and (len(content) > _LARGE_BYTES or content.count("\n") > _LARGE_LINES):
        return 10, f"a large change: {content.count(chr(10)) + 1:,} lines"
    paths = arguments.get("paths")
    if isinstance(paths, list) and len(paths) > _MANY_PATHS:
        return 10, f"it is about {len(paths)} paths"
    return 0, ""


def _blast(tool: Tool, arguments: Mapping[str, Any], place: Place) -> tuple[int, str]:
    """A command about everything there is."""
    argv = arguments.get("argv")
    words = argv if isinstance(argv, list) else []
    wide = [word for word in words[1:] if word in (".", "./", "/", "*", "..")]
    if wide and words[0] in ("rm", "chmod", "chown", "mv", "find", "sed", "truncate"):
        return 10, f"{words[0]} is about all of {wide[0]}"
    return 0, ""


_FACTORS: tuple[Callable[[Tool, Mapping[str, Any], Place], tuple[int, str]], ...] = (
    _branch,
    _environment,
    _size,
    _blast,
)
