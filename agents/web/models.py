"""The page of models: which endpoints there are, how they do, and what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import Avg, Count, Q, QuerySet, Sum
from django.db.models.functions import TruncDate
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from agents.llm.routing import SERVER
from agents.models import Capability, LlmCall, ModelEndpoint, ModelRoute, RouteEntry
from agents.selectors import visible_jobs
from agents.web.bars import Bars, stacked
from agents.web.views import page, who
from agents.web.words import duration, money

DAYS = 14
RECENT = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An endpoint with what it did in the last days, as people read it. row: None for the settings' own."""

    name: str
    model: str
    address: str
    row: ModelEndpoint | None
    scripted: bool
    state: str
    badge: str
    calls: int
    failed: int
    success: str
    latency: str
    tokens: str
    kept: str
    cost: str


@page
@require_safe
def models(request: HttpRequest) -> HttpResponse:
    user, now = who(request), timezone.now()
    calls = LlmCall.objects.filter(at__gte=now - timedelta(days=DAYS))
    if not user.has_perm("agents.view_llmcall"):
        calls = calls.filter(job__in=visible_jobs(user))
    found = lines(calls, now)
    names = [one.name for one in found]
    context = {
        "tab": "models",
        "lines": found,
        "routes": ModelRoute.objects.prefetch_related("entries__endpoint"),
        "days": DAYS,
        "spend": by_day(calls, now, "cost", colours=names),
        "tokens": by_day(calls, now, "tokens", colours=names),
        "kept": _kept(calls),
        "failures": calls.exclude(error_code="").select_related("job").order_by("-at")[:RECENT],
        "may_change": user.is_staff and user.has_perm("agents.change_modelendpoint"),
    }
    return render(request, "agents/models.html", context)


def lines(calls: QuerySet[LlmCall], now: datetime) -> list[Line]:
    """Every endpoint, those that are rows first by name; those that were asked and are none any more last."""
    sums: dict[str, dict[str, Any]] = {
        one["endpoint_name"]: dict(one)
        for one in calls.order_by()
        .values("endpoint_name")
        .annotate(
            calls=Count("pk", filter=Q(from_cache=False)),
            failed=Count("pk", filter=~Q(error_code="")),
            hits=Count("pk", filter=Q(from_cache=True)),
            latency=Avg("latency_ms", filter=Q(error_code="", from_cache=False)),
            tokens=Sum("prompt_tokens") + Sum("completion_tokens"),
            cost=Sum("cost"),
        )
    }
    rows = {row.name: row for row in ModelEndpoint.objects.all()}
    asked = set(RouteEntry.objects.values_list("endpoint__name", flat=True))
    if not ModelRoute.objects.filter(is_default=True).exists():
        asked.add(SERVER)
    shown = [*rows, *([SERVER] if SERVER in asked else []), *(name for name in sums if name)]
    return [
        _line(name, rows.get(name), sums.get(name, {}), _state(name, rows.get(name), name in asked, now))
        for name in dict.fromkeys(shown)
    ]


def _state(name: str, row: ModelEndpoint | None, asked: bool, now: datetime) -> tuple[str, str]:
    """In words, and the badge. asked: calls go there, by a route or for want of one."""
    if row is None and not asked:
        return ("not asked", "paused") if name == SERVER else ("gone", "paused")
    if row is None:
        return "ready", "succeeded"
    if not row.enabled:
        return "off", "paused"
    if row.open_until is not None and row.open_until > now:
        return f"left alone for {duration(row.open_until - now)}", "failed"
    if row.failures:
        return f"failed {row.failures} time{'s' if row.failures != 1 else ''} in a row", "waiting"
    if not asked and Capability.CHAT in row.capabilities:
        return "on no route", "paused"
    return "ready", "succeeded"


def _line(name: str, row: ModelEndpoint | None, sums: dict[str, Any], state: tuple[str, str]) -> Line:
    calls, failed, hits = sums.get("calls") or 0, sums.get("failed") or 0, sums.get("hits") or 0
    return Line(
        name=name,
        model=row.model if row else settings.LLM_MODEL if name == SERVER else "",
        address=row.base_url if row else settings.LLM_BASE_URL if name == SERVER else "",
        row=row,
        scripted=row.scripted if row else name == SERVER and bool(settings.LLM_SCRIPTED),
        state=state[0],
        badge=state[1],
        calls=calls,
        failed=failed,
        success=f"{100 * (calls - failed) / calls:.0f}%" if calls else "",
        latency=duration(sums["latency"] / 1000) if sums.get("latency") is not None else "",
        tokens=_short(sums.get("tokens") or 0),
        kept=f"{100 * hits / (calls + hits):.0f}%" if hits else "",
        cost=money(sums.get("cost") or Decimal(0)),
    )


def by_day(
    calls: QuerySet[LlmCall], now: datetime, what: str, kind: str = "endpoint_name", colours: Sequence[str] = ()
) -> Bars:
    """The last days' cost or tokens, by endpoint (or by another column of the ledger)."""
    today = timezone.localdate(now)
    days = [today - timedelta(days=back) for back in reversed(range(DAYS))]
    total = Sum("cost") if what == "cost" else Sum("prompt_tokens") + Sum("completion_tokens")
    rows = calls.order_by().annotate(day=TruncDate("at")).values("day", kind).annotate(total=total)
    values: dict[tuple[date, str], float] = {}
    for row in rows:
        key = (row["day"], row[kind] or SERVER)
        values[key] = values.get(key, 0.0) + float(row["total"] or 0)
    return stacked(days, values, words=_dollars if what == "cost" else _short, colours=colours)


def _dollars(value: float) -> str:
    return money(value)


def _short(value: float) -> str:
    """`812`, `3.4k`, `12k`, `1.2M`."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if value >= size:
            return f"{value / size:.1f}".removesuffix(".0") + unit if value < 10 * size else f"{value / size:.0f}{unit}"
    return f"{value:.0f}"


def _kept(calls: QuerySet[LlmCall]) -> dict[str, Any]:
    found = calls.aggregate(hits=Count("pk", filter=Q(from_cache=True)), all=Count("pk"))
    rate = f"{100 * found['hits'] / found['all']:.1f}%" if found["all"] else ""
    return {"hits": found["hits"], "rate": rate}
