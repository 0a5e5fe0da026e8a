"""Logs as JSON lines: a constant event name plus ids.

`log.info("step.claimed", extra={"step": id, "attempt": 1})` gives
`{"ts": …, "level": "info", "event": "step.claimed", "step": …, "attempt": 1}`. Job and step ids set by
`audit.context.bind(job=…, step=…)` stand in every line of that thread.
"""

import json
import logging
import logging.config
from datetime import UTC, datetime

from audit.context import bound

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
        return json.dumps(line, default=str, ensure_ascii=False)


def configure(options: dict[str, str]) -> None:
    """Django's `LOGGING_CONFIG` hook; `options` holds `level` and `format` (`json` or `plain`)."""
    formatter: dict[str, object] = (
        {"()": JsonFormatter}
        if options["format"] == "json"
        else {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}
    )
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
