"""Illegal moves of jobs and steps are refused by the database too, and so is an attempt that goes down.

The tables are those of `agents.states` as they were when this was written; a test compares the database with today's.
"""

from django.db import migrations

from agents.migrations._moves import REMOVE, install

JOB_MOVES = {
    "queued": ["cancelled", "compensating", "failed", "paused", "running", "succeeded", "waiting"],
    "running": ["cancelled", "compensating", "failed", "paused", "succeeded", "waiting"],
    "waiting": ["cancelled", "compensating", "failed", "paused", "running", "succeeded"],
    "paused": ["cancelled", "compensating", "failed", "queued", "running", "succeeded", "waiting"],
    "compensating": ["cancelled", "compensated", "failed"],
    "succeeded": [],
    "failed": ["running"],
    "cancelled": ["running"],
    "compensated": [],
}

STEP_MOVES = {
    "pending": ["cancelled", "failed", "queued", "ready", "refused", "skipped", "succeeded", "waiting_approval"],
    "ready": ["cancelled", "failed", "pending", "queued", "refused", "waiting_approval"],
    "waiting_approval": ["cancelled", "pending", "queued", "ready", "refused", "succeeded"],
    "queued": ["cancelled", "pending", "refused", "running"],
    "running": ["cancelled", "failed", "in_doubt", "pending", "queued", "ready", "refused", "succeeded"],
    "in_doubt": ["cancelled", "failed", "pending", "queued", "ready", "refused", "succeeded"],
    "succeeded": ["compensated"],
    "failed": ["pending"],
    "refused": ["pending"],
    "cancelled": ["pending"],
    "skipped": ["pending"],
    "compensated": [],
}

COPIED = ["succeeded", "failed", "refused", "cancelled", "skipped"]


class Migration(migrations.Migration):
    dependencies = [("agents", "0008_triggers")]
    operations = [migrations.RunSQL(install(job=JOB_MOVES, step=STEP_MOVES, copied=COPIED), REMOVE)]
