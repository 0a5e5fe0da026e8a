"""Ways to reach people. A channel is a function `send(request, recipient, url)` that raises ChannelError."""

from collections.abc import Callable

from django.contrib.auth.models import User

from approvals.channels import email, slack
from approvals.models import ApprovalRequest

_CHANNELS: dict[str, Callable[[ApprovalRequest, User | None, str], None]] = {"email": email.send, "slack": slack.send}


def send(channel: str, request: ApprovalRequest, recipient: User | None, url: str) -> None:
    """Sends one message about `request`; `url` is its link.

    Raises:
        ChannelError: it was not taken.
    """
    _CHANNELS[channel](request, recipient, url)
