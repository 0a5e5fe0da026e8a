"""The log's tables, read through Django; `audit.schema` makes them, `audit.append` writes them.

The models are unmanaged: Django never alters or truncates the tables, and triggers refuse what Django might try.
"""

from typing import Any

from django.db import models


class Record(models.Model):
    """One event. `body` (RFC 8785 JSON) and `signature` are what counts: a trigger fills the other columns from the
    body.

    `prev` is the record written before it on the same database connection, set by a trigger.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    body = models.TextField()
    signature = models.BinaryField()
    kid = models.CharField(max_length=16)
    prev = models.UUIDField(null=True)
    created_at = models.DateTimeField()
    event = models.CharField(max_length=64)
    outcome = models.CharField(max_length=32)
    actor_type = models.CharField(max_length=16)
    actor_id = models.CharField(max_length=200)
    actor_for = models.CharField(max_length=200, null=True)
    target_type = models.CharField(max_length=64)
    target_id = models.CharField(max_length=200)

    class Meta:
        managed = False
        db_table = "audit_event"
        ordering = ["-id"]
        verbose_name = "audit record"

    def __str__(self) -> str:
        return f"{self.event} {self.target_type}:{self.target_id}"


class Payload(models.Model):
    """A value that a record commits to by salted hash. Erasing drops `salt` and `value`; the record still verifies."""

    pk = models.CompositePrimaryKey("record_id", "slot")
    record = models.ForeignKey(Record, on_delete=models.DO_NOTHING, db_column="event_id", related_name="payloads")
    slot = models.CharField(max_length=64)
    salt = models.BinaryField(null=True)
    value: Any = models.TextField(null=True)

    class Meta:
        managed = False
        db_table = "audit_payload"


class Pending(models.Model):
    """A committed record that waits for its place in the log, in the order of (xid, n)."""

    n = models.BigIntegerField(primary_key=True)
    record = models.ForeignKey(Record, on_delete=models.DO_NOTHING, db_column="event_id", db_constraint=False)

    class Meta:
        managed = False
        db_table = "audit_pending"
        verbose_name_plural = "pending"


class Leaf(models.Model):
    """A record's place in the log, counted from 0, and its RFC 6962 leaf hash."""

    index = models.BigIntegerField(primary_key=True)
    record = models.OneToOneField(
        Record, on_delete=models.DO_NOTHING, db_column="event_id", db_constraint=False, related_name="leaf"
    )
    hash = models.BinaryField()

    class Meta:
        managed = False
        db_table = "audit_leaf"
        verbose_name_plural = "leaves"


class Head(models.Model):
    """One row: how many leaves there are."""

    id = models.SmallIntegerField(primary_key=True)
    size = models.BigIntegerField()

    class Meta:
        managed = False
        db_table = "audit_head"


class Checkpoint(models.Model):
    """A signed statement of the log's size and root: a C2SP note."""

    id = models.BigIntegerField(primary_key=True)
    size = models.BigIntegerField()
    root = models.BinaryField()
    note = models.TextField()
    created_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "audit_checkpoint"
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"checkpoint at {self.size}"


class Delivery(models.Model):
    """How far a checkpoint has come at one place outside: a destination of AUDIT_PUBLISH_TO, or a witness.

    name: the place's name without secrets, `witness:NAME` for a witness and `witnesses` for their quorum. size, note:
    the checkpoint that was last taken there, note also its cosignatures where it is a witness. tried_at, failures,
    error: the last attempt, and how many failed since the last that did not.

    Written by the sequencer's process alone. It is a report, not evidence: a check reads files and notes.
    """

    name = models.CharField(max_length=200, primary_key=True)
    size = models.BigIntegerField(default=0)
    note = models.TextField(default="")
    delivered_at = models.DateTimeField(null=True)
    tried_at = models.DateTimeField(null=True)
    failures = models.IntegerField(default=0)
    error = models.CharField(max_length=500, default="")

    class Meta:
        db_table = "audit_delivery"
        ordering = ["name"]
        verbose_name_plural = "deliveries"

    def __str__(self) -> str:
        return f"{self.name} at {self.size}"
