"""The back office, on unfold. Jobs and what they did are read-only here; actions call the services that the API calls."""

from agents.admin import (
    accounts,
    catalogue,
    chat,
    endpoints,
    fairness,
    people,
    schedules,
    tokens,
    triggers,
    work,
    workflows,
)

__all__ = [
    "accounts",
    "catalogue",
    "chat",
    "endpoints",
    "fairness",
    "people",
    "schedules",
    "tokens",
    "triggers",
    "work",
    "workflows",
]
