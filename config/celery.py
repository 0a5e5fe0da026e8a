"""The Celery application. A message is `(step id, attempt)` and a hint only: PostgreSQL is the truth."""

import os

from celery import Celery
from django.conf import settings
from kombu import Queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.prod")

app = Celery("countersign")
app.config_from_object("django.conf:settings", namespace="CELERY")


app.conf.task_queues = [Queue(name, routing_key=name) for name in settings.QUEUES]
app.autodiscover_tasks()
