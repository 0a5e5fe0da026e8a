"""Plain Celery with default settings and a task that does nothing: what a step is measured against."""

import os

from celery import Celery

app = Celery("plain", broker=os.environ["PLAIN_BROKER_URL"])


@app.task
def noop() -> None:
    """Does nothing."""
