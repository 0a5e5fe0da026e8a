"""The log's tables, triggers and roles, as SQL; and what must be in place for them to hold.

Migrations call `install`; `audit.verify` compares the live database with FUNCTIONS and TRIGGERS. A later change of a
function belongs into `audit.plpgsql` and in a new migration that calls `install_functions` again.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from audit.plpgsql import FUNCTIONS

OWNER = "countersign_audit_owner"  # may not log in; owns the tables where a superuser migrates
PARTED = ("audit_event", "audit_payload")  # kept in parts by time, each of which can be archived
TABLES = (
    *PARTED,
    "audit_pending",
    "audit_leaf",
    "audit_head",
    "audit_checkpoint",
    "audit_partition",
    "audit_hold",
    "audit_kept",
)

# Columns of a record that its body determines, and their types. A trigger fills them from the body whatever a statement
# gives; verification compares each with the signed body.
PROJECTED = {
    "id": "uuid",
    "created_at": "timestamptz",
    "event": "text",
    "outcome": "text",
    "actor_type": "text",
    "actor_id": "text",
    "actor_for": "text",
    "target_type": "text",
    "target_id": "text",
}
_NULLABLE = {"actor_for"}
_PROJECTED = ",\n".join(
    f"  {name} {kind}{'' if name in _NULLABLE else ' NOT NULL'}" for name, kind in PROJECTED.items()
)

# Ids are version 7 UUIDs, so parts by id are parts by time. A payload has no foreign key: it would cost more than the row,
# and verification finds a payload whose record is missing or does not commit to it. Constraints have the names that they
# have in a log of the first form, which becomes a part.
CREATE_PARTED = f"""
CREATE TABLE audit_event (
  body text NOT NULL CONSTRAINT audit_event_body_check CHECK (octet_length(body) <= 32768),
  signature bytea NOT NULL CONSTRAINT audit_event_signature_check CHECK (octet_length(signature) = 64),
  kid text NOT NULL CONSTRAINT audit_event_kid_check CHECK (kid ~ '^[0-9a-f]{{16}}$'),
  prev uuid,
{_PROJECTED},
  PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX audit_event_by_event ON audit_event (event, id);
CREATE INDEX audit_event_by_target ON audit_event (target_id, id);
CREATE INDEX audit_event_by_actor ON audit_event (actor_id, id);
CREATE TABLE audit_payload (
  event_id uuid NOT NULL,
  slot text NOT NULL,
  salt bytea CONSTRAINT audit_payload_salt_check CHECK (octet_length(salt) = 32),
  value text,
  PRIMARY KEY (event_id, slot),
  CONSTRAINT audit_payload_check CHECK ((salt IS NULL) = (value IS NULL))
) PARTITION BY RANGE (event_id);
"""
CREATE_PLACES = """
CREATE TABLE audit_pending (
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  n bigint GENERATED ALWAYS AS IDENTITY,
  event_id uuid NOT NULL,
  PRIMARY KEY (xid, n)
);
CREATE TABLE audit_leaf (
  index bigint PRIMARY KEY CHECK (index >= 0),
  event_id uuid NOT NULL UNIQUE,
  hash bytea NOT NULL CHECK (octet_length(hash) = 32)
);
CREATE TABLE audit_head (
  id smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
  size bigint NOT NULL CHECK (size >= 0)
);
INSERT INTO audit_head (size) VALUES (0);
CREATE TABLE audit_checkpoint (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  size bigint NOT NULL CHECK (size >= 0),
  root bytea NOT NULL CHECK (octet_length(root) = 32),
  note text NOT NULL CHECK (octet_length(note) <= 8192),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX audit_checkpoint_by_size ON audit_checkpoint (size);
"""
# audit_kept: what later records still need of archived ones, such as keys.
CREATE_RETENTION = """
CREATE TABLE audit_partition (
  name text PRIMARY KEY CHECK (name ~ '^([0-9]{4}_[0-9]{2}|first|rest)$'),
  lower uuid,
  upper uuid,
  archived_at timestamptz,
  record uuid,
  CHECK ((archived_at IS NULL) = (record IS NULL))
);
CREATE TABLE audit_hold (
  record uuid PRIMARY KEY,
  lower timestamptz NOT NULL,
  upper timestamptz NOT NULL CHECK (upper > lower),
  released uuid
);
CREATE TABLE audit_kept (
  id uuid PRIMARY KEY,
  body text NOT NULL,
  signature bytea NOT NULL,
  kid text NOT NULL,
  prev uuid,
  created_at timestamptz NOT NULL,
  event text NOT NULL
);
"""
_NEXT_MONTH = "audit_uuid_at((date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC')"
MONTHS_AHEAD = 3
CALLABLE = tuple(f"{name}{function.arguments}" for name, function in FUNCTIONS.items() if function.callable)


@dataclass(frozen=True, slots=True)
class Trigger:
    """gone, added: the names by which the function reads the deleted or inserted rows."""

    name: str
    table: str
    when: str
    function: str
    each: str = "STATEMENT"
    gone: str = ""
    added: str = ""

    def create(self) -> str:
        rows = f"REFERENCING OLD TABLE AS {self.gone} " if self.gone else ""
        rows = f"REFERENCING NEW TABLE AS {self.added} " if self.added else rows
        return (
            f"CREATE TRIGGER {self.name} {self.when} ON {self.table} {rows}"
            f"FOR EACH {self.each} EXECUTE FUNCTION {self.function}()"
        )


_WRITES = "BEFORE UPDATE OR DELETE OR TRUNCATE"
TRIGGERS = (
    Trigger("audit_event_chain", "audit_event", "BEFORE INSERT", "audit_chain", "ROW"),
    Trigger("audit_event_enqueue", "audit_event", "AFTER INSERT", "audit_enqueue", added="added"),
    Trigger("audit_event_append_only", "audit_event", _WRITES, "audit_refuse"),
    Trigger("audit_leaf_append_only", "audit_leaf", _WRITES, "audit_refuse"),
    Trigger("audit_checkpoint_append_only", "audit_checkpoint", _WRITES, "audit_refuse"),
    Trigger("audit_payload_keep", "audit_payload", "BEFORE DELETE OR TRUNCATE", "audit_refuse"),
    Trigger("audit_payload_erasing", "audit_payload", "BEFORE UPDATE", "audit_erasing", "ROW"),
    Trigger("audit_head_keep", "audit_head", "BEFORE DELETE OR TRUNCATE", "audit_refuse"),
    Trigger("audit_head_growing", "audit_head", "BEFORE UPDATE", "audit_growing", "ROW"),
    Trigger("audit_pending_keep", "audit_pending", "BEFORE UPDATE OR TRUNCATE", "audit_refuse"),
    Trigger("audit_pending_sequenced", "audit_pending", "AFTER DELETE", "audit_sequenced", gone="gone"),
    Trigger("audit_kept_append_only", "audit_kept", _WRITES, "audit_refuse"),
    Trigger("audit_hold_keep", "audit_hold", "BEFORE DELETE OR TRUNCATE", "audit_refuse"),
    Trigger("audit_hold_holding", "audit_hold", "BEFORE UPDATE", "audit_holding", "ROW"),
    Trigger("audit_partition_keep", "audit_partition", "BEFORE DELETE OR TRUNCATE", "audit_refuse"),
    Trigger("audit_partition_parting", "audit_partition", "BEFORE UPDATE", "audit_parting", "ROW"),
)

# name -> (event, condition, function). Only a superuser may create them.
EVENT_TRIGGERS = {
    "audit_no_drop": ("sql_drop", "", "audit_no_drop"),
    "audit_no_detach": ("ddl_command_end", "WHEN TAG IN ('ALTER TABLE')", "audit_no_detach"),
}

# Two databases of one cluster may be migrated at the same moment.
CREATE_OWNER = f"""
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{OWNER}') THEN
    CREATE ROLE {OWNER} NOLOGIN NOINHERIT;
  END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""

Run = Callable[[str], object]
"""Executes one text of SQL."""


def install(run: Run, *, schema: str, superuser: bool) -> None:
    """Creates the log in `schema` (a quoted identifier)."""
    for text in (CREATE_PARTED, CREATE_PLACES, CREATE_RETENTION):
        run(text)
    install_functions(run, schema=schema)
    create_triggers(run)
    if superuser:
        give_to_owner(run, schema=schema)
    for table in TABLES:
        run(f"REVOKE ALL ON {table} FROM PUBLIC")
    run(f"SELECT audit_add_partition('first', NULL, {_NEXT_MONTH})")
    add_partitions(run)
    if superuser:
        create_event_triggers(run)


def install_functions(run: Run, *, schema: str) -> None:
    """Creates or replaces the functions. They run as the tables' owner and look for names in `schema` alone."""
    for name, function in FUNCTIONS.items():
        run(
            f"CREATE OR REPLACE FUNCTION {name}{function.signature} LANGUAGE plpgsql SECURITY DEFINER "
            f"SET search_path = {schema}, pg_temp AS $body${function.body}$body$"
        )
        run(f"REVOKE ALL ON FUNCTION {name}{function.arguments} FROM PUBLIC")


def create_triggers(run: Run, tables: Collection[str] = TABLES) -> None:
    for trigger in TRIGGERS:
        if trigger.table in tables:
            run(trigger.create())
            run(f"ALTER TABLE {trigger.table} ENABLE ALWAYS TRIGGER {trigger.name}")


def add_partitions(run: Run) -> None:
    """The months that come, and the part for ids that fit into no other."""
    run("SELECT audit_add_partition('rest', NULL, NULL)")
    run(f"SELECT audit_partition_ahead(now(), {MONTHS_AHEAD})")


def give_to_owner(run: Run, *, schema: str) -> None:
    """As a superuser: the log belongs to a role that may not log in."""
    run(CREATE_OWNER)
    run(f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {OWNER}")  # it makes the parts that come
    for table in TABLES:
        run(f"ALTER TABLE {table} OWNER TO {OWNER}")
    for name, function in FUNCTIONS.items():
        run(f"ALTER FUNCTION {name}{function.arguments} OWNER TO {OWNER}")


def create_event_triggers(run: Run) -> None:
    """As a superuser: DROP and DETACH are refused."""
    for name, (event, condition, function) in EVENT_TRIGGERS.items():
        run(f"DROP EVENT TRIGGER IF EXISTS {name}")
        run(f"CREATE EVENT TRIGGER {name} ON {event} {condition} EXECUTE FUNCTION {function}()")
        run(f"ALTER EVENT TRIGGER {name} ENABLE ALWAYS")
