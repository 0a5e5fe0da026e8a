"""A rule's `match` and `constraints` as fields of a form, and back."""

from collections.abc import Mapping
from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from approvals.policy import clock, matching
from tools import constraints as enforced

DAYS = [(day, day.capitalize()) for day in clock.DAYS]
_LISTS = {
    "programs": ("Programs", "What a command runs: pytest, npm. Patterns with *, comma between."),
    "network": ("Network", "Hosts that the call asks to reach: pypi.org, *.example.org; * is any."),
    "secrets": ("Secrets", "Handles of secrets that the call asks for: deploy-*; * is any."),
    "agents": ("Agents", "Names, comma between; * stands for anything."),
    "owners": ("Owners", "Usernames of who submitted the job."),
    "groups": ("Owners' groups", "The owner is in one of these."),
    "tenants": ("Tenants", ""),
    "repositories": ("Repositories", ""),
    "branches": ("Branches", "The branch that the call changes or reads: main, release/*"),
    "environments": ("Environments", "Of the repository: production, prod*"),
    "after": ("After labels", "The job has used a call that gives one of these: private"),
    "carries": ("Call's own labels", "One of untrusted (it reads what others wrote), private, egress (it sends)."),
    "exposed": ("Exposed to all of", "The job with this call: untrusted, private, egress"),
}
_FLAGS = {
    "unplanned": ("Planned", "in no plan from before it read what others wrote", "in such a plan"),
    "tainted": ("Arguments", "with values from what others wrote", "without"),
}
_SPENT = ("calls", "tokens", "minutes")


def words(label: str, help_text: str = "") -> forms.CharField:
    """A list of words in a line."""
    return forms.CharField(required=False, label=label, help_text=help_text, widget=UnfoldAdminTextInputWidget())


def whole(label: str, help_text: str = "", *, most: int = 10**9) -> forms.IntegerField:
    return forms.IntegerField(
        required=False,
        label=label,
        help_text=help_text,
        min_value=1,
        max_value=most,
        widget=UnfoldAdminIntegerFieldWidget(),
    )


def choice(label: str, choices: list[tuple[str, str]], help_text: str = "") -> forms.ChoiceField:
    return forms.ChoiceField(
        required=False, label=label, choices=choices, help_text=help_text, widget=UnfoldAdminSelectWidget()
    )


def several(label: str, choices: list[tuple[str, str]]) -> forms.MultipleChoiceField:
    return forms.MultipleChoiceField(
        required=False, label=label, choices=choices, widget=UnfoldAdminCheckboxSelectMultipleWidget()
    )


def match_fields() -> dict[str, forms.Field]:
    """By name, in the order of the page."""
    found: dict[str, forms.Field] = {f"match_{name}": words(*told) for name, told in _LISTS.items()}
    found["match_effects"] = several("Tool's effect", [(one, one) for one in matching.EFFECTS])
    found["match_risks"] = several("Risk", [(one, one) for one in matching.RISKS])
    found["match_risk_at_least"] = whole("Risk score at least", "1 to 100", most=100)
    found["match_first_use"] = choice(
        "First use",
        [("", "does not matter"), ("true", "the agent's first use of the tool"), ("false", "not the first")],
    )
    for name, (label, yes, no) in _FLAGS.items():
        found[f"match_{name}"] = choice(label, [("", "does not matter"), ("true", yes), ("false", no)])
    found["match_labels"] = forms.CharField(
        required=False,
        label="Job's labels",
        help_text="A line each: env: production, staging",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
    )
    found["match_days"] = several("Days", DAYS)
    found["match_from"] = words("From", "09:00")
    found["match_to"] = words("To", "17:00")
    found["match_zone"] = words("Time zone", "Europe/Berlin, UTC. Needed with days or hours.")
    found["match_outside"] = forms.BooleanField(required=False, label="All times but these")
    found["match_spent_per"] = choice("Spent by the", [("", "-"), *((one, one) for one in matching.ACCOUNTS)])
    found["match_spent_hours"] = whole("within hours", "Empty: ever (for a job only).", most=matching.HOURS_MAX)
    found["match_spent_tools"] = words("by tools", "Empty: all.")
    for name in _SPENT:
        found[f"match_spent_{name}"] = whole(f"at least {name}", most=10**12)
    return found


def constraint_fields() -> dict[str, forms.Field]:
    """By name, in the order of the page."""
    told = {"read": "read: nothing may be written", "build": "build: the work tree", "git": "git: the repository too"}
    found: dict[str, forms.Field] = {
        "how_profile": choice("Most that it may write", [("", "as its tool asks"), *told.items()]),
        "how_network": words(
            "Network", "none, or hosts that may be reached: git.example.org. Empty: as its call asks."
        ),
        "how_dry_run": forms.BooleanField(required=False, label="Make and record a preview first"),
        "how_gives": words("Gives labels", "What the job has once it ran, for other rules' “after”: private"),
    }
    for name in enforced.LIMITS:
        found[f"how_{name}"] = whole(f"At most {name.replace('_', ' ')}", most=10**7)
    return found


def match_initial(match: Mapping[str, Any]) -> dict[str, Any]:
    """What the fields show of a `match`."""
    found: dict[str, Any] = {f"match_{name}": ", ".join(match.get(name, [])) for name in _LISTS}
    for name in ("effects", "risks"):
        found[f"match_{name}"] = match.get(name, [])
    found["match_risk_at_least"] = match.get("risk_at_least")
    for name in ("first_use", *_FLAGS):
        found[f"match_{name}"] = {True: "true", False: "false"}.get(match.get(name), "")  # type: ignore[arg-type]
    labels = match.get("labels", {})
    found["match_labels"] = "\n".join(f"{name}: {', '.join(values)}" for name, values in labels.items())
    time = match.get("time", {})
    for name in ("from", "to", "zone", "outside"):
        found[f"match_{name}"] = time.get(name, "")
    found["match_days"] = time.get("days", [])
    spent = match.get("spent", {})
    for name in ("per", "hours", *_SPENT):
        found[f"match_spent_{name}"] = spent.get(name)
    found["match_spent_tools"] = ", ".join(spent.get("tools", []))
    return found


def match_of(cleaned: Mapping[str, Any]) -> dict[str, Any]:
    """The `match` that the fields say. What is wrong with it `matching.problems` tells."""
    found: dict[str, Any] = {}
    for name in _LISTS:
        if given := listed(cleaned.get(f"match_{name}", "")):
            found[name] = given
    for name in ("effects", "risks"):
        if chosen := cleaned.get(f"match_{name}"):
            found[name] = list(chosen)
    if cleaned.get("match_risk_at_least"):
        found["risk_at_least"] = cleaned["match_risk_at_least"]
    for name in ("first_use", *_FLAGS):
        if cleaned.get(f"match_{name}"):
            found[name] = cleaned[f"match_{name}"] == "true"
    labels: dict[str, list[str]] = {}
    for line in str(cleaned.get("match_labels", "")).splitlines():
        name, _, values = line.partition(":")
        if line.strip():
            labels[name.strip()] = listed(values)
    time = {
        name: cleaned[f"match_{name}"] for name in ("from", "to", "zone", "outside") if cleaned.get(f"match_{name}")
    }
    if cleaned.get("match_days"):
        time["days"] = list(cleaned["match_days"])
    spent: dict[str, Any] = {
        name: cleaned[f"match_spent_{name}"] for name in ("per", "hours", *_SPENT) if cleaned.get(f"match_spent_{name}")
    }
    if tools := listed(cleaned.get("match_spent_tools", "")):
        spent["tools"] = tools
    return found | {name: value for name, value in (("labels", labels), ("time", time), ("spent", spent)) if value}


def constraint_initial(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the fields show of `constraints`."""
    network = given.get("network", "")
    found: dict[str, Any] = {
        "how_profile": given.get("profile", ""),
        "how_network": network if isinstance(network, str) else ", ".join(network),
        "how_dry_run": given.get("dry_run", False),
        "how_gives": ", ".join(given.get("gives", [])),
    }
    return found | {f"how_{name}": given.get("limits", {}).get(name) for name in enforced.LIMITS}


def constraints_of(cleaned: Mapping[str, Any]) -> dict[str, Any]:
    """The `constraints` that the fields say."""
    found: dict[str, Any] = {}
    if cleaned.get("how_profile"):
        found["profile"] = cleaned["how_profile"]
    hosts = listed(cleaned.get("how_network", ""))
    if hosts:
        found["network"] = "none" if hosts == ["none"] else hosts
    limits = {name: cleaned[f"how_{name}"] for name in enforced.LIMITS if cleaned.get(f"how_{name}")}
    if limits:
        found["limits"] = limits
    if cleaned.get("how_dry_run"):
        found["dry_run"] = True
    if labels := listed(cleaned.get("how_gives", "")):
        found["gives"] = labels
    return found


def listed(text: str) -> list[str]:
    """Words between commas or line ends."""
    return [word.strip() for word in str(text).replace("\n", ",").split(",") if word.strip()]


def field_of(message: str) -> str:
    """The form's field that a problem of `match` or `constraints` is about; "" where it is none of them."""
    parts = message.split(" ", 1)[0].split(".")
    if len(parts) < 2 or parts[0] not in ("match", "constraints"):
        return ""
    names = {"match": "match_", "constraints": "how_"}
    inner = parts[1:]
    if inner[0] == "spent":
        return f"match_spent_{inner[1]}" if len(inner) > 1 else "match_spent_per"
    if inner[0] in ("time", "limits"):
        inner = inner[1:] or ["zone"]
    return names[parts[0]] + inner[0]
