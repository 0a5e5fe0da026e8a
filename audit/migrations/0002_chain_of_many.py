"""Several records may be inserted by one statement: each follows the one before it, not the statement before."""

from django.db import migrations

from audit import schema


def replace(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT quote_ident(current_schema())")
        schema.install_functions(cursor.execute, schema=cursor.fetchone()[0])


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]
    operations = [migrations.RunPython(replace, migrations.RunPython.noop)]
