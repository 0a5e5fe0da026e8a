"""What a channel is. How to write one: docs/howto/notifications.md."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from django.contrib.auth.models import User

from approvals.models import ApprovalRequest, Notification

Kind = Notification.Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One request that a message tells of. url: where its recipient opens it; a secret, but not a login."""

    request: ApprovalRequest
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """id: the same at each try, so that a receiver can drop what came twice; kind: what it tells; items: requests, the
    first is the one that it was made for; recipient: None for a room; place: where the message about these requests
    stands already, as `send` gave it, "" where none does."""

    id: UUID
    kind: str
    items: Sequence[Item]
    recipient: User | None = None
    place: str = ""

    @property
    def request(self) -> ApprovalRequest:
        return self.items[0].request

    @property
    def url(self) -> str:
        return self.items[0].url


class Channel:
    """name: at most 12 characters, stands in rows and settings; kinds: what it is given; personal: a message for each
    person that it reaches, or else one for a room; coalesces: may one message tell of several requests?"""

    name: ClassVar[str]
    kinds: ClassVar[frozenset[str]] = frozenset({Kind.REQUEST, Kind.REMINDER, Kind.ESCALATION})
    personal: ClassVar[bool] = False
    coalesces: ClassVar[bool] = False

    def configured(self) -> bool:
        """Is it set up here? Nothing is queued for one that is not. Reads settings, asks nobody."""
        raise NotImplementedError

    def reaches(self, user: User) -> bool:
        """Has this person an address in it? Asked of personal channels only."""
        return False

    def takes(self, kind: str) -> bool:
        return kind in self.kinds

    def send(self, message: Message) -> str:
        """Sends one message and gives where it stands ("" where that means nothing). Called outside any transaction,
        and again after a failure.

        Raises:
            ChannelError: it was not taken; `permanent` where trying again will not help.
        """
        raise NotImplementedError
