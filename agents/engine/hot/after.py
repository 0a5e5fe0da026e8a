"""After a turn's commit: messages of released steps, and a word to who reads the feeds."""

from agents import feed
from agents.engine import dispatch
from agents.engine.hot.values import Aftermath


def publish(after: Aftermath) -> None:
    """Nothing here may fail a step: messages that are not sent are released later, readers poll."""
    for message in after.messages:
        dispatch.publish(dispatch.RUN, message.step_id, message.attempt, message.queue)
    if after.feeds:
        feed.wake_all(after.feeds)
