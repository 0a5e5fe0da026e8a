"""What the terminal shows, and the log files that hold everything."""

import json
import re
import sys
import time
from pathlib import Path
from typing import BinaryIO

_LOG_MAX_BYTES = 10 * 1024 * 1024
_LOUD = re.compile(r"\b(WARNING|ERROR|CRITICAL|FATAL|PANIC)\b")
_SHOWN_IN_10_S = 6
_WIDTH = 160


def say(text: str = "") -> None:
    """A line of the stack's own."""
    print(text, flush=True)


def complain(text: str) -> None:
    """An error as one line, on standard error."""
    print(f"countersign: {text}", file=sys.stderr, flush=True)


class ProcessLog:
    """`folder`/NAME.log, with the one before as NAME.log.1; warnings and errors are also shown on the terminal."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.name = name
        self.path = folder / f"{name}.log"
        self._rest = b""
        self._in_traceback = False
        self._shown_at: list[float] = []
        self._file = self._open()

    def feed(self, data: bytes) -> None:
        """Takes output as it comes; whole lines are written and looked at."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > 65536:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._file.write(line + b"\n")
            loud = self.loud(line.decode(errors="replace"))
            if loud:
                self._show(loud)
        self._file.flush()
        if self._file.tell() > _LOG_MAX_BYTES:
            self._file.close()
            self._file = self._open()

    def loud(self, line: str) -> str:
        """What the terminal shows of a line: "" for anything less than a warning."""
        if line.startswith("{"):
            return _of_json(line)
        if line.startswith("Traceback (most recent call last)"):
            self._in_traceback = True
            return ""
        if self._in_traceback:  # show its last line, the exception
            if line.startswith((" ", "\t")) or not line.strip():
                return ""
            self._in_traceback = False
            return line[:_WIDTH]
        return line[:_WIDTH] if _LOUD.search(line) else ""

    def close(self) -> None:
        self._file.write(self._rest)
        self._file.close()

    def _show(self, text: str) -> None:
        now = time.monotonic()
        self._shown_at = [at for at in self._shown_at if now - at < 10]
        if len(self._shown_at) > _SHOWN_IN_10_S:
            return
        self._shown_at.append(now)
        more = len(self._shown_at) > _SHOWN_IN_10_S
        say(f"  {self.name}: more of it in {self.path}" if more else f"  {self.name}: {text}")

    def _open(self) -> BinaryIO:
        if self.path.exists() and self.path.stat().st_size > _LOG_MAX_BYTES // 2:
            self.path.rename(self.path.with_name(f"{self.path.name}.1"))
        return self.path.open("ab")


def _of_json(line: str) -> str:
    """Our own logs are one JSON object a line (see config.logging)."""
    try:
        record = json.loads(line)
    except ValueError:
        return ""
    if not isinstance(record, dict) or record.get("level") not in {"warning", "error", "critical"}:
        return ""
    if record.get("logger") == "django.request" and record["level"] == "warning":  # a page that does not exist
        return ""
    facts = [f"{key}={record[key]}" for key in ("job", "step", "queue", "error") if record.get(key)]
    last = str(record.get("exception", "")).strip().rpartition("\n")[2]
    return " ".join([str(record["level"]), str(record.get("event")), *facts, last])[:_WIDTH].rstrip()
