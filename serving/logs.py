"""Logs as JSON, one object a line, with the request's id where there is one; the same in every
deployment."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from typing import Any

from serving.context import current

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Writes a record with all its extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON."""
        moment = dt.datetime.fromtimestamp(record.created, dt.UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        more = {k: v for k, v in vars(record).items() if k not in _STANDARD and k[0] != "_"}
        if current().request_id:
            line["request_id"] = current().request_id
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line | more, default=str)


def log_as_json() -> None:
    """Send MARC's own log to standard error as JSON, once in a process."""
    logger = logging.getLogger("marc")
    if any(isinstance(handler.formatter, JsonFormatter) for handler in logger.handlers):
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
