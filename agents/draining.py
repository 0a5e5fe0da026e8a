"""How a worker process ends in order: nothing begins, what runs gets its time, what remains is handed back."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterable
from uuid import UUID

from django.conf import settings
from django.db import Error, connection

from agents.engine import dispatch
from agents.engine.leases import Leases
from agents.workers import Activity, Registration

log = logging.getLogger(__name__)

Message = tuple[UUID, int]
RESTART_CODE = 75  # EX_TEMPFAIL: supervisors start it again
LOOK_EVERY_S = 0.05
SETTLE_S = 5.0  # for steps that were handed back to be settled


class Draining:
    """Of this process. `begin()` may be called in a signal's handler and by several threads."""

    def __init__(self, leases: Leases, activity: Activity) -> None:
        self._leases = leases
        self._activity = activity
        self._begun = threading.Event()
        self._watched = threading.Event()
        self._lock = threading.RLock()  # the signal's handler runs in a thread that may hold it
        self._unhandled: set[Message] = set()
        self.registrations: list[Registration] = []

    def begun(self) -> bool:
        """From here on no step begins in this process."""
        return self._begun.is_set()

    def add(self, message: Message) -> None:
        """A message that was consumed and will not be handled here."""
        with self._lock:
            self._unhandled.add(message)

    def begin(self, reserved: Iterable[Message] = ()) -> None:
        """Stops beginning steps; takes the messages that wait in this process; bounds what runs by WORKER_DRAIN_S."""
        self._begun.set()
        for message in reserved:
            self.add(message)
        if not self._watched.is_set():
            self._watched.set()
            threading.Thread(target=self._bound, name="draining", daemon=True).start()

    def finish(self) -> None:
        """Hands back what was not handled, and leaves the registry."""
        with self._lock:
            messages, self._unhandled = self._unhandled, set()
        try:
            dispatch.hand_back(messages)
            for registration in self.registrations:
                registration.leave()
        except Error as error:
            log.warning("worker.leave_failed", extra={"error": type(error).__name__})

    def told(self, what: str) -> None:
        """Obeys what the registry's row says; called by the heartbeat."""
        if self.begun():
            return
        log.warning("worker.told", extra={"told": what})
        if what == "drain":
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self.begin()
            threading.Thread(target=self._exit_hard, name="restarting", daemon=True).start()

    def _bound(self) -> None:
        """Steps that still run when the time is over lose their lease here: their processes are ended, and each is
        settled as lost, so that it goes on elsewhere at once."""
        deadline = time.monotonic() + settings.WORKER_DRAIN_S
        while time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)
        handed = self._leases.give_up()
        if handed:
            log.warning("worker.steps_handed_back", extra={"steps": handed})

    def _exit_hard(self) -> None:
        """The main thread may hang: it is not asked."""
        deadline = time.monotonic() + settings.WORKER_DRAIN_S + SETTLE_S
        while self._activity.busy > 0 and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)
        self.finish()
        connection.close()
        os._exit(RESTART_CODE)
