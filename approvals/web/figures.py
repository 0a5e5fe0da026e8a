"""How people decide, a rule: how many they approve, and how long they take. Rules that are always approved within
seconds ask too much; rules that expire ask the wrong people."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from approvals import selectors
from approvals.models import ApprovalRequest
from approvals.web import base
from approvals.web.times import span

DAYS, SHOWN = 30, 5000
# seconds, and how the picture names them
STEPS = ((10, "10 s"), (60, "1 min"), (300, "5 min"), (900, "15 min"), (3600, "1 h"), (14_400, "4 h"))
BAR_W, BAR_H, GAP = 40, 56, 8
HASTY_S, HASTY_RATE, HASTY_LEAST = 10, 0.95, 10

State = ApprovalRequest.State


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar of the picture: x, y, width and height in its units; number: requests; words: under it."""

    x: int
    y: int
    height: int
    number: int
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """shares: (state, number, x and width in percent) of the decided ones; bars: decided by the time it took."""

    rule: str
    policy: str
    asked: int
    shares: list[tuple[str, int, float, float]]
    approve_rate: int | None
    median: str
    slow: str
    bars: list[Bar]
    advice: str


@base.page(*base.SAFE)
def rules(http: HttpRequest) -> HttpResponse:
    found = figures(base.user_of(http), timezone.now())
    context = {
        "figures": found,
        "days": DAYS,
        "width": (len(STEPS) + 1) * (BAR_W + GAP),
        "bar_width": BAR_W,
        "height": BAR_H,
        **base.sections(http, "rules"),
    }
    return render(http, "approvals/rules.html", context)


def figures(user: User, now: datetime) -> list[Figures]:
    """Of the requests of the last 30 days that this user sees, the rule that asks most first."""
    seen = selectors.visible(user).filter(
        kind=ApprovalRequest.Kind.APPROVAL, created_at__gte=now - timedelta(days=DAYS), grant=None
    )
    rows = seen.order_by("-created_at").values_list(
        "policy_version__policy__name", "rule", "state", "created_at", "decided_at"
    )[:SHOWN]
    rules: dict[tuple[str, str], list[tuple[str, float | None]]] = {}
    for policy, rule, state, created, decided in rows:
        took = (decided - created).total_seconds() if decided is not None else None
        rules.setdefault((policy or "", rule), []).append((state, took))
    made = [_figures(policy, rule, members) for (policy, rule), members in rules.items()]
    return sorted(made, key=lambda one: (-one.asked, one.rule))


def _figures(policy: str, rule: str, members: list[tuple[str, float | None]]) -> Figures:
    counts = {
        state: sum(1 for one, _ in members if one == state) for state in (State.APPROVED, State.DENIED, State.EXPIRED)
    }
    closed = sum(counts.values())
    decided = counts[State.APPROVED] + counts[State.DENIED]
    times = sorted(took for state, took in members if took is not None and state in {State.APPROVED, State.DENIED})
    rate = counts[State.APPROVED] / decided if decided else None
    return Figures(
        rule=rule,
        policy=policy,
        asked=len(members),
        shares=_shares(counts, closed),
        approve_rate=None if rate is None else round(100 * rate),
        median=_took(times[len(times) // 2]) if times else "",
        slow=_took(times[min(len(times) - 1, len(times) * 9 // 10)]) if times else "",
        bars=_bars(times),
        advice=_advice(rate, times, counts, closed),
    )


def _took(seconds: float) -> str:
    return span(seconds) if seconds >= 60 else f"{max(1, round(seconds))} s"


def _shares(counts: dict[Any, int], closed: int) -> list[tuple[str, int, float, float]]:
    found, x = [], 0.0
    for state, number in counts.items():
        width = 100 * number / closed if closed else 0.0
        if number:
            found.append((str(state), number, round(x, 2), round(width, 2)))
        x += width
    return found


def _bars(times: list[float]) -> list[Bar]:
    edges = [seconds for seconds, _ in STEPS]
    numbers = [0] * (len(edges) + 1)
    for took in times:
        numbers[next((place for place, edge in enumerate(edges) if took < edge), len(edges))] += 1
    most = max(numbers) or 1
    names = [words for _, words in STEPS] + ["more"]
    heights = [round(BAR_H * number / most) for number in numbers]
    return [
        Bar(x=place * (BAR_W + GAP), y=14 + BAR_H - height, height=height, number=number, words=words)
        for place, (number, height, words) in enumerate(zip(numbers, heights, names, strict=True))
    ]


def _advice(rate: float | None, times: list[float], counts: dict[Any, int], closed: int) -> str:
    if closed >= HASTY_LEAST and counts[State.EXPIRED] * 2 > closed:
        return "Most of these expire: does the rule ask the right people?"
    if rate is not None and len(times) >= HASTY_LEAST and rate >= HASTY_RATE and times[len(times) // 2] < HASTY_S:
        return "Nearly all are approved within seconds: does the rule need to ask?"
    return ""
