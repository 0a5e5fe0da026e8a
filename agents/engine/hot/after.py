"""After a turn's commit: messages of released steps, and a word to who reads the feeds."""

from agents.engine import dispatch
from agents.engine.hot.values import Aftermath


def publish(after: Aftermath) -> None:
    """Nothing here may fail a step: messages that are not sent are released later, readers poll."""
    messages = [(one.queue, (dispatch.RUN, one.step_id, one.attempt)) for one in after.messages]
    dispatch.publish_all(messages, after.feeds)
