"""The back office, on unfold. Jobs and what they did are read-only here; actions call the services that the API calls."""

from agents.admin import catalogue, fairness, people, schedules, tokens, triggers, work, workflows

__all__ = ["catalogue", "fairness", "people", "schedules", "tokens", "triggers", "work", "workflows"]
