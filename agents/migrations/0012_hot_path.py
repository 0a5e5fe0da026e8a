"""What a step costs: no index twice, and a step may be released and claimed in one move."""

import django.db.models.deletion
from django.db import migrations, models

from agents.migrations._moves import install

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

STEP_MOVES_BEFORE = {
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
STEP_MOVES = {**STEP_MOVES_BEFORE, "pending": sorted([*STEP_MOVES_BEFORE["pending"], "running"])}

COPIED = ["succeeded", "failed", "refused", "cancelled", "skipped"]


class Migration(migrations.Migration):
    dependencies = [
        ("agents", "0011_step_workspace"),
    ]

    operations = [
        migrations.RunSQL(
            install(job=JOB_MOVES, step=STEP_MOVES, copied=COPIED),
            install(job=JOB_MOVES, step=STEP_MOVES_BEFORE, copied=COPIED),
        ),
        migrations.AlterField(
            model_name="attempt",
            name="step",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="attempts", to="agents.step"
            ),
        ),
        migrations.AlterField(
            model_name="feedentry",
            name="job",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name="feed", to="agents.job"
            ),
        ),
        migrations.AlterField(
            model_name="step",
            name="compensates",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="compensated_by",
                to="agents.step",
            ),
        ),
        migrations.AlterField(
            model_name="step",
            name="job",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="steps", to="agents.job"
            ),
        ),
        migrations.AlterField(
            model_name="step",
            name="parent",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                help_text="a chunk's map step",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="chunks",
                to="agents.step",
            ),
        ),
        migrations.AlterField(
            model_name="step",
            name="proposed_by",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="proposed",
                to="agents.step",
            ),
        ),
        migrations.AddIndex(
            model_name="step",
            index=models.Index(condition=models.Q(("parent__isnull", False)), fields=["parent"], name="step_parent"),
        ),
        migrations.AddIndex(
            model_name="step",
            index=models.Index(
                condition=models.Q(("compensates__isnull", False)), fields=["compensates"], name="step_compensates"
            ),
        ),
        migrations.AddIndex(
            model_name="step",
            index=models.Index(
                condition=models.Q(("proposed_by__isnull", False)), fields=["proposed_by"], name="step_proposed_by"
            ),
        ),
    ]
