"""Who did it. Ids are pseudonymous: a primary key or a process name, never an e-mail address."""

from dataclasses import dataclass
from enum import StrEnum


class ActorType(StrEnum):
    USER = "user"
    AGENT = "agent"
    WORKER = "worker"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """type: what kind of actor; id: its pseudonymous id; on_behalf_of: the user id that it acts for, where it does."""

    type: ActorType
    id: str
    on_behalf_of: str | None = None

    @classmethod
    def user(cls, pk: object) -> "Actor":
        return cls(type=ActorType.USER, id=str(pk))

    @classmethod
    def agent(cls, name: str, on_behalf_of: object | None = None) -> "Actor":
        return cls(type=ActorType.AGENT, id=name, on_behalf_of=None if on_behalf_of is None else str(on_behalf_of))

    @classmethod
    def worker(cls, name: str) -> "Actor":
        return cls(type=ActorType.WORKER, id=name)

    @classmethod
    def system(cls, name: str) -> "Actor":
        return cls(type=ActorType.SYSTEM, id=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What it was done to: `type` such as `job`, `step`, `approval`, `policy`, and the id as text."""

    type: str
    id: str
