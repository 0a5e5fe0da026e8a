"""The scripted model server as a process of its own, as the development stack runs it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from agents.llm.values import Endpoint


@contextmanager
def running(*arguments: str) -> Iterator[Endpoint]:
    """Starts it on a free port; ends it with the block."""
    command = [sys.executable, "-m", "agents.llm.scripted", "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "http://" in line, "the scripted server did not start"
        yield Endpoint(base_url=line.split()[-1], api_key="")
    finally:
        process.terminate()
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()
