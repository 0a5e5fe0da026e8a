"""Functions of the database were replaced here; 0004 installs all of them."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]
    operations: list[migrations.operations.base.Operation] = []
