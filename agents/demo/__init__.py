"""The demo: a small repository with a failing test, and the goal that sends an agent to work on it."""

GOAL = "make the tests pass, write the release notes, push"

__all__ = ["GOAL"]
