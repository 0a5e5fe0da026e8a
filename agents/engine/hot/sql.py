"""The statements of a turn. `agents.engine.transitions` and the code around it say the same by the ORM.

Nobody who holds a lock waits here for another (SKIP LOCKED), so that jobs may be taken in any order; only a turn for
one job alone waits (`LOCK_PATIENTLY`), holding nothing.
"""

from approvals.policy import published

_JOBS = """
SELECT j.id, j.kind, j.state, j.cancel_requested, j.owner_id, u.username, j.labels, j.feed_seq, j.tokens_used,
       COALESCE(a.name, ''), COALESCE(r.name, ''), COALESCE(r.default_branch, ''), COALESCE(r.environment, ''),
       j.tenant_id, (SELECT t.name FROM agents_tenant t WHERE t.id = j.tenant_id), {special}, {ending},
       ARRAY(SELECT g.name::text FROM auth_user_groups m JOIN auth_group g ON g.id = m.group_id
              WHERE m.user_id = j.owner_id),
       ARRAY({published}),
       ARRAY(SELECT l.kind || ' ' || l.pattern FROM agents_ratelimit l WHERE l.enabled)
  FROM agents_job j JOIN auth_user u ON u.id = j.owner_id
  LEFT JOIN agents_agent a ON a.id = j.agent_id LEFT JOIN agents_repository r ON r.id = j.repository_id
 WHERE j.id = ANY(ARRAY(SELECT job_id FROM agents_step WHERE id = ANY(%s)) || %s::uuid[])
   FOR NO KEY UPDATE OF j
"""

# What the hot path knows nothing of. A column that changes how a job or a step goes on belongs here.
_SPECIAL_JOB = (
    """(j.concurrency_key <> '' OR j.grant <> '[]' OR j.starts_at IS NOT NULL OR j.workspace_of IS NOT NULL)"""
)
# The same for how a job ends; somebody listens to the owner's events (`agents.triggers.emit`).
_SPECIAL_END = """(j.kind IN ('goal', 'chat') OR j.conversation_id IS NOT NULL OR j.parent_id IS NOT NULL
        OR j.workflow_version_id IS NOT NULL
        OR EXISTS (SELECT FROM agents_eventrule e WHERE e.enabled AND e.owner_id = j.owner_id)
        OR EXISTS (SELECT FROM agents_webhookendpoint w WHERE w.enabled AND w.owner_id = j.owner_id))"""
_SPECIAL_STEP = """(s.kind <> 'call' OR s.parent_id IS NOT NULL OR s.template IS NOT NULL OR s.condition <> ''
        OR s.spec IS NOT NULL OR s.timeout_s IS NOT NULL OR s.compensates_id IS NOT NULL OR s.fallback_used <> 0
        OR s.approval_id IS NOT NULL OR s.waits_for <> '' OR s.workspace_of IS NOT NULL
        OR s.opinion IS NOT NULL)"""

LOCK_PATIENTLY = _JOBS.format(special=_SPECIAL_JOB, ending=_SPECIAL_END, published=published.SET)
LOCK = f"{LOCK_PATIENTLY} SKIP LOCKED"

READ_PATIENTLY = f"""
SELECT s.id, s.job_id, s.seq, s.key, s.tool, s.schema_version, s.arguments, s.needs, s.needs_success, s.state, s.attempt,
       s.cancel_requested, s.not_before IS NOT NULL, s.permit_id, s.target_state, s.preview_digest, s.effect, s.queue,
       {_SPECIAL_STEP}, s.decision
  FROM agents_step s WHERE s.id = ANY(%s) ORDER BY s.id FOR NO KEY UPDATE
"""  # noqa: S608 constants only
READ = f"{READ_PATIENTLY} SKIP LOCKED"

LAST_SEQ = """
SELECT job.id, (SELECT seq FROM agents_step WHERE job_id = job.id ORDER BY seq DESC LIMIT 1)
  FROM unnest(%s::uuid[]) AS job(id)
"""

# Of the steps that this turn does not touch: does one go on by itself; is one open; did one end otherwise?
REST = """
SELECT EXISTS (SELECT FROM agents_step WHERE job_id = %(job)s AND state IN ('ready', 'queued', 'running') AND id <> ALL(%(touched)s)),
       EXISTS (SELECT FROM agents_step WHERE job_id = %(job)s AND state <> 'succeeded' AND id <> ALL(%(touched)s))
"""

# The plans of a turn are for few rows each, also before the tables have statistics. A worker that is stopped in a turn
# gives its locks back.
SETTINGS = """
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true), set_config('idle_in_transaction_session_timeout', '5000', true)
"""
DURABILITY = "SELECT set_config('synchronous_commit', %s, true)"

# The rows of steps and jobs were read and locked by this transaction, so their ids and attempts name them as they were.
# Divides by zero where a row is missing or a permit cannot be spent: the error keeps the commit behind it from being
# executed. `mod(…, 1) = 0` and `length = 64` are always true: an equation makes the planner expect one row of a recordset
# instead of a hundred, and look rows up by their keys.
WRITE = """
WITH given AS MATERIALIZED (SELECT %s::jsonb AS d, %s::timestamptz AS now, %s::timestamptz AS lease),
settled AS (
  UPDATE agents_step s SET state = 'succeeded', finished_at = g.now, lease_until = NULL, result = x.result, tokens = 0,
         labels = x.labels, error_class = '', error_code = '', error = ''
    FROM given g, jsonb_to_recordset(g.d->'settled') AS x(id uuid, attempt int, result jsonb, labels text[])
   WHERE s.id = x.id AND s.attempt = x.attempt AND mod(x.attempt, 1) = 0 RETURNING 1),
claimed AS (
  UPDATE agents_step s SET state = 'running', attempt = s.attempt + 1, claimed_by = x.worker, started_at = g.now,
         finished_at = NULL, lease_until = g.lease
    FROM given g, jsonb_to_recordset(g.d->'claimed') AS x(id uuid, attempt int, worker text)
   WHERE s.id = x.id AND s.attempt = x.attempt AND mod(x.attempt, 1) = 0 RETURNING 1),
released AS (
  UPDATE agents_step s
     SET state = CASE WHEN x.worker IS NULL THEN 'queued' ELSE 'running' END, decision = x.decision, risk = x.risk,
         ready_at = g.now, approval_id = NULL, target_state = '{}', preview_digest = '', permit_id = x.permit,
         dispatched_at = g.now, dispatches = 0,
         attempt = s.attempt + (x.worker IS NOT NULL)::int,
         claimed_by = COALESCE(x.worker, s.claimed_by),
         started_at = CASE WHEN x.worker IS NULL THEN s.started_at ELSE g.now END,
         finished_at = CASE WHEN x.worker IS NULL THEN s.finished_at END,
         lease_until = CASE WHEN x.worker IS NOT NULL THEN g.lease END
    FROM given g, jsonb_to_recordset(g.d->'released')
         AS x(id uuid, attempt int, decision jsonb, risk text, permit uuid, worker text)
   WHERE s.id = x.id AND s.attempt = x.attempt AND mod(x.attempt, 1) = 0 RETURNING 1),
begun AS (
  INSERT INTO agents_attempt (id, step_id, number, queue, worker, task_id, claimed_at, outcome, error_code, error)
  SELECT x.id, x.step, x.number, x.queue, x.worker, x.task, g.now, '', '', ''
    FROM given g, jsonb_to_recordset(g.d->'begun') AS x(id uuid, step uuid, number int, queue text, worker text, task text)
  RETURNING 1),
ended AS (
  UPDATE agents_attempt a SET ended_at = g.now, outcome = 'succeeded', error_code = '', error = ''
    FROM given g, jsonb_to_recordset(g.d->'settled') AS x(id uuid, attempt int)
   WHERE a.step_id = x.id AND a.number = x.attempt AND mod(x.attempt, 1) = 0 RETURNING 1),
granted AS (
  INSERT INTO tools_permit (id, subject, digest, granted_by, created_at, spent_at, spent_by)
  SELECT x.id, x.subject, x.digest, x.by, g.now, CASE WHEN x.worker IS NOT NULL THEN g.now END, COALESCE(x.worker, '')
    FROM given g, jsonb_to_recordset(g.d->'granted') AS x(id uuid, subject text, digest text, by text, worker text)
  RETURNING 1),
spent AS (
  UPDATE tools_permit p SET spent_at = g.now, spent_by = x.worker
    FROM given g, jsonb_to_recordset(g.d->'spent') AS x(id uuid, digest text, worker text)
   WHERE p.id = x.id AND p.digest = x.digest AND p.spent_at IS NULL AND (p.expires_at IS NULL OR p.expires_at > g.now)
     AND length(x.digest) = 64 RETURNING 1),
jobs AS (
  UPDATE agents_job j SET feed_seq = x.feed_seq, state = x.state, outcome = COALESCE(x.outcome, j.outcome),
         started_at = COALESCE(j.started_at, CASE WHEN x.state = 'running' THEN g.now END),
         finished_at = CASE WHEN x.outcome IS NOT NULL THEN g.now ELSE j.finished_at END
    FROM given g, jsonb_to_recordset(g.d->'jobs') AS x(id uuid, feed_seq int, state text, outcome text)
   WHERE j.id = x.id AND mod(x.feed_seq, 1) = 0 RETURNING 1),
told AS (
  INSERT INTO agents_feedentry (job_id, seq, step_id, kind, data, at)
  SELECT x.job, x.seq, x.step, x.kind, x.data, g.now
    FROM given g, jsonb_to_recordset(g.d->'told') AS x(job uuid, seq int, step uuid, kind text, data jsonb)
  RETURNING 1),
recorded AS (
  INSERT INTO audit_event (id, body, signature, kid)
  SELECT x.id, x.body, decode(x.signature, 'hex'), x.kid
    FROM given g, jsonb_to_recordset(g.d->'recorded') AS x(id uuid, body text, signature text, kid text)
  RETURNING 1),
kept AS (
  INSERT INTO audit_payload (event_id, slot, salt, value)
  SELECT x.event, x.slot, decode(x.salt, 'hex'), x.value
    FROM given g, jsonb_to_recordset(g.d->'kept') AS x(event uuid, slot text, salt text, value text)
  RETURNING 1)
SELECT 1 / (ARRAY[(SELECT count(*) FROM settled), (SELECT count(*) FROM claimed), (SELECT count(*) FROM released),
                  (SELECT count(*) FROM begun), (SELECT count(*) FROM ended), (SELECT count(*) FROM granted),
                  (SELECT count(*) FROM spent), (SELECT count(*) FROM jobs), (SELECT count(*) FROM told),
                  (SELECT count(*) FROM recorded), (SELECT count(*) FROM kept)] = %s::bigint[])::int
"""
