"""The log's first form: one table whose columns were generated expressions. Servers of that form are converted."""

FIRST_FORM = r"""
CREATE TABLE audit_event (
  body text NOT NULL CHECK (octet_length(body) <= 32768),
  signature bytea NOT NULL CHECK (octet_length(signature) = 64),
  kid text NOT NULL CHECK (kid ~ '^[0-9a-f]{16}$'),
  prev uuid,
  id uuid NOT NULL GENERATED ALWAYS AS ((body::jsonb ->> 'id')::uuid) STORED,
  created_at timestamptz NOT NULL GENERATED ALWAYS AS ((make_timestamp(
    substr(body::jsonb ->> 'ts', 1, 4)::int, substr(body::jsonb ->> 'ts', 6, 2)::int,
    substr(body::jsonb ->> 'ts', 9, 2)::int, substr(body::jsonb ->> 'ts', 12, 2)::int,
    substr(body::jsonb ->> 'ts', 15, 2)::int, substr(body::jsonb ->> 'ts', 18, 9)::double precision
  ) AT TIME ZONE 'UTC')) STORED,
  event text NOT NULL GENERATED ALWAYS AS ((body::jsonb ->> 'event')) STORED,
  outcome text NOT NULL GENERATED ALWAYS AS ((body::jsonb ->> 'outcome')) STORED,
  actor_type text NOT NULL GENERATED ALWAYS AS ((body::jsonb #>> '{actor,type}')) STORED,
  actor_id text NOT NULL GENERATED ALWAYS AS ((body::jsonb #>> '{actor,id}')) STORED,
  actor_for text GENERATED ALWAYS AS ((body::jsonb #>> '{actor,on_behalf_of}')) STORED,
  target_type text NOT NULL GENERATED ALWAYS AS ((body::jsonb #>> '{target,type}')) STORED,
  target_id text NOT NULL GENERATED ALWAYS AS ((body::jsonb #>> '{target,id}')) STORED,
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
CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $body$
BEGIN
  RAISE EXCEPTION 'The audit log is append-only: % on % is refused.', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege';
END
$body$;
CREATE OR REPLACE FUNCTION audit_chain() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $body$
BEGIN
  NEW.prev := nullif(current_setting('countersign.audit_prev', true), '')::uuid;
  PERFORM set_config('countersign.audit_prev', NEW.body::json ->> 'id', false);
  RETURN NEW;
END
$body$;
CREATE OR REPLACE FUNCTION audit_enqueue() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $body$
BEGIN
  INSERT INTO audit_pending (event_id) VALUES (NEW.id);
  RETURN NULL;
END
$body$;
CREATE OR REPLACE FUNCTION audit_erasing() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $body$
BEGIN
  IF NEW.event_id = OLD.event_id AND NEW.slot = OLD.slot AND NEW.salt IS NULL AND NEW.value IS NULL THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'A payload of the audit log can be erased, not changed.' USING ERRCODE = 'insufficient_privilege';
END
$body$;
CREATE OR REPLACE FUNCTION audit_growing() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $body$
BEGIN
  IF NEW.size > OLD.size AND EXISTS (SELECT FROM audit_leaf WHERE index = NEW.size - 1) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'The head of the audit log moves forward only.' USING ERRCODE = 'insufficient_privilege';
END
$body$;
CREATE OR REPLACE FUNCTION audit_sequenced() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $body$
BEGIN
  IF EXISTS (SELECT FROM gone LEFT JOIN audit_leaf USING (event_id) WHERE audit_leaf.index IS NULL) THEN
    RAISE EXCEPTION 'A record leaves the queue of the audit log when it has its place.'
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END
$body$;
CREATE OR REPLACE FUNCTION audit_sequence(expected bigint, at_most integer) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $body$
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
           sha256('\x00'::bytea || convert_to(
             batch.body || E'\n' || batch.kid || ' ' || encode(batch.signature, 'hex') || ' '
             || coalesce(batch.prev::text, '-') || E'\n', 'UTF8'))
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
$body$;
CREATE OR REPLACE FUNCTION audit_erase(record uuid) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $body$
DECLARE
  erased bigint;
BEGIN
  UPDATE audit_payload SET salt = NULL, value = NULL WHERE event_id = record AND salt IS NOT NULL;
  GET DIAGNOSTICS erased = ROW_COUNT;
  RETURN erased;
END
$body$;
CREATE TRIGGER audit_event_chain BEFORE INSERT ON audit_event FOR EACH ROW EXECUTE FUNCTION audit_chain();
ALTER TABLE audit_event ENABLE ALWAYS TRIGGER audit_event_chain;
CREATE TRIGGER audit_event_enqueue AFTER INSERT ON audit_event FOR EACH ROW EXECUTE FUNCTION audit_enqueue();
ALTER TABLE audit_event ENABLE ALWAYS TRIGGER audit_event_enqueue;
CREATE TRIGGER audit_event_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_event FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
ALTER TABLE audit_event ENABLE ALWAYS TRIGGER audit_event_append_only;
CREATE TRIGGER audit_leaf_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_leaf FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
ALTER TABLE audit_leaf ENABLE ALWAYS TRIGGER audit_leaf_append_only;
CREATE TRIGGER audit_checkpoint_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_checkpoint FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
ALTER TABLE audit_checkpoint ENABLE ALWAYS TRIGGER audit_checkpoint_append_only;
CREATE TRIGGER audit_payload_keep BEFORE DELETE OR TRUNCATE ON audit_payload FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
ALTER TABLE audit_payload ENABLE ALWAYS TRIGGER audit_payload_keep;
CREATE TRIGGER audit_payload_erasing BEFORE UPDATE ON audit_payload FOR EACH ROW EXECUTE FUNCTION audit_erasing();
ALTER TABLE audit_payload ENABLE ALWAYS TRIGGER audit_payload_erasing;
CREATE TRIGGER audit_head_keep BEFORE DELETE OR TRUNCATE ON audit_head FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
ALTER TABLE audit_head ENABLE ALWAYS TRIGGER audit_head_keep;
CREATE TRIGGER audit_head_growing BEFORE UPDATE ON audit_head FOR EACH ROW EXECUTE FUNCTION audit_growing();
ALTER TABLE audit_head ENABLE ALWAYS TRIGGER audit_head_growing;
CREATE TRIGGER audit_pending_keep BEFORE UPDATE OR TRUNCATE ON audit_pending FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
ALTER TABLE audit_pending ENABLE ALWAYS TRIGGER audit_pending_keep;
CREATE TRIGGER audit_pending_sequenced AFTER DELETE ON audit_pending REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION audit_sequenced();
ALTER TABLE audit_pending ENABLE ALWAYS TRIGGER audit_pending_sequenced;
"""
