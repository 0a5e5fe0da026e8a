"""The log's tables, functions and triggers, as SQL; and what must be in place for them to hold.

Migrations call `install`; `audit.verify` compares the live database with FUNCTIONS and TRIGGERS. A later change of a
function belongs here and in a new migration that calls `install_functions` again.
"""

from collections.abc import Callable
from dataclasses import dataclass

OWNER = "countersign_audit_owner"  # may not log in; owns the tables where a superuser migrates
TABLES = ("audit_event", "audit_payload", "audit_pending", "audit_leaf", "audit_head", "audit_checkpoint")

_TEXT = "(body::jsonb #>> '{%s}')"
# An RFC 3339 time in UTC with microseconds, as record() writes it. make_timestamp does not depend on settings.
_TIME = """(make_timestamp(
    substr(body::jsonb ->> 'ts', 1, 4)::int, substr(body::jsonb ->> 'ts', 6, 2)::int,
    substr(body::jsonb ->> 'ts', 9, 2)::int, substr(body::jsonb ->> 'ts', 12, 2)::int,
    substr(body::jsonb ->> 'ts', 15, 2)::int, substr(body::jsonb ->> 'ts', 18, 9)::double precision
  ) AT TIME ZONE 'UTC')"""

# Projected columns: name -> (type, expression over the body). The database computes them, so they cannot disagree.
PROJECTED = {
    "id": ("uuid", "(body::jsonb ->> 'id')::uuid"),
    "created_at": ("timestamptz", _TIME),
    "event": ("text", "(body::jsonb ->> 'event')"),
    "outcome": ("text", "(body::jsonb ->> 'outcome')"),
    "actor_type": ("text", _TEXT % "actor,type"),
    "actor_id": ("text", _TEXT % "actor,id"),
    "actor_for": ("text", _TEXT % "actor,on_behalf_of"),
    "target_type": ("text", _TEXT % "target,type"),
    "target_id": ("text", _TEXT % "target,id"),
}
_NULLABLE = {"actor_for"}


def _projected() -> str:
    return ",\n".join(
        f"  {name} {kind} {'' if name in _NULLABLE else 'NOT NULL '}GENERATED ALWAYS AS ({expression}) STORED"
        for name, (kind, expression) in PROJECTED.items()
    )


CREATE_TABLES = f"""
CREATE TABLE audit_event (
  body text NOT NULL CHECK (octet_length(body) <= 32768),
  signature bytea NOT NULL CHECK (octet_length(signature) = 64),
  kid text NOT NULL CHECK (kid ~ '^[0-9a-f]{{16}}$'),
  prev uuid,
{_projected()},
  PRIMARY KEY (id)
);
CREATE INDEX audit_event_by_event ON audit_event (event, id);
CREATE INDEX audit_event_by_target ON audit_event (target_id, id);
CREATE INDEX audit_event_by_actor ON audit_event (actor_id, id);
CREATE TABLE audit_payload (
  event_id uuid NOT NULL REFERENCES audit_event (id),
  slot text NOT NULL,
  salt bytea CHECK (octet_length(salt) = 32),
  value text,
  PRIMARY KEY (event_id, slot),
  CHECK ((salt IS NULL) = (value IS NULL))
);
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
"""  # noqa: S608  its parts are constants


@dataclass(frozen=True, slots=True)
class Function:
    """signature: arguments and result; body: its PL/pgSQL text, which verification compares byte by byte."""

    signature: str
    body: str


_REFUSE = """
BEGIN
  RAISE EXCEPTION 'The audit log is append-only: % on % is refused.', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege';
END
"""

# Before the row, so that each of several in one statement follows the one before it (generated columns are not computed
# yet). set_config is undone where the transaction or the savepoint is rolled back, so the chain holds committed rows alone.
_CHAIN = """
BEGIN
  NEW.prev := nullif(current_setting('countersign.audit_prev', true), '')::uuid;
  PERFORM set_config('countersign.audit_prev', NEW.body::json ->> 'id', false);
  RETURN NEW;
END
"""

_ENQUEUE = """
BEGIN
  INSERT INTO audit_pending (event_id) VALUES (NEW.id);
  RETURN NULL;
END
"""

_ERASING = """
BEGIN
  IF NEW.event_id = OLD.event_id AND NEW.slot = OLD.slot AND NEW.salt IS NULL AND NEW.value IS NULL THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'A payload of the audit log can be erased, not changed.' USING ERRCODE = 'insufficient_privilege';
END
"""

_GROWING = """
BEGIN
  IF NEW.size > OLD.size AND EXISTS (SELECT FROM audit_leaf WHERE index = NEW.size - 1) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'The head of the audit log moves forward only.' USING ERRCODE = 'insufficient_privilege';
END
"""

_SEQUENCED = """
BEGIN
  IF EXISTS (SELECT FROM gone LEFT JOIN audit_leaf USING (event_id) WHERE audit_leaf.index IS NULL) THEN
    RAISE EXCEPTION 'A record leaves the queue of the audit log when it has its place.'
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END
"""

# An entry is the text BODY LF KID SP SIGNATURE(hex) SP PREV LF; its leaf hash is SHA-256(0x00 || entry) (RFC 6962, 2.1).
# The same stands in audit.entries, which checks what this function wrote.
_SEQUENCE = """
DECLARE
  seen bigint;
  added bigint;
BEGIN
  SELECT size INTO seen FROM audit_head WHERE id = 1 FOR UPDATE;
  IF seen IS DISTINCT FROM expected THEN
    RAISE EXCEPTION 'The head is at %, not at %.', seen, expected USING ERRCODE = 'serialization_failure';
  END IF;
  INSERT INTO audit_leaf (index, event_id, hash)
    SELECT expected - 1 + row_number() OVER (ORDER BY batch.xid, batch.n), batch.id,
           sha256('\\x00'::bytea || convert_to(
             batch.body || E'\\n' || batch.kid || ' ' || encode(batch.signature, 'hex') || ' '
             || coalesce(batch.prev::text, '-') || E'\\n', 'UTF8'))
      FROM (
        SELECT p.xid, p.n, e.* FROM audit_pending p JOIN audit_event e ON e.id = p.event_id
          WHERE NOT EXISTS (SELECT FROM audit_leaf l WHERE l.event_id = p.event_id)
          ORDER BY p.xid, p.n LIMIT at_most
      ) batch;
  GET DIAGNOSTICS added = ROW_COUNT;
  IF added > 0 THEN
    DELETE FROM audit_pending p USING audit_leaf l WHERE l.index >= expected AND l.event_id = p.event_id;
    UPDATE audit_head SET size = expected + added WHERE id = 1;
  END IF;
  RETURN expected + added;
END
"""

_ERASE = """
DECLARE
  erased bigint;
BEGIN
  UPDATE audit_payload SET salt = NULL, value = NULL WHERE event_id = record AND salt IS NOT NULL;
  GET DIAGNOSTICS erased = ROW_COUNT;
  RETURN erased;
END
"""

FUNCTIONS = {
    "audit_refuse": Function("() RETURNS trigger", _REFUSE),
    "audit_chain": Function("() RETURNS trigger", _CHAIN),
    "audit_enqueue": Function("() RETURNS trigger", _ENQUEUE),
    "audit_erasing": Function("() RETURNS trigger", _ERASING),
    "audit_growing": Function("() RETURNS trigger", _GROWING),
    "audit_sequenced": Function("() RETURNS trigger", _SEQUENCED),
    "audit_sequence": Function("(expected bigint, at_most integer) RETURNS bigint", _SEQUENCE),
    "audit_erase": Function("(record uuid) RETURNS bigint", _ERASE),
}
CALLABLE = ("audit_sequence(bigint, integer)", "audit_erase(uuid)")  # by the application's role


@dataclass(frozen=True, slots=True)
class Trigger:
    name: str
    table: str
    when: str
    function: str
    each: str = "STATEMENT"
    gone: str = ""  # the name by which the function reads the deleted rows


TRIGGERS = (
    Trigger("audit_event_chain", "audit_event", "BEFORE INSERT", "audit_chain", "ROW"),
    Trigger("audit_event_enqueue", "audit_event", "AFTER INSERT", "audit_enqueue", "ROW"),
    Trigger("audit_event_append_only", "audit_event", "BEFORE UPDATE OR DELETE OR TRUNCATE", "audit_refuse"),
    Trigger("audit_leaf_append_only", "audit_leaf", "BEFORE UPDATE OR DELETE OR TRUNCATE", "audit_refuse"),
    Trigger("audit_checkpoint_append_only", "audit_checkpoint", "BEFORE UPDATE OR DELETE OR TRUNCATE", "audit_refuse"),
    Trigger("audit_payload_keep", "audit_payload", "BEFORE DELETE OR TRUNCATE", "audit_refuse"),
    Trigger("audit_payload_erasing", "audit_payload", "BEFORE UPDATE", "audit_erasing", "ROW"),
    Trigger("audit_head_keep", "audit_head", "BEFORE DELETE OR TRUNCATE", "audit_refuse"),
    Trigger("audit_head_growing", "audit_head", "BEFORE UPDATE", "audit_growing", "ROW"),
    Trigger("audit_pending_keep", "audit_pending", "BEFORE UPDATE OR TRUNCATE", "audit_refuse"),
    Trigger("audit_pending_sequenced", "audit_pending", "AFTER DELETE", "audit_sequenced", gone="gone"),
)

# Two databases of one cluster may be migrated at the same moment.
CREATE_OWNER = f"""
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{OWNER}') THEN
    CREATE ROLE {OWNER} NOLOGIN NOINHERIT;
  END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""


def install(run: Callable[[str], object], *, schema: str, superuser: bool) -> None:
    """Creates the log in `schema` (a quoted identifier). `run` executes one text of SQL."""
    run(CREATE_TABLES)
    install_functions(run, schema=schema)
    for trigger in TRIGGERS:
        gone = f"REFERENCING OLD TABLE AS {trigger.gone} " if trigger.gone else ""
        run(
            f"CREATE TRIGGER {trigger.name} {trigger.when} ON {trigger.table} {gone}"
            f"FOR EACH {trigger.each} EXECUTE FUNCTION {trigger.function}()"
        )
        run(f"ALTER TABLE {trigger.table} ENABLE ALWAYS TRIGGER {trigger.name}")
    if superuser:
        run(CREATE_OWNER)
        for table in TABLES:
            run(f"ALTER TABLE {table} OWNER TO {OWNER}")
        for name, function in FUNCTIONS.items():
            run(f"ALTER FUNCTION {name}{_arguments(function)} OWNER TO {OWNER}")
    for table in TABLES:
        run(f"REVOKE ALL ON {table} FROM PUBLIC")


def install_functions(run: Callable[[str], object], *, schema: str) -> None:
    """Creates or replaces the functions. They run as the tables' owner and look for names in `schema` alone."""
    for name, function in FUNCTIONS.items():
        run(
            f"CREATE OR REPLACE FUNCTION {name}{function.signature} LANGUAGE plpgsql SECURITY DEFINER "
            f"SET search_path = {schema}, pg_temp AS $body${function.body}$body$"
        )
        run(f"REVOKE ALL ON FUNCTION {name}{_arguments(function)} FROM PUBLIC")


def _arguments(function: Function) -> str:
    return function.signature.partition(" RETURNS")[0]
