"""What else of a call a rule asks for (`PolicyRule.match`): a closed schema, compiled into tests.

Everything that stands there must fit. A rule that allows is held to it strictly: what cannot be told does not fit, and
of several programs each must fit. A rule that asks or denies fits already where one program does, or where it cannot
be told.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from approvals.policy import clock
from approvals.policy.inputs import PolicyInput, budget_key
from approvals.policy.match import Patterns, valid
from tools.egress.allowlist import Allowlist
from tools.errors import ToolRefused

LENGTH_MAX, LIST_MAX = 200, 100
EFFECTS, RISKS = ("read", "repeatable", "once"), ("low", "medium", "high")
ACCOUNTS = ("job", "owner", "agent", "tenant")
MEASURES = ("calls", "tokens", "minutes")
HOURS_MAX = 31 * 24
_LISTS = (
    *("programs", "secrets", "agents", "owners", "groups", "tenants"),
    *("repositories", "branches", "environments", "after", "carries", "exposed"),
)
_FLAGS = ("unplanned", "tainted")
_CHOICES = {"effects": EFFECTS, "risks": RISKS}
FIELDS = frozenset({*_LISTS, *_CHOICES, "network", "labels", "risk_at_least", "time", "first_use", "spent", *_FLAGS})
_SPENT = frozenset({"per", "hours", "tools", *MEASURES})

Test = Callable[[PolicyInput, bool], bool]


@dataclass(frozen=True, slots=True)
class Matcher:
    """reads: the facts beside the call and its job that it asks for: "programs", "branch", "network", "secrets",
    "risk_score", "carries", "first_use", "seen", "provenance", "time", and "spent:" with an account."""

    tests: tuple[tuple[str, Test], ...]
    reads: frozenset[str]
    effects: Patterns | None = None
    carries: Patterns | None = None

    def concerns(self, effect: str, carries: Iterable[str]) -> bool:
        """Can it fit any call of this effect that carries some of these labels? False where that is plain to see."""
        if self.effects is not None and not self.effects.fit(effect):
            return False
        return self.carries is None or any(self.carries.fit(label) for label in carries)

    def fits(self, given: PolicyInput, *, strict: bool) -> bool:
        """strict: of a rule that allows."""
        return all(test(given, strict) for _, test in self.tests)

    def misfits(self, given: PolicyInput, *, strict: bool) -> list[str]:
        """The fields that do not fit, for people who ask why a rule does not match."""
        return [name for name, test in self.tests if not test(given, strict)]


ANYTHING = Matcher((), frozenset())
NOTHING = Matcher((("match", lambda call, strict: False),), frozenset())


def problems(match: Any) -> list[str]:
    """What is wrong with a rule's `match`, in words; nothing where it can be compiled."""
    if not isinstance(match, dict):
        return ["match must be an object."]
    known = ", ".join(sorted(FIELDS))
    found = [f"match has no {name!r}; it has {known}." for name in sorted(set(match) - FIELDS)]
    for name in _LISTS:
        if name in match:
            found += _list_problems(f"match.{name}", match[name])
    for name, choices in _CHOICES.items():
        if name in match and (not _texts(match[name]) or any(one not in choices for one in match[name])):
            found.append(f"match.{name} must be a list of {', '.join(choices)}.")
    if "network" in match:
        found += _network_problems(match["network"])
    if "labels" in match:
        found += _label_problems(match["labels"])
    if "risk_at_least" in match and not _whole(match["risk_at_least"], 1, 100):
        found.append("match.risk_at_least must be a whole number from 1 to 100.")
    for name in ("first_use", *_FLAGS):
        if not isinstance(match.get(name, True), bool):
            found.append(f"match.{name} must be true or false.")
    if "time" in match:
        found += [f"match.{problem}" for problem in clock.problems(match["time"])]
    if "spent" in match:
        found += _spent_problems(match["spent"])
    return found


def compiled(match: Mapping[str, Any]) -> Matcher:
    """Of a `match` without problems."""
    if not match:
        return ANYTHING
    tests: list[tuple[str, Test]] = []
    reads: set[str] = set()
    for name in sorted(match):
        test, read = _BUILT[name](match[name])
        tests.append((name, test))
        reads |= read
    effects, carries = (Patterns(match[name]) if name in match else None for name in ("effects", "carries"))
    return Matcher(tuple(tests), frozenset(reads), effects, carries)


def _value(of: Callable[[PolicyInput], str]) -> Callable[[Any], tuple[Test, set[str]]]:
    def build(given: Any) -> tuple[Test, set[str]]:
        patterns = Patterns(given)
        return lambda call, strict: patterns.fit(of(call)), set()

    return build


def _groups(given: Any) -> tuple[Test, set[str]]:
    patterns = Patterns(given)
    return lambda call, strict: any(patterns.fit(group) for group in call.groups), set()


def _programs(given: Any) -> tuple[Test, set[str]]:
    patterns = Patterns(given)

    def test(call: PolicyInput, strict: bool) -> bool:
        if call.programs is None:
            return not strict
        if not call.programs:
            return False
        if strict and (command := call.command) is not None and command["unlisted"]:
            return False  # of an option that is not understood nobody can tell what it runs
        return (all if strict else any)(patterns.fit(program) for program in call.programs)

    return test, {"programs"}


def _secrets(given: Any) -> tuple[Test, set[str]]:
    patterns = Patterns(given)

    def test(call: PolicyInput, strict: bool) -> bool:
        if call.secrets is None:
            return not strict
        return bool(call.secrets) and (all if strict else any)(patterns.fit(name) for name in call.secrets)

    return test, {"secrets"}


def _branches(given: Any) -> tuple[Test, set[str]]:
    patterns = Patterns(given)

    def test(call: PolicyInput, strict: bool) -> bool:
        if call.target_branch is None:
            return not strict
        return call.target_branch != "" and patterns.fit(call.target_branch)

    return test, {"branch"}


def _network(given: Any) -> tuple[Test, set[str]]:
    anywhere = "*" in given
    listed = Allowlist.parse(one for one in given if one != "*")

    def test(call: PolicyInput, strict: bool) -> bool:
        hosts = call.network
        if hosts is None:
            return not strict
        if anywhere or not hosts:
            return bool(hosts)
        if not strict:
            return bool(Allowlist.parse(hosts).within(listed))
        return all(Allowlist.parse([host]).within(listed).words() == [host] for host in hosts)

    return test, {"network"}


def _choice(of: Callable[[PolicyInput], str]) -> Callable[[Any], tuple[Test, set[str]]]:
    def build(given: Any) -> tuple[Test, set[str]]:
        chosen = frozenset(given)
        return lambda call, strict: of(call) in chosen, set()

    return build


def _labels(given: Any) -> tuple[Test, set[str]]:
    wanted = {name: Patterns(patterns) for name, patterns in given.items()}

    def test(call: PolicyInput, strict: bool) -> bool:
        return all(name in call.labels and patterns.fit(str(call.labels[name])) for name, patterns in wanted.items())

    return test, set()


def _risk_at_least(given: Any) -> tuple[Test, set[str]]:
    return lambda call, strict: call.risk_score >= given, {"risk_score"}


def _time(given: Any) -> tuple[Test, set[str]]:
    window = clock.window(given)
    return lambda call, strict: (not strict) if call.now is None else window.holds(call.now), {"time"}


def _first_use(given: Any) -> tuple[Test, set[str]]:
    return lambda call, strict: (not strict) if call.first_use is None else call.first_use is given, {"first_use"}


def _after(given: Any) -> tuple[Test, set[str]]:
    patterns = Patterns(given)

    def test(call: PolicyInput, strict: bool) -> bool:
        return (not strict) if call.seen is None else any(patterns.fit(label) for label in call.seen)

    return test, {"seen"}


def _carries(given: Any) -> tuple[Test, set[str]]:
    patterns = Patterns(given)

    def test(call: PolicyInput, strict: bool) -> bool:
        carries = call.carries
        return (not strict) if carries is None else any(patterns.fit(label) for label in carries)

    return test, {"carries"}


def _exposed(given: Any) -> tuple[Test, set[str]]:
    each = [Patterns([one]) for one in given]

    def test(call: PolicyInput, strict: bool) -> bool:
        found = call.exposed
        return (not strict) if found is None else all(any(one.fit(label) for label in found) for one in each)

    return test, {"seen", "carries"}


def _unplanned(given: Any) -> tuple[Test, set[str]]:
    return lambda call, strict: (not strict) if call.unplanned is None else call.unplanned is given, {"provenance"}


def _tainted(given: Any) -> tuple[Test, set[str]]:
    return lambda call, strict: (not strict) if call.tainted is None else bool(call.tainted) is given, {"provenance"}


def _spent(given: Any) -> tuple[Test, set[str]]:
    account = budget_key(given["per"], given.get("hours", 0), tuple(given.get("tools", ["*"])))
    bounds = [(measure, given[measure]) for measure in MEASURES if measure in given]

    def test(call: PolicyInput, strict: bool) -> bool:
        spent = call.spent.get(account)
        return (not strict) if spent is None else any(spent[measure] >= bound for measure, bound in bounds)

    return test, {f"spent:{account}"}


_BUILT: dict[str, Callable[[Any], tuple[Test, set[str]]]] = {
    "agents": _value(lambda call: call.agent),
    "owners": _value(lambda call: call.owner),
    "tenants": _value(lambda call: call.tenant),
    "repositories": _value(lambda call: call.repository),
    "environments": _value(lambda call: call.environment),
    "groups": _groups,
    "programs": _programs,
    "secrets": _secrets,
    "branches": _branches,
    "network": _network,
    "effects": _choice(lambda call: str(call.effect)),
    "risks": _choice(lambda call: str(call.risk)),
    "labels": _labels,
    "risk_at_least": _risk_at_least,
    "time": _time,
    "first_use": _first_use,
    "after": _after,
    "carries": _carries,
    "exposed": _exposed,
    "unplanned": _unplanned,
    "tainted": _tainted,
    "spent": _spent,
}


def _texts(given: Any) -> bool:
    return (
        isinstance(given, list)
        and 0 < len(given) <= LIST_MAX
        and all(isinstance(one, str) and 0 < len(one) <= LENGTH_MAX for one in given)
    )


def _list_problems(name: str, given: Any) -> list[str]:
    if _texts(given):
        return []
    return [f"{name} must be a list of 1 to {LIST_MAX} patterns, each a text of up to {LENGTH_MAX} characters."]


def _network_problems(given: Any) -> list[str]:
    if _texts(given):
        try:
            Allowlist.parse(one for one in given if one != "*")
        except ToolRefused as error:
            return [f"match.network: {error.message}"]
        return []
    return [f"match.network must be a list of 1 to {LIST_MAX} hosts such as pypi.org, *.example.org, or * for any."]


def _label_problems(given: Any) -> list[str]:
    if not isinstance(given, dict) or not 0 < len(given) <= LIST_MAX:
        return ["match.labels must be an object of lists of patterns, by label."]
    return [problem for name in sorted(given) for problem in _list_problems(f"match.labels.{name}", given[name])]


def _spent_problems(given: Any) -> list[str]:
    if not isinstance(given, dict):
        return [f"match.spent must be an object with per and one of {', '.join(MEASURES)}."]
    known = ", ".join(sorted(_SPENT))
    found = [f"match.spent has no {name!r}; it has {known}." for name in sorted(set(given) - _SPENT)]
    if given.get("per") not in ACCOUNTS:
        found.append(f"match.spent.per must be one of {', '.join(ACCOUNTS)}.")
    if "hours" in given and not _whole(given["hours"], 1, HOURS_MAX):
        found.append(f"match.spent.hours must be a whole number from 1 to {HOURS_MAX}.")
    if "hours" not in given and given.get("per") in ACCOUNTS and given["per"] != "job":
        found.append("match.spent.hours is needed, but for a job.")
    if "tools" in given and (not _texts(given["tools"]) or not all(valid(one) for one in given["tools"])):
        found.append("match.spent.tools must be a list of patterns of tool names.")
    if not any(measure in given for measure in MEASURES):
        found.append(f"match.spent needs one of {', '.join(MEASURES)}.")
    for measure in MEASURES:
        if measure in given and not _whole(given[measure], 1, 10**12):
            found.append(f"match.spent.{measure} must be a whole number of at least 1.")
    return found


def _whole(given: Any, least: int, most: int) -> bool:
    return isinstance(given, int) and not isinstance(given, bool) and least <= given <= most
