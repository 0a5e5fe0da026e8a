import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("agents", "0028_memory")]

    operations = [
        migrations.AddField(
            model_name="step",
            name="labels",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=20),
                blank=True,
                help_text="what it brought in or did (`tools.labels`): untrusted, private, egress; null: as its call says",
                null=True,
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="step",
            name="provenance",
            field=models.JSONField(
                blank=True,
                help_text="of its call, where policies asked: planned, tainted: [{at, value, source}] (`agents.provenance`)",
                null=True,
            ),
        ),
    ]
