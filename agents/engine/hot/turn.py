"""One transaction for the wishes of many threads: lock the jobs, read the steps, decide, write, commit, publish."""

import logging
from collections.abc import Sequence
from uuid import UUID

import psycopg
from django.conf import settings
from django.db import Error, connection
from django.utils import timezone
from psycopg import Cursor

from agents.connections import Raw, raw_connection, rest
from agents.engine.hot import claims, sql, successes
from agents.engine.hot.after import publish
from agents.engine.hot.plans import plans
from agents.engine.hot.rows import JobRow, StepRow
from agents.engine.hot.values import Aftermath, Answer, Claim, Otherwise, Success, Wish
from agents.engine.hot.writes import Writes
from audit.enrolment import process_key

log = logging.getLogger(__name__)


class View:
    """What this turn has locked and read."""

    def __init__(self, jobs: dict[UUID, JobRow], steps: dict[UUID, StepRow], last_seq: dict[UUID, int]) -> None:
        self.jobs = jobs
        self.steps = steps
        self.last_seq = last_seq


def take(wishes: Sequence[Wish], *, patient: bool = False) -> list[Answer]:
    """Answers every wish in one transaction. BUSY: the wish's job is locked elsewhere.

    patient: waits for such a job; for one wish alone, and not in the name of other threads.
    """
    key = process_key()
    if not key.enrolled:  # the general code enrols it
        return [Otherwise.GENERAL] * len(wishes)
    try:
        return _take(wishes, patient=patient)
    except (psycopg.OperationalError, psycopg.DataError, Error) as error:
        log.warning("hot.given_up", extra={"error": type(error).__name__, "wishes": len(wishes)})
        return [Otherwise.GENERAL] * len(wishes)
    except Exception:  # a bug, or one wish that cannot be written: it must not cost the others
        log.exception("hot.failed", extra={"wishes": len(wishes)})
        return [Otherwise.GENERAL] * len(wishes)
    finally:
        rest()


def _take(wishes: Sequence[Wish], *, patient: bool) -> list[Answer]:
    try:
        return _transaction(wishes, raw_connection(), patient=patient)
    except psycopg.OperationalError:
        if connection.connection is not None and not connection.connection.closed:
            raise
        connection.close()  # the database was restarted since this thread last spoke to it: once more
        return _transaction(wishes, raw_connection(), patient=patient)


def _transaction(wishes: Sequence[Wish], raw: Raw, *, patient: bool) -> list[Answer]:
    for wish in wishes:
        if isinstance(wish, Success) and plans.known(wish.claimed.job_id) is None:
            plans.load(raw, wish.claimed.job_id)
    writes = Writes(process_key(), now=timezone.now(), lease_s=settings.STEP_LEASE_S)
    after = Aftermath()
    outcomes: dict[UUID, str] = {}
    try:
        view = _read(raw, wishes, patient=patient)
        answers: list[Answer] = []
        for wish in wishes:
            if isinstance(wish, Claim):
                answers.append(claims.claim(wish, view, writes))
            else:
                answers.append(successes.settle(wish, view, writes, after, outcomes, raw))
        if writes:
            with raw.pipeline():
                Cursor(raw).execute(sql.DURABILITY, ["on" if writes.durable else "off"], prepare=True)
                writes.write(raw, outcomes)
                raw.execute("COMMIT")
        else:
            raw.execute("ROLLBACK")
    except BaseException:
        if not raw.closed:
            raw.rollback()
        raise
    after.feeds = writes.feeds()
    publish(after)
    for job_id in outcomes:
        plans.forget(job_id)
    return answers


def _read(raw: Raw, wishes: Sequence[Wish], *, patient: bool) -> View:
    claimed = [wish.step_id for wish in wishes if isinstance(wish, Claim)]
    ended = [wish.claimed for wish in wishes if isinstance(wish, Success)]
    job_ids = list({one.job_id for one in ended})
    wanted = {*claimed, *(one.step_id for one in ended)}
    for one in ended:
        plan = plans.known(one.job_id)
        if plan is not None:
            wanted.update(plan.touched_by(one.key))
    jobs, steps, last = Cursor(raw), Cursor(raw), Cursor(raw)
    with raw.pipeline():
        raw.execute("BEGIN")
        Cursor(raw).execute(sql.SETTINGS, prepare=True)
        jobs.execute(sql.LOCK_PATIENTLY if patient else sql.LOCK, [claimed, job_ids], prepare=True)
        steps.execute(sql.READ_PATIENTLY if patient else sql.READ, [list(wanted)], prepare=True)
        last.execute(sql.LAST_SEQ, [job_ids], prepare=True)
    return View(
        {row[0]: JobRow(*row) for row in jobs.fetchall()},
        {row[0]: StepRow(*row) for row in steps.fetchall()},
        dict(last.fetchall()),
    )
