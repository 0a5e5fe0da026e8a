from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("agents", "0014_archive")]

    operations = [migrations.RenameField(model_name="webhookendpoint", old_name="url", new_name="address")]
