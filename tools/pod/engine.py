"""What the launcher needs of an engine, and how its client is run. Stdlib only."""

import json
import os
import subprocess
from abc import ABC, abstractmethod
from typing import Any

ANSWER_S = 20.0
LABEL = "countersign"


class EngineFailed(Exception):
    """The engine did not do what it was asked; the message is its own."""


class Engine(ABC):
    """One container's life: `create`, `attach`, then `state`, and `remove` whatever happened. `ask_to_end` in between."""

    def __init__(self, spec: dict[str, Any], name: str) -> None:
        self.spec = spec
        self.pod: dict[str, Any] = spec["pod"]
        self.name = name

    @abstractmethod
    def create(self, command: list[str]) -> None:
        """Makes the container, which waits for its input. Raises EngineFailed."""

    @abstractmethod
    def attach(self) -> list[str]:
        """The client's command line that starts it, or joins it, and hands its input and output through."""

    @abstractmethod
    def state(self) -> dict[str, Any] | None:
        """How it ended: {"code": exit code, "memory": did it run out of that}; None where it has not. Raises EngineFailed."""

    @abstractmethod
    def ask_to_end(self) -> None:
        """SIGTERM to the command."""

    @abstractmethod
    def removal(self) -> list[str]:
        """The client's command line that kills and removes it, and waits for nothing more."""

    def ask(self, *arguments: str, stdin: bytes = b"", timeout_s: float = ANSWER_S) -> str:
        """What the client prints. Raises EngineFailed."""
        return ask(self.pod, *arguments, stdin=stdin, timeout_s=timeout_s)


def ask(pod: dict[str, Any], *arguments: str, stdin: bytes = b"", timeout_s: float = ANSWER_S) -> str:
    """What the engine's client prints. Raises EngineFailed."""
    try:
        done = subprocess.run(
            [pod["program"], *arguments],
            input=stdin,
            capture_output=True,
            env=pod["environment"],
            cwd="/",
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        raise EngineFailed(f"{os.path.basename(pod['program'])} {arguments[0]} did not answer in time") from None
    except OSError as error:
        raise EngineFailed(f"{pod['program']}: {error.strerror}") from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise EngineFailed(said[-1][:300] if said else f"{arguments[0]} ended with {done.returncode}")
    return done.stdout.decode(errors="replace")


def as_json(text: str) -> Any:
    """Raises EngineFailed."""
    try:
        return json.loads(text)
    except ValueError:
        raise EngineFailed("the engine's answer cannot be read") from None


def seen_by_engine(path: str, folders: dict[str, str]) -> str:
    """Our path as the engine knows it."""
    for ours, theirs in sorted(folders.items(), key=lambda pair: -len(pair[0])):
        if path == ours or path.startswith(ours.rstrip("/") + "/"):
            return theirs.rstrip("/") + path[len(ours.rstrip("/")) :]
    return path
