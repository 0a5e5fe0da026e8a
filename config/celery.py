"""The Celery application. A message is `(step id, attempt)` and a hint only: PostgreSQL is the truth."""

import os
from typing import Any

from celery import Celery
from celery.signals import task_prerun, worker_init, worker_ready
from django.conf import settings
from django.db import close_old_connections
from kombu import Queue

from config.pool import share_connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.prod")

RUN_STEP = "agents.run_step"

app = Celery("countersign")
app.config_from_object("django.conf:settings", namespace="CELERY")


# Celery's Django fixup would close the thread's database connection around each task. Here a task that finds it broken
# opens another: the hot path by itself, every other one by `_fresh_connections`.
app.conf.CELERY_DB_REUSE_MAX = 2**62
app.conf.task_queues = [Queue(name, routing_key=name) for name in settings.QUEUES]
app.autodiscover_tasks()


@worker_init.connect
def _share_connections(**_: Any) -> None:
    """Of model calls many threads wait at once, and each needs the database for moments only."""
    if os.environ.get("COUNTERSIGN_WORKER_GROUP") == "llm":
        share_connections(max_size=settings.LLM_DATABASE_POOL_MAX)


@worker_ready.connect
def _say_where_nothing_runs(**_: Any) -> None:
    # Imported here: there are no models yet when this application is made.
    from approvals.policy.startup import say_where_nothing_runs

    say_where_nothing_runs()


@task_prerun.connect
def _fresh_connections(sender: Any, **_: Any) -> None:
    if sender.name != RUN_STEP:
        close_old_connections()
