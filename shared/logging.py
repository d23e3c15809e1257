"""Logs are events, one JSON object a line: `log.info("run.completed", run_id=…)`.

Never pass a secret or the text of a message. The request id of the current request is added by itself.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

import orjson
import structlog

request_id_var: ContextVar[str | None] = ContextVar("request_id", default=None)

Logger = structlog.typing.FilteringBoundLogger


def _add_request_id(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    request_id = request_id_var.get()
    if request_id is not None:
        event.setdefault("request_id", request_id)
    return event


def _orjson_dumps(event: Any, **_: Any) -> bytes:
    return orjson.dumps(event, default=str)


class _StdlibToStructlog(logging.Handler):
    """Sends what libraries log through the standard library down the same pipe."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger(record.name)
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info and record.exc_info[0] is not None:
            fields["exc_info"] = record.exc_info
        logger.log(record.levelno, record.getMessage(), **fields)


def configure_logging(level: str, *, service: str) -> None:
    """Set up JSON logs on standard output. Call it once, before anything logs."""
    number = logging.getLevelNamesMapping()[level.upper()]

    def add_service(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"] = service
        return event

    structlog.configure(
        processors=[
            add_service,
            _add_request_id,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_orjson_dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.BytesLoggerFactory(file=sys.stdout.buffer),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_StdlibToStructlog()]
    root.setLevel(max(number, logging.INFO))
    # uvicorn brings its own handlers and an access log; ours says more, once.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        library = logging.getLogger(name)
        library.handlers[:] = []
        library.propagate = name != "uvicorn.access"
    # httpx logs every call with its whole address, which may carry a key.
    for name in ("httpx", "httpcore", "google_genai", "google_genai.models"):
        logging.getLogger(name).setLevel(logging.WARNING)


def get_logger(name: str) -> Logger:
    logger: Logger = structlog.get_logger(name)
    return logger
