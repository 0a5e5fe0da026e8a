from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("agents", "0012_hot_path")]

    operations = [
        migrations.RemoveField(model_name="ratebucket", name="next_slot_at"),
        migrations.AlterField(
            model_name="ratebucket",
            name="typical_tokens",
            field=models.FloatField(default=0.0, help_text="of a call lately: counted for each that runs"),
        ),
    ]
