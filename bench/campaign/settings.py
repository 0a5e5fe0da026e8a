# ruff: noqa: F405
"""The campaign's own stack: development's settings, its tools, and two workers of each group."""

from typing import Any

from config.settings.dev import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "bench.campaign"]
API_RATES = {"anonymous": 0, "user": 0, "token": 0}  # everything comes from one address
CAMPAIGN_LEDGER = env.text("CAMPAIGN_LEDGER", "")

_GROUPS: dict[str, dict[str, Any]] = {
    "shell": {"queues": ["shell", "files"], "threads": 4},
    "git": {"queues": ["git"], "threads": 4},
    "control": {"queues": ["control"], "threads": 4},
}
WORKER_GROUPS = {**_GROUPS, **{f"{name}-2": group for name, group in _GROUPS.items()}}
QUEUES = ["llm", *dict.fromkeys(queue for group in _GROUPS.values() for queue in group["queues"])]
