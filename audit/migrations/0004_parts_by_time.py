"""Records are kept in parts by time, and a trigger fills the columns that generated expressions computed before.

A log of the first form is converted in place. Run `database_grants` afterwards, as after every migration.
"""

from django.db import migrations

from audit import conversion


def convert(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:

        def fetch(text):
            cursor.execute(text)
            return cursor.fetchall()

        ((name, superuser),) = fetch("SELECT quote_ident(current_schema()), current_setting('is_superuser') = 'on'")
        conversion.convert(cursor.execute, fetch, schema_name=name, superuser=superuser)


class Migration(migrations.Migration):
    dependencies = [("audit", "0003_delivery")]
    operations = [migrations.RunPython(convert, migrations.RunPython.noop)]
