"""Ways to reach people. A channel is one class, named in `settings.APPROVAL_CHANNELS` by its dotted path."""

from approvals.channels.base import Channel, Message
from approvals.channels.registry import active, every, named

__all__ = ["Channel", "Message", "active", "every", "named"]
