"""The log's functions in the database, as PL/pgSQL text. `audit.schema` installs them; verification compares them byte by
byte, so a change here goes with a migration that calls `install_functions` again."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Function:
    """signature: arguments and result; body: its PL/pgSQL text, which verification compares byte by byte.

    callable: the application's role may call it.
    """

    signature: str
    body: str
    callable: bool = False

    @property
    def arguments(self) -> str:
        return self.signature.partition(" RETURNS")[0]


_REFUSE = """
BEGIN
  RAISE EXCEPTION 'The audit log is append-only: % on % is refused.', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege';
END
"""

# Parses the body once, and fills the columns that it determines, whatever the statement gave for them. The id chooses the
# partition before a trigger may change it, so the writer gives it and it is compared here.
# Before the row, so that each of several in one statement follows the one before it. set_config is undone where the
# transaction or the savepoint is rolled back, so the chain holds committed rows alone.
_CHAIN = """
DECLARE
  facts jsonb := NEW.body;
  actor jsonb := facts -> 'actor';
  target jsonb := facts -> 'target';
  at text := facts ->> 'ts';
BEGIN
  IF (facts ->> 'id')::uuid IS DISTINCT FROM NEW.id THEN
    RAISE EXCEPTION 'The id of an audit record is not the one in its body.' USING ERRCODE = 'check_violation';
  END IF;
  IF length(at) IS DISTINCT FROM 27 OR right(at, 1) <> 'Z' THEN
    RAISE EXCEPTION 'The time of an audit record is not in its one form.' USING ERRCODE = 'check_violation';
  END IF;
  NEW.prev := nullif(current_setting('countersign.audit_prev', true), '')::uuid;
  NEW.created_at := at::timestamptz;
  NEW.event := facts ->> 'event';
  NEW.outcome := facts ->> 'outcome';
  NEW.actor_type := actor ->> 'type';
  NEW.actor_id := actor ->> 'id';
  NEW.actor_for := actor ->> 'on_behalf_of';
  NEW.target_type := target ->> 'type';
  NEW.target_id := target ->> 'id';
  PERFORM set_config('countersign.audit_prev', NEW.id::text, false);
  RETURN NEW;
END
"""

_ENQUEUE = """
BEGIN
  INSERT INTO audit_pending (event_id) SELECT id FROM added;
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
  IF EXISTS (
    SELECT FROM audit_hold h, audit_event e
      WHERE e.id = audit_erase.record AND h.released IS NULL AND e.created_at >= h.lower AND e.created_at < h.upper
  ) THEN
    RAISE EXCEPTION 'A legal hold covers the record: nothing of it is erased.' USING ERRCODE = 'insufficient_privilege';
  END IF;
  UPDATE audit_payload SET salt = NULL, value = NULL WHERE event_id = audit_erase.record AND salt IS NOT NULL;
  GET DIAGNOSTICS erased = ROW_COUNT;
  RETURN erased;
END
"""

# The least version 7 UUID of a moment.
_UUID_AT = """
BEGIN
  RETURN (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;
END
"""

# A part of the two tables that grow: records and payloads whose ids lie in [lower, upper). NULL is without a limit.
_ADD_PARTITION = """
DECLARE
  bounds text := 'DEFAULT';
  whole text;
BEGIN
  IF upper IS NOT NULL THEN
    bounds := format('FOR VALUES FROM (%s) TO (%L)', coalesce(quote_literal(lower), 'MINVALUE'), upper);
  END IF;
  FOREACH whole IN ARRAY ARRAY['audit_event', 'audit_payload'] LOOP
    EXECUTE format('CREATE TABLE %I PARTITION OF %I %s', whole || '_' || name, whole, bounds);
    PERFORM audit_guard_partition(whole, name);
  END LOOP;
  INSERT INTO audit_partition (name, lower, upper) VALUES (name, lower, upper);
END
"""

# Row triggers come from the parent; those of statements fire only for the table that a statement names. Nobody reads or
# writes a part but by its parent, whatever default privileges say.
_GUARD_PARTITION = """
DECLARE
  part text := whole || '_' || name;
  made record;
BEGIN
  FOR made IN
    SELECT t.tgname, pg_get_triggerdef(t.oid) AS text, t.tgtype & 1 = 1 AS of_rows
      FROM pg_trigger t WHERE t.tgrelid = to_regclass(whole) AND NOT t.tgisinternal
  LOOP
    IF NOT made.of_rows THEN
      EXECUTE replace(made.text, format(' ON %I.%I ', current_schema(), whole), format(' ON %I ', part));
    END IF;
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER %I', part, made.tgname);
  END LOOP;
  EXECUTE format('REVOKE ALL ON %I FROM PUBLIC', part);
  FOR made IN
    SELECT DISTINCT a.grantee::regrole AS who FROM pg_class c, aclexplode(c.relacl) a
      WHERE c.oid = to_regclass(part) AND a.grantee NOT IN (0, c.relowner)
  LOOP
    EXECUTE format('REVOKE ALL ON %I FROM %s', part, made.who);
  END LOOP;
END
"""

# The months that come, so that a month's records stand together. Where records of a month already stand in the part
# for everything else, they stay there.
_PARTITION_AHEAD = """
DECLARE
  month timestamp;
  low uuid;
  high uuid;
  made integer := 0;
BEGIN
  FOR ahead IN 0..months LOOP
    month := date_trunc('month', at AT TIME ZONE 'UTC') + make_interval(months => ahead);
    low := audit_uuid_at(month AT TIME ZONE 'UTC');
    high := audit_uuid_at((month + interval '1 month') AT TIME ZONE 'UTC');
    CONTINUE WHEN EXISTS (
      SELECT FROM audit_partition p WHERE (p.lower IS NULL OR p.lower < high) AND (p.upper IS NULL OR p.upper > low)
        AND (p.lower IS NOT NULL OR p.upper IS NOT NULL)
    ) OR EXISTS (SELECT FROM audit_event_rest WHERE id >= low AND id < high)
      OR EXISTS (SELECT FROM audit_payload_rest WHERE event_id >= low AND event_id < high);
    PERFORM audit_add_partition(to_char(month, 'YYYY_MM'), low, high);
    made := made + 1;
  END LOOP;
  RETURN made;
END
"""

# Who calls it wrote the records into an archive and `log.archived` into the log, in this transaction.
_ARCHIVE = """
DECLARE
  part audit_partition;
  signed bigint;
  records bigint;
BEGIN
  SELECT * INTO part FROM audit_partition p WHERE p.archived_at IS NULL AND p.upper IS NOT NULL
    ORDER BY p.upper LIMIT 1 FOR UPDATE;
  IF part.name IS DISTINCT FROM archived THEN
    RAISE EXCEPTION 'The oldest part of the audit log is %, and it goes first.', part.name;
  END IF;
  IF part.upper > audit_uuid_at(now()) THEN
    RAISE EXCEPTION 'The part % of the audit log is still being written.', archived;
  END IF;
  IF EXISTS (SELECT FROM audit_hold h WHERE h.released IS NULL AND audit_uuid_at(h.lower) < part.upper
      AND (part.lower IS NULL OR audit_uuid_at(h.upper) > part.lower)) THEN
    RAISE EXCEPTION 'A legal hold covers the part % of the audit log.', archived;
  END IF;
  IF NOT EXISTS (SELECT FROM audit_event e WHERE e.id = record AND e.event = 'log.archived'
      AND e.target_id = archived AND e.body::jsonb #>> '{context,sha256}' ~ '^[0-9a-f]{64}$') THEN
    RAISE EXCEPTION 'No record says that the part % of the audit log is archived.', archived;
  END IF;
  SELECT max(size) INTO signed FROM audit_checkpoint;
  EXECUTE format('SELECT count(*) FROM %I e LEFT JOIN audit_leaf l ON l.event_id = e.id '
    'WHERE l.index IS NULL OR l.index >= $1', 'audit_event_' || archived) INTO records USING coalesce(signed, 0);
  IF records > 0 THEN
    RAISE EXCEPTION '% records of the part % are not under a signed checkpoint yet.', records, archived;
  END IF;
  EXECUTE format('INSERT INTO audit_kept SELECT id, body, signature, kid, prev, created_at, event FROM %I e '
    'WHERE (e.event LIKE ''key.%%'' OR e.event LIKE ''log.%%'' OR e.event = ''payload.erased'') '
    'AND e.event <> ''log.heartbeat''', 'audit_event_' || archived);
  UPDATE audit_partition p SET archived_at = clock_timestamp(), record = audit_archive.record WHERE p.name = archived;
  EXECUTE format('ALTER TABLE audit_event DETACH PARTITION %I', 'audit_event_' || archived);
  EXECUTE format('ALTER TABLE audit_payload DETACH PARTITION %I', 'audit_payload_' || archived);
  EXECUTE format('DROP TABLE %I, %I', 'audit_event_' || archived, 'audit_payload_' || archived);
END
"""

# A hold is what its record says.
_HOLD = """
DECLARE
  facts jsonb;
BEGIN
  SELECT e.body INTO facts FROM audit_event e WHERE e.id = record AND e.event = 'log.hold_placed';
  INSERT INTO audit_hold (record, lower, upper) VALUES (
    record, (facts #>> '{context,from}')::timestamptz, (facts #>> '{context,until}')::timestamptz);
END
"""

_RELEASE = """
DECLARE
  hold uuid;
BEGIN
  SELECT e.target_id INTO hold FROM audit_event e WHERE e.id = audit_release_hold.record AND e.event = 'log.hold_released';
  UPDATE audit_hold h SET released = audit_release_hold.record WHERE h.record = hold AND h.released IS NULL;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'There is no such legal hold.' USING ERRCODE = 'no_data_found';
  END IF;
END
"""

_HOLDING = """
BEGIN
  IF OLD.released IS NULL AND NEW.released IS NOT NULL
     AND (NEW.record, NEW.lower, NEW.upper) IS NOT DISTINCT FROM (OLD.record, OLD.lower, OLD.upper) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'A legal hold is released once, and never changed.' USING ERRCODE = 'insufficient_privilege';
END
"""

_PARTING = """
BEGIN
  IF OLD.archived_at IS NULL AND NEW.archived_at IS NOT NULL AND NEW.record IS NOT NULL
     AND (NEW.name, NEW.lower, NEW.upper) IS NOT DISTINCT FROM (OLD.name, OLD.lower, OLD.upper) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'A part of the audit log is archived once, and never changed.' USING ERRCODE = 'insufficient_privilege';
END
"""

# Event triggers: what no trigger of a table sees.
_NO_DROP = """
DECLARE
  gone record;
BEGIN
  FOR gone IN
    SELECT d.object_name FROM pg_event_trigger_dropped_objects() d
      WHERE d.object_type = 'table' AND d.schema_name = current_schema() AND (
        d.object_name IN ('audit_event', 'audit_payload', 'audit_pending', 'audit_leaf', 'audit_head',
          'audit_checkpoint', 'audit_partition', 'audit_hold', 'audit_kept')
        OR d.object_name ~ '^audit_(event|payload)_([0-9]{4}_[0-9]{2}|first|rest)$')
  LOOP
    IF gone.object_name !~ '^audit_(event|payload)_' OR NOT EXISTS (
      SELECT FROM audit_partition p WHERE p.archived_at IS NOT NULL
        AND p.name = regexp_replace(gone.object_name, '^audit_(event|payload)_', '')
    ) THEN
      RAISE EXCEPTION 'The audit log is append-only: dropping % is refused.', gone.object_name
        USING ERRCODE = 'insufficient_privilege';
    END IF;
  END LOOP;
END
"""

_NO_DETACH = """
DECLARE
  apart text;
BEGIN
  IF to_regclass('audit_partition') IS NULL THEN
    RETURN;
  END IF;
  SELECT p.name INTO apart FROM audit_partition p, (VALUES ('audit_event'), ('audit_payload')) AS t (whole)
    WHERE p.archived_at IS NULL AND NOT EXISTS (
      SELECT FROM pg_inherits i WHERE i.inhparent = to_regclass(t.whole) AND NOT i.inhdetachpending
        AND i.inhrelid = to_regclass(format('%I', t.whole || '_' || p.name)))
    LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'The audit log is append-only: detaching its part % is refused.', apart
      USING ERRCODE = 'insufficient_privilege';
  END IF;
END
"""

FUNCTIONS = {
    "audit_refuse": Function("() RETURNS trigger", _REFUSE),
    "audit_chain": Function("() RETURNS trigger", _CHAIN),
    "audit_enqueue": Function("() RETURNS trigger", _ENQUEUE),
    "audit_erasing": Function("() RETURNS trigger", _ERASING),
    "audit_growing": Function("() RETURNS trigger", _GROWING),
    "audit_sequenced": Function("() RETURNS trigger", _SEQUENCED),
    "audit_holding": Function("() RETURNS trigger", _HOLDING),
    "audit_parting": Function("() RETURNS trigger", _PARTING),
    "audit_sequence": Function("(expected bigint, at_most integer) RETURNS bigint", _SEQUENCE, callable=True),
    "audit_erase": Function("(record uuid) RETURNS bigint", _ERASE, callable=True),
    "audit_uuid_at": Function("(at timestamptz) RETURNS uuid", _UUID_AT, callable=True),
    "audit_guard_partition": Function("(whole text, name text) RETURNS void", _GUARD_PARTITION),
    "audit_add_partition": Function("(name text, lower uuid, upper uuid) RETURNS void", _ADD_PARTITION),
    "audit_partition_ahead": Function(
        "(at timestamptz, months integer) RETURNS integer", _PARTITION_AHEAD, callable=True
    ),
    "audit_archive": Function("(archived text, record uuid) RETURNS void", _ARCHIVE),
    "audit_place_hold": Function("(record uuid) RETURNS void", _HOLD, callable=True),
    "audit_release_hold": Function("(record uuid) RETURNS void", _RELEASE, callable=True),
    "audit_no_drop": Function("() RETURNS event_trigger", _NO_DROP),
    "audit_no_detach": Function("() RETURNS event_trigger", _NO_DETACH),
}
