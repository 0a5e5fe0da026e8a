"""Logs as JSON lines: a constant event name plus ids.

`log.info("step.claimed", extra={"step": id, "attempt": 1})` gives
`{"ts": …, "level": "info", "event": "step.claimed", "step": …, "attempt": 1}`. Job and step ids set by
`audit.context.bind(job=…, step=…)` stand in every line of that thread. Secrets are taken out of every line, and of what
Python itself says of an exception that nobody caught.
"""

import json
import logging
import logging.config
import sys
import threading
import traceback
from datetime import UTC, datetime
from types import TracebackType

from audit.context import bound
from tools import redact

_PLAIN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line; values that JSON cannot hold are shown by `str`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **bound(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _PLAIN}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        told = {key: redact.text(value) if isinstance(value, str) else value for key, value in line.items()}
        return redact.text(json.dumps(told, default=str, ensure_ascii=False), shapes=False)


class PlainFormatter(logging.Formatter):
    """A line of text, and a traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        return redact.text(super().format(record))


def configure(options: dict[str, str]) -> None:
    """Django's `LOGGING_CONFIG` hook; `options` holds `level` and `format` (`json` or `plain`)."""
    formatter: dict[str, object] = (
        {"()": JsonFormatter}
        if options["format"] == "json"
        else {"()": PlainFormatter, "fmt": "%(asctime)s %(levelname)s %(name)s %(message)s"}
    )
    if sys.excepthook is sys.__excepthook__:  # not a test runner's or a debugger's
        sys.excepthook = _uncaught
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = lambda given: _uncaught(given.exc_type, given.exc_value, given.exc_traceback)
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": formatter},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"handlers": ["stderr"], "level": options["level"]},
            "loggers": {
                "celery": {"level": "WARNING"},
                "kombu": {"level": "WARNING"},
                "httpx2": {"level": "WARNING"},
                "httpcore2": {"level": "WARNING"},
                "openai": {"level": "WARNING"},
            },
        }
    )


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None, /) -> None:
    """What Python prints of an exception that nobody caught, without secrets."""
    if kind is SystemExit or sys.stderr is None:
        return
    print(redact.text("".join(traceback.format_exception(kind, error, trace))), file=sys.stderr, end="", flush=True)
