"""A job that undoes what it did can be paused."""

from django.db import migrations

from agents.migrations._moves import install

JOB_MOVES_BEFORE = {
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
JOB_MOVES = {**JOB_MOVES_BEFORE, "compensating": ["cancelled", "compensated", "failed", "paused"]}

STEP_MOVES = {
    "pending": [
        "cancelled", "failed", "queued", "ready", "refused", "running", "skipped", "succeeded", "waiting_approval",
    ],
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
}  # fmt: skip

COPIED = ["succeeded", "failed", "refused", "cancelled", "skipped"]


class Migration(migrations.Migration):
    dependencies = [
        ("agents", "0019_paused_because"),
    ]

    operations = [
        migrations.RunSQL(
            install(job=JOB_MOVES, step=STEP_MOVES, copied=COPIED),
            install(job=JOB_MOVES_BEFORE, step=STEP_MOVES, copied=COPIED),
        ),
    ]
