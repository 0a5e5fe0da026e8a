"""Which endpoints a call may go to, in what order: the agent's route, less those that cannot do what it needs."""

import random
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.db.models import Avg

from agents.llm.values import Endpoint, Usage
from agents.models import Agent, Capability, LlmCall, ModelEndpoint, ModelRoute, RouteEntry
from tools import secrets

SERVER = "server"  # the name of the settings' endpoint, where there are no rows
LATENCY_OVER = timedelta(hours=1)
UNKNOWN_LATENCY_MS = 1e9
MILLION = Decimal(1_000_000)


class NoEndpoint(Exception):
    """No enabled endpoint of the route can do what the call needs; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One endpoint that a call may go to. endpoint_id is None for the settings' own; prices are US dollars a million
    tokens."""

    name: str
    base_url: str
    model: str
    key: str = ""
    endpoint_id: UUID | None = None
    route: str = ""
    capabilities: frozenset[str] = frozenset({Capability.CHAT, Capability.TOOLS})
    context_tokens: int = 0
    output_tokens: int = 8192
    prompt_price: Decimal = Decimal(0)
    cached_price: Decimal = Decimal(0)
    completion_price: Decimal = Decimal(0)
    timeout_s: float = 120.0
    cache_s: int = 0
    dimensions: int | None = None
    limited: bool = False  # its row bounds how much it may be asked
    private: bool = True
    scripted: bool = False

    def endpoint(self, *, tool: str) -> Endpoint:
        """Address and key, at the moment of use.

        Raises:
            ToolRefused: the key's handle may not be used so.
        """
        if self.endpoint_id is None:
            return Endpoint(base_url=self.base_url, api_key=settings.LLM_API_KEY)
        key = secrets.resolve(self.key, tool=tool, host=host_of(self.base_url)) if self.key else ""
        return Endpoint(base_url=self.base_url, api_key=key)

    def said(self, what: str) -> str:
        """With its name, where there are several."""
        return what if self.endpoint_id is None else f"{self.name}: {what}"

    def price(self, usage: Usage) -> Decimal:
        """US dollars."""
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        prompt = self.prompt_price * (usage.prompt_tokens - cached) + self.cached_price * cached
        return ((prompt + self.completion_price * usage.completion_tokens) / MILLION).quantize(Decimal("0.000001"))


def targets(
    agent: Agent | None, *, needs: Collection[str], now: datetime, private: bool = False, route: str = ""
) -> list[Target]:
    """The endpoints to try, best first.

    needs: capabilities, all of which it must have; private: what is asked is labelled so; route: by name, instead of
    the agent's.

    Raises:
        NoEndpoint
    """
    chosen = _route(agent, route)
    if chosen is None:
        return [_of_row(one, "") for one in _unrouted(needs, private, now)] or [_settings(agent)]
    entries = list(RouteEntry.objects.filter(route=chosen, endpoint__enabled=True).select_related("endpoint"))
    able = [one for one in entries if _able(one.endpoint, needs, private)]
    if not able:
        wanted = ", ".join(sorted(needs)) or "answers"
        raise NoEndpoint(f"No enabled endpoint of the route {chosen.name} can do this ({wanted}).")
    ordered: list[RouteEntry] = []
    for _, tier in groupby(sorted(able, key=lambda one: one.order), key=lambda one: one.order):
        ordered += _sorted(list(tier), chosen.strategy, now)
    # one that is out of order is still the last resort: better a try than nothing
    ordered.sort(key=lambda one: _closed_off(one.endpoint, now))
    return [_of_row(one.endpoint, chosen.name) for one in ordered]


def _route(agent: Agent | None, name: str) -> ModelRoute | None:
    if name:
        found = ModelRoute.objects.filter(name=name).first()
        if found is None:
            raise NoEndpoint(f"There is no route {name!r}.")
        return found
    if agent is not None and agent.route_id is not None:
        return agent.route
    return ModelRoute.objects.filter(is_default=True).first()


def _unrouted(needs: Collection[str], private: bool, now: datetime) -> list[ModelEndpoint]:
    """Without any route: what the settings' endpoint surely cannot do (vectors) is asked of those that can."""
    if Capability.EMBEDDINGS not in needs:
        return []
    able = [one for one in ModelEndpoint.objects.filter(enabled=True) if _able(one, needs, private)]
    if not able:
        raise NoEndpoint("No enabled endpoint turns texts into vectors.")
    return sorted(able, key=lambda one: _closed_off(one, now))


def _able(endpoint: ModelEndpoint, needs: Collection[str], private: bool) -> bool:
    return set(needs) <= set(endpoint.capabilities) and (endpoint.private or not private)


def _closed_off(endpoint: ModelEndpoint, now: datetime) -> bool:
    return endpoint.open_until is not None and endpoint.open_until > now


def _sorted(tier: list[RouteEntry], strategy: str, now: datetime) -> list[RouteEntry]:
    if strategy == ModelRoute.Strategy.WEIGHT:
        # Efraimidis and Spirakis (2006): a weighted order without replacement
        return sorted(tier, key=lambda one: random.random() ** (1 / one.weight), reverse=True)
    if strategy == ModelRoute.Strategy.COST:
        return sorted(tier, key=lambda one: one.endpoint.prompt_price + one.endpoint.completion_price)
    if strategy == ModelRoute.Strategy.LATENCY:
        lately = _latencies([one.endpoint.name for one in tier], now)
        return sorted(tier, key=lambda one: lately.get(one.endpoint.name, UNKNOWN_LATENCY_MS))
    return tier


def _latencies(names: list[str], now: datetime) -> dict[str, float]:
    ended = LlmCall.objects.filter(
        endpoint_name__in=names, at__gte=now - LATENCY_OVER, error_code="", from_cache=False, state=LlmCall.State.ENDED
    )
    return dict(ended.order_by().values_list("endpoint_name").annotate(ms=Avg("latency_ms")))


def _of_row(row: ModelEndpoint, route: str) -> Target:
    return Target(
        name=row.name,
        base_url=row.base_url,
        model=row.model,
        key=row.key,
        endpoint_id=row.pk,
        route=route,
        capabilities=frozenset(row.capabilities),
        context_tokens=row.context_tokens,
        output_tokens=row.output_tokens,
        prompt_price=row.prompt_price,
        cached_price=row.prompt_price if row.cached_price is None else row.cached_price,
        completion_price=row.completion_price,
        timeout_s=float(row.timeout_s),
        cache_s=row.cache_s,
        dimensions=row.dimensions,
        limited=any(one is not None for one in (row.max_running, row.calls_a_minute, row.tokens_a_minute)),
        private=row.private,
        scripted=row.scripted,
    )


def _settings(agent: Agent | None) -> Target:
    return Target(
        name=SERVER,
        base_url=settings.LLM_BASE_URL,
        model=(agent.model if agent else "") or settings.LLM_MODEL,
        timeout_s=float(settings.LLM_TIMEOUT_S),
        scripted=bool(settings.LLM_SCRIPTED),
    )


def host_of(base_url: str) -> str:
    """`host:port`, as secrets are bound to it."""
    parts = urlsplit(base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.hostname}:{port}"
