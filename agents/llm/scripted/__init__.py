"""A scripted stand-in for a model, for development, the demo and tests: an OpenAI-compatible server over real HTTP.

It is no model. It follows a script that reads the conversation, and says in its own texts that it is scripted.
Nothing here imports Django: the server starts in a moment and stays small.
"""

MODEL = "scripted-demo"

__all__ = ["MODEL"]
