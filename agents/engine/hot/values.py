"""What is asked of a turn, and what it answers."""

from dataclasses import dataclass, field
from enum import Enum
from uuid import UUID

from tools.permits import Spent
from tools.spec import Call, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Where a message was consumed: the queue, the worker's name, the Celery task's id."""

    queue: str
    worker: str
    task_id: str


class Otherwise(Enum):
    """GENERAL: this one is not for the hot path. BUSY: its job is locked by somebody else just now. LOST: the claim
    was lost: a duplicate or stale message."""

    GENERAL = "general"
    BUSY = "busy"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A step that this worker holds. permit: spent with the claim, or (ONCE) to be spent at the door.

    since: a `time.monotonic()` reading from before the claim.
    """

    step_id: UUID
    job_id: UUID
    key: str
    attempt: int
    call: Call
    permit: Spent | UUID
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A message `(step id, attempt)`."""

    step_id: UUID
    fence: int
    delivery: Delivery
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    """The call of `claimed` succeeded. follow: this thread would go on with the next step of the job."""

    claimed: Claimed
    result: Result
    delivery: Delivery
    follow: bool
    since: float


@dataclass(slots=True)
class Settled:
    """It is written. next: the step that this thread goes on with."""

    next: Claimed | None = None


Wish = Claim | Success
Answer = Claimed | Settled | Otherwise


@dataclass(slots=True)
class Message:
    """To publish after the commit."""

    step_id: UUID
    attempt: int
    queue: str


@dataclass(slots=True)
class Aftermath:
    """What follows a commit: messages of released steps, and the latest number of each feed that grew."""

    messages: list[Message] = field(default_factory=list)
    feeds: dict[UUID, int] = field(default_factory=dict)
