"""The log. Tables, functions and triggers come from `audit.schema`; the models are unmanaged, so Django only knows them.

It cannot be unmade by a migration.
"""

import django.db.models.deletion
from django.db import migrations, models

from audit import schema


def create(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT quote_ident(current_schema()), current_setting('is_superuser') = 'on'")
        name, superuser = cursor.fetchone()
        schema.install(cursor.execute, schema=name, superuser=superuser)


class Migration(migrations.Migration):
    initial = True
    dependencies = []

    operations = [
        migrations.RunPython(create),
        migrations.CreateModel(
            name="Record",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("body", models.TextField()),
                ("signature", models.BinaryField()),
                ("kid", models.CharField(max_length=16)),
                ("prev", models.UUIDField(null=True)),
                ("created_at", models.DateTimeField()),
                ("event", models.CharField(max_length=64)),
                ("outcome", models.CharField(max_length=32)),
                ("actor_type", models.CharField(max_length=16)),
                ("actor_id", models.CharField(max_length=200)),
                ("actor_for", models.CharField(max_length=200, null=True)),
                ("target_type", models.CharField(max_length=64)),
                ("target_id", models.CharField(max_length=200)),
            ],
            options={
                "verbose_name": "audit record",
                "db_table": "audit_event",
                "ordering": ["-id"],
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="Payload",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "record_id", "slot", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "record",
                    models.ForeignKey(
                        db_column="event_id",
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="payloads",
                        to="audit.record",
                    ),
                ),
                ("slot", models.CharField(max_length=64)),
                ("salt", models.BinaryField(null=True)),
                ("value", models.TextField(null=True)),
            ],
            options={"db_table": "audit_payload", "managed": False},
        ),
        migrations.CreateModel(
            name="Pending",
            fields=[
                ("n", models.BigIntegerField(primary_key=True, serialize=False)),
                (
                    "record",
                    models.ForeignKey(
                        db_column="event_id",
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        to="audit.record",
                    ),
                ),
            ],
            options={"verbose_name_plural": "pending", "db_table": "audit_pending", "managed": False},
        ),
        migrations.CreateModel(
            name="Leaf",
            fields=[
                ("index", models.BigIntegerField(primary_key=True, serialize=False)),
                (
                    "record",
                    models.OneToOneField(
                        db_column="event_id",
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="leaf",
                        to="audit.record",
                    ),
                ),
                ("hash", models.BinaryField()),
            ],
            options={"verbose_name_plural": "leaves", "db_table": "audit_leaf", "managed": False},
        ),
        migrations.CreateModel(
            name="Head",
            fields=[
                ("id", models.SmallIntegerField(primary_key=True, serialize=False)),
                ("size", models.BigIntegerField()),
            ],
            options={"db_table": "audit_head", "managed": False},
        ),
        migrations.CreateModel(
            name="Checkpoint",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("size", models.BigIntegerField()),
                ("root", models.BinaryField()),
                ("note", models.TextField()),
                ("created_at", models.DateTimeField()),
            ],
            options={"db_table": "audit_checkpoint", "ordering": ["-id"], "managed": False},
        ),
    ]
