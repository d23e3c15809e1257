"""Logs are events, one JSON object a line: `log.info("run.completed", run_id=…)`.

Never pass a secret or the text of a message. The request id of the current request is added by itself.
"""

from __future__ import annotations

import logging
import sys
import traceback
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


def _format_exception(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The kind of error and where it came from, not its text: a driver's error may quote a whole row."""
    info = event.pop("exc_info", None)
    error = sys.exc_info()[1] if info is True else info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        frames = traceback.extract_tb(error.__traceback__)
        event["error"] = type(error).__qualname__
        event["trace"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-20:]]
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
        # structlog knows the five usual levels only; a library's own counts as the one below it.
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        logger.log(level, record.getMessage(), **fields)


def configure_logging(level: str, *, service: str, is_final: bool = True) -> None:
    """Set up JSON logs on standard output. Call it once, before anything logs.

    `is_final`: loggers keep what they find at their first use, which is faster.
    """
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
            _format_exception,
            structlog.processors.JSONRenderer(serializer=_orjson_dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.BytesLoggerFactory(file=sys.stdout.buffer),
        cache_logger_on_first_use=is_final,
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
