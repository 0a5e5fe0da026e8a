"""What a turn will write, collected row by row and written by one statement."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from psycopg import Connection, Cursor

from agents.engine.hot import sql
from agents.engine.hot.rows import JobRow, StepRow
from audit.actor import Actor, Target
from audit.append import seal
from audit.enrolment import ProcessKey
from audit.kinds import Event
from tools.spec import Effect

_TABLES = ("settled", "claimed", "released", "begun", "granted", "spent", "jobs", "told", "recorded", "kept")
_COUNTED = ("settled", "claimed", "released", "begun", "settled", *_TABLES[4:])  # as WRITE counts them


class Writes:
    """One transaction's rows. durable: the commit has to be on disk before anything goes on."""

    def __init__(self, key: ProcessKey, *, now: datetime, lease_s: float) -> None:
        self.now = now
        self.lease_until = now + timedelta(seconds=lease_s)
        self.durable = False
        self._key = key
        self._rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _TABLES}
        self._jobs: dict[Any, JobRow] = {}

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def add(self, table: str, **row: Any) -> None:
        self._rows[table].append(row)

    def needs_disk(self, effect: str) -> None:
        """What precedes or follows an effect that cannot be repeated must survive a crash of the database."""
        self.durable = self.durable or effect == Effect.ONCE

    def tell(self, job: JobRow, step: StepRow | None = None) -> None:
        """The feed's next entry: the state of the step, or of the job."""
        self._jobs[job.id] = job
        job.feed_seq += 1
        self.add(
            "told",
            job=str(job.id),
            seq=job.feed_seq,
            step=str(step.id) if step else None,
            kind="step" if step else "job",
            data=step.entry if step else {"state": str(job.state)},
        )

    def record(
        self,
        event: Event,
        *,
        actor: Actor,
        target: Target,
        outcome: str = "ok",
        context: Mapping[str, Any],
        payload: Mapping[str, Any] | None = None,
    ) -> None:
        """See `audit.append.record`."""
        sealed = seal(
            event, actor=actor, target=target, outcome=outcome, context=context, payload=payload, key=self._key
        )
        self.add("recorded", id=str(sealed.id), body=sealed.body, signature=sealed.signature.hex(), kid=sealed.kid)
        for slot, salt, value in sealed.payloads:
            self.add("kept", event=str(sealed.id), slot=slot, salt=salt.hex(), value=value)

    def feeds(self) -> dict[Any, int]:
        """The latest number of each job's feed."""
        return {job.id: job.feed_seq for job in self._jobs.values()}

    def write(self, raw: Connection[tuple[Any, ...]], outcomes: Mapping[Any, str]) -> None:
        """Writes all in the open transaction, or fails where a row was moved past its job's lock (DivisionByZero).

        outcomes: of jobs that end.
        """
        for job in self._jobs.values():
            row = {"id": str(job.id), "feed_seq": job.feed_seq, "state": str(job.state)}
            self.add("jobs", **row, outcome=outcomes.get(job.id))
        text = json.dumps(self._rows, separators=(",", ":"))
        wanted = [len(self._rows[name]) for name in _COUNTED]
        Cursor(raw).execute(sql.WRITE, [text, self.now, self.lease_until, wanted], prepare=True)
