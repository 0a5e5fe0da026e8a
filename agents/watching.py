"""Following a job's feed until the job ends."""

import time
from collections.abc import Iterator
from contextlib import suppress
from uuid import UUID

import redis

from agents import feed
from agents.models import FeedEntry, Job, Step
from agents.states import STEP_DONE, JobState

# Redis wakes the reader; this is how long a lost wake-up costs.
POLL_S = 1.0

EXIT_CODES = {JobState.SUCCEEDED: 0, JobState.FAILED: 1, JobState.CANCELLED: 2, JobState.COMPENSATED: 1}


def follow(job_id: UUID, *, after: int = 0, timeout_s: float | None = None) -> Iterator[FeedEntry | None]:
    """The job's entries by number as they come; None at each silence, so that the caller can draw. Ends with the job.

    Raises:
        Job.DoesNotExist
        TimeoutError: the job has not ended after `timeout_s` seconds.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    with _Waker(job_id) as waker:
        while True:
            # the job before its entries: what commits in between is read by the next round
            job = Job.objects.only("state", "finished_at", "feed_seq").get(pk=job_id)
            entries = feed.entries(job_id, after=after)
            yield from entries
            if entries:
                after = entries[-1].seq
                continue
            if job.done and after >= job.feed_seq:
                return
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"The job is still {job.state} after {timeout_s:g} seconds.")
            yield None
            waker.wait(POLL_S if deadline is None else min(POLL_S, max(0.0, deadline - time.monotonic())))


def progress(job_id: UUID) -> str:
    """One line: the job's state, steps done of those known, and what runs or waits now."""
    job = Job.objects.only("state").get(pk=job_id)
    steps = list(Step.objects.filter(job_id=job_id).order_by("seq").values_list("key", "tool", "state"))
    done = sum(state in STEP_DONE for _, _, state in steps)
    active = [f"{key} {tool} {state}" for key, tool, state in steps if state not in STEP_DONE and state != "pending"]
    line = f"{job.state} · {done}/{len(steps)} steps"
    return f"{line} · {', '.join(active[:3])}" if active else line


class _Waker:
    """Waits for the feed's channel; without Redis it only sleeps."""

    def __init__(self, job_id: UUID) -> None:
        self._channel = feed.channel(job_id)
        self._pubsub: redis.client.PubSub | None = None

    def __enter__(self) -> "_Waker":
        with suppress(redis.RedisError):
            pubsub = feed.client().pubsub(ignore_subscribe_messages=True)
            pubsub.subscribe(self._channel)
            self._pubsub = pubsub
        return self

    def __exit__(self, *_: object) -> None:
        if self._pubsub is not None:
            with suppress(redis.RedisError):
                self._pubsub.close()

    def wait(self, seconds: float) -> None:
        """Returns at a message, or after `seconds`."""
        if self._pubsub is not None:
            try:
                until = time.monotonic() + seconds
                while (left := until - time.monotonic()) > 0:
                    if self._pubsub.get_message(timeout=left) is not None:
                        return
                return
            except redis.RedisError:
                self._pubsub = None
        time.sleep(seconds)
