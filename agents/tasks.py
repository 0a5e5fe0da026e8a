"""Celery tasks: a line each. A message carries ids and a fencing number; the row is the truth."""

import logging
import os
import time
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

from celery import Task, shared_task
from celery.signals import task_postrun, task_prerun, worker_init, worker_ready, worker_shutdown, worker_shutting_down
from django.conf import settings
from django.db.backends.signals import connection_created
from django.utils import timezone

from agents import archive, cleaning
from agents.connections import rest
from agents.draining import Draining
from agents.engine import answers, children, dispatch, watchdog
from agents.engine.dispatch import PROBE, RUN
from agents.engine.execute import Delivery, execute
from agents.engine.leases import leases
from agents.engine.releaser import Releaser
from agents.triggers import delivery, outbox
from agents.workers import Registration, activity
from tools.artifacts import purging
from tools.sandbox.harden import protect_process

log = logging.getLogger(__name__)

ARCHIVE_FOR_S = 600.0
STOPPED_FOR_LEAST_S = 10

draining = Draining(leases, activity)


def _delivery(task: Task) -> Delivery:
    info = task.request.delivery_info or {}
    return Delivery(
        queue=str(info.get("routing_key") or ""),
        worker=str(task.request.hostname or ""),
        task_id=str(task.request.id or ""),
    )


@shared_task(name=RUN, bind=True, acks_late=True, ignore_result=True)
def run_step(self: Task, step_id: str, fence: int) -> None:
    """Runs one attempt of one step. A duplicate delivery loses the claim and returns."""
    if draining.begun():
        draining.add((UUID(step_id), fence))
        return
    execute(UUID(step_id), fence, _delivery(self), may_follow=lambda: not draining.begun())
    rest()


@shared_task(name=PROBE, bind=True, acks_late=True, ignore_result=True)
def probe_step(self: Task, step_id: str, fence: int) -> None:
    """Finds out whether a lost attempt of a ONCE step happened."""
    if draining.begun():
        draining.add((UUID(step_id), fence))
        return
    answers.probe(UUID(step_id), fence, worker=_delivery(self).worker)


@shared_task(name=dispatch.START_CHILD, acks_late=True, ignore_result=True)
def start_child(step_id: str, fence: int) -> None:
    """Starts the job that a step waits for. A duplicate delivery finds it started and returns."""
    children.start(UUID(step_id), now=timezone.now())


@shared_task(name=dispatch.END_CHILD, acks_late=True, ignore_result=True)
def end_child(job_id: str, fence: int) -> None:
    """Ends the step that waited for a job. A duplicate delivery finds it ended and returns."""
    children.ended(UUID(job_id), now=timezone.now())


@shared_task(name=outbox.TASK, acks_late=True, ignore_result=True)
def deliver_webhooks(endpoint_id: str) -> None:
    """Posts what is due to one endpoint. A duplicate delivery finds it taken and returns."""
    delivery.deliver(endpoint_id, now=timezone.now())


@shared_task(name="agents.clean_workspaces", ignore_result=True)
def clean_workspaces() -> None:
    """Removes the workspaces of jobs that ended long ago, and what crashes left."""
    done = cleaning.clean_workspaces(now=timezone.now())
    if any(done.as_json().values()):
        log.info("workspaces.cleaned", extra=done.as_json())


@shared_task(name="agents.purge_artifacts", ignore_result=True)
def purge_artifacts() -> None:
    """Purges artifacts that are over their time or beyond the room for all of them."""
    done = purging.sweep(now=timezone.now())
    if any(done.as_json().values()):
        log.info("artifacts.purged", extra=done.as_json())


@shared_task(name="agents.archive_logs", ignore_result=True)
def archive_logs() -> None:
    """Moves the feeds of jobs that ended `ARCHIVE_AFTER_DAYS` ago into the archive; a night does as much as it can."""
    if not settings.ARCHIVE_AFTER_DAYS:
        return
    now, until = timezone.now(), time.monotonic() + ARCHIVE_FOR_S
    before = now - timedelta(days=settings.ARCHIVE_AFTER_DAYS)
    try:
        done = archive.archive(before, now=now, stop=lambda: draining.begun() or time.monotonic() > until)
    except archive.ArchiveBusy:
        return
    if done.jobs or done.left:
        log.info("archive.done", extra={"jobs": done.jobs, "entries": done.entries, "left": done.left})


@shared_task(name=watchdog.TASK, bind=True, ignore_result=True)
def canary(self: Task, queue: str) -> None:
    """Shows that this queue is consumed."""
    watchdog.taken(queue, by=_delivery(self).worker, now=timezone.now())


@task_prerun.connect
def _task_begins(**_: Any) -> None:
    activity.begin()


@task_postrun.connect
def _task_ended(**_: Any) -> None:
    activity.end()


@worker_init.connect
def _bound_transactions(**_: Any) -> None:
    """A worker that is stopped in mid-transaction gives its row locks back, so that others can take its steps over."""
    connection_created.connect(_bound_transaction, dispatch_uid="agents.tasks")


def _bound_transaction(connection: Any, **_: Any) -> None:
    with connection.cursor() as cursor:
        longest_ms = int(1000 * max(settings.STEP_LEASE_S, STOPPED_FOR_LEAST_S))
        cursor.execute("SELECT set_config('idle_in_transaction_session_timeout', %s, false)", [str(longest_ms)])


@worker_init.connect
def _worker_init(**_: Any) -> None:
    """Before the first message is taken."""
    _born.append(timezone.now())


@worker_ready.connect
def _worker_ready(sender: Any, **_: Any) -> None:
    """Only in a worker process, once it consumes."""
    protect_process()
    registration = Registration(name=str(sender.hostname), draining=draining.begun, on_told=draining.told)
    if _born:
        registration.born = _born[-1]
    leases.on_beat(registration.beat)  # writes the row; a database that is away now may be back then
    draining.registrations.append(registration)
    group = settings.WORKER_GROUPS.get(os.environ.get("COUNTERSIGN_WORKER_GROUP", ""), {})
    Releaser(list(cast("list[str]", group.get("queues", settings.QUEUES)))).start()


@worker_shutting_down.connect
def _worker_shutting_down(**_: Any) -> None:
    """In the signal's handler: from here on no step begins. What was consumed and has not begun is handed back."""
    # Imported here: a worker has it, and nobody else should load the worker's code to know the tasks.
    from celery.worker import state

    waiting = list(state.reserved_requests - state.active_requests)
    draining.begin((UUID(one.args[0]), one.args[1]) for one in waiting if one.name in (RUN, PROBE))


@worker_shutdown.connect
def _worker_shutdown(**_: Any) -> None:
    """Steps that ran have ended."""
    draining.finish()


_born: list[datetime] = []
