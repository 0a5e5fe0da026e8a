"""http.fetch and http.post: what the public web answers, fetched by the server within a list of hosts."""

from tools.builtin.http.tool import FETCH, POST

__all__ = ["FETCH", "POST"]
