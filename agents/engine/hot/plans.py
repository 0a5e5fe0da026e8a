"""What a job's steps need, remembered by process: `needs` never change, and new steps show by the job's last `seq`."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID

from psycopg import Connection, Cursor

KEPT_STEPS = 100_000  # in all plans together

_LOAD = "SELECT id, seq, key, needs FROM agents_step WHERE job_id = %s ORDER BY seq"


@dataclass(frozen=True, slots=True)
class Plan:
    """after: the ids of the steps that need a key, in their order; ids: of each key."""

    last_seq: int
    ids: dict[str, UUID]
    after: dict[str, list[UUID]]
    needs: dict[UUID, list[str]]

    def touched_by(self, key: str) -> list[UUID]:
        """The steps whose states decide what follows the end of step `key`."""
        found = list(self.after.get(key, ()))
        for step_id in self.after.get(key, ()):
            found += [self.ids[need] for need in self.needs[step_id] if need != key]
        return found


class Plans:
    """The plans that were used last."""

    def __init__(self) -> None:
        self._plans: OrderedDict[UUID, Plan] = OrderedDict()
        self._steps = 0
        self._lock = threading.Lock()

    def known(self, job_id: UUID) -> Plan | None:
        with self._lock:
            plan = self._plans.get(job_id)
            if plan is not None:
                self._plans.move_to_end(job_id)
            return plan

    def load(self, raw: Connection[tuple[object, ...]], job_id: UUID) -> Plan:
        """Reads the plan anew and keeps it."""
        cursor = Cursor(raw)
        cursor.execute(_LOAD, [job_id])
        ids: dict[str, UUID] = {}
        after: dict[str, list[UUID]] = {}
        needs: dict[UUID, list[str]] = {}
        last = 0
        for step_id, seq, key, needed in cursor.fetchall():
            last = int(seq)  # type: ignore[call-overload]
            ids[str(key)] = step_id  # type: ignore[assignment]
            needs[step_id] = needed  # type: ignore[index,assignment]
            for need in needed:  # type: ignore[attr-defined]
                after.setdefault(need, []).append(step_id)  # type: ignore[arg-type]
        plan = Plan(last, ids, after, needs)
        with self._lock:
            old = self._plans.pop(job_id, None)
            self._steps += len(ids) - (len(old.ids) if old else 0)
            self._plans[job_id] = plan
            while self._steps > KEPT_STEPS and len(self._plans) > 1:
                _, gone = self._plans.popitem(last=False)
                self._steps -= len(gone.ids)
        return plan

    def forget(self, job_id: UUID) -> None:
        """The job has ended."""
        with self._lock:
            plan = self._plans.pop(job_id, None)
            self._steps -= len(plan.ids) if plan else 0


plans = Plans()
