"""The triggers that refuse an illegal state, made from a table of legal moves.

A migration hands in its own frozen copy of the tables of `agents.states`; a later one, with other moves, does so again.
Legal moves cost one comparison with a constant: the trigger's condition holds the table, its function only refuses.
Rows that are loaded as they were (a restored dump) go past it with `session_replication_role = replica`, which only
the database's superuser may set.
"""

from collections.abc import Mapping, Sequence

_FUNCTIONS = """
CREATE OR REPLACE FUNCTION agents_refuse_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% %: % -> % is no legal move', TG_TABLE_NAME, OLD.id, OLD.state, NEW.state
    USING ERRCODE = 'integrity_constraint_violation', TABLE = TG_TABLE_NAME, COLUMN = 'state';
END $$;

CREATE OR REPLACE FUNCTION agents_refuse_beginning() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% %: % is no state to begin in', TG_TABLE_NAME, NEW.id, NEW.state
    USING ERRCODE = 'integrity_constraint_violation', TABLE = TG_TABLE_NAME, COLUMN = 'state';
END $$;

-- A fork begins with copies of steps that have ended in the job that it was made from.
CREATE OR REPLACE FUNCTION agents_refuse_step_beginning() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.state = ANY (TG_ARGV)
     AND EXISTS (SELECT FROM agents_job WHERE id = NEW.job_id AND forked_from_id IS NOT NULL) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION '% %: % is no state to begin in', TG_TABLE_NAME, NEW.id, NEW.state
    USING ERRCODE = 'integrity_constraint_violation', TABLE = TG_TABLE_NAME, COLUMN = 'state';
END $$;

CREATE OR REPLACE FUNCTION agents_refuse_lower_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'agents_step %: attempt % -> %: the fence never goes down', OLD.id, OLD.attempt, NEW.attempt
    USING ERRCODE = 'integrity_constraint_violation', TABLE = TG_TABLE_NAME, COLUMN = 'attempt';
END $$;
"""

_TRIGGERS = """
DROP TRIGGER IF EXISTS {table}_moves ON {table};
CREATE TRIGGER {table}_moves BEFORE UPDATE ON {table} FOR EACH ROW
  WHEN (OLD.state IS DISTINCT FROM NEW.state AND (OLD.state || '>' || NEW.state) <> ALL ('{{{moves}}}'::text[]))
  EXECUTE FUNCTION agents_refuse_move();
DROP TRIGGER IF EXISTS {table}_begins ON {table};
CREATE TRIGGER {table}_begins BEFORE INSERT ON {table} FOR EACH ROW
  WHEN (NEW.state <> '{first}') EXECUTE FUNCTION {refuse};
"""

_FENCE = """
DROP TRIGGER IF EXISTS agents_step_fence ON agents_step;
CREATE TRIGGER agents_step_fence BEFORE UPDATE ON agents_step FOR EACH ROW
  WHEN (NEW.attempt < OLD.attempt) EXECUTE FUNCTION agents_refuse_lower_attempt();
"""

REMOVE = """
DROP TRIGGER agents_step_fence ON agents_step;
DROP TRIGGER agents_step_begins ON agents_step;
DROP TRIGGER agents_step_moves ON agents_step;
DROP TRIGGER agents_job_begins ON agents_job;
DROP TRIGGER agents_job_moves ON agents_job;
DROP FUNCTION agents_refuse_lower_attempt();
DROP FUNCTION agents_refuse_step_beginning();
DROP FUNCTION agents_refuse_beginning();
DROP FUNCTION agents_refuse_move();
"""

Moves = Mapping[str, Sequence[str]]


def install(*, job: Moves, step: Moves, copied: Sequence[str]) -> str:
    """SQL of the triggers. copied: the states in which a fork's step may begin."""
    arguments = ", ".join(f"'{state}'" for state in copied)
    return (
        _FUNCTIONS
        + _triggers("agents_job", job, first="queued", refuse="agents_refuse_beginning()")
        + _triggers("agents_step", step, first="pending", refuse=f"agents_refuse_step_beginning({arguments})")
        + _FENCE
    )


def _triggers(table: str, moves: Moves, *, first: str, refuse: str) -> str:
    pairs = ",".join(f"{was}>{now}" for was, reachable in sorted(moves.items()) for now in sorted(reachable))
    return _TRIGGERS.format(table=table, moves=pairs, first=first, refuse=refuse)
