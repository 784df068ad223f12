"""Structured logs: one line per event, on standard error, as JSON or for a terminal.

An event is a short sentence in the past or present tense; what varies goes into fields, and a
fault that someone can fix carries ``remedy``.
No secret is written and no field is longer than `FIELD_LIMIT`: what peers send ends up here.
Lines of libraries that use the standard `logging` take the same way.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO, cast

import structlog

from controlplane.runtime.log_stream import QueuedStream, RateLimit

LEVELS = ("debug", "info", "warning", "error")

FIELD_LIMIT = 500
"""Characters of one field; a refusal of Envoy's, the longest thing we quote, rarely has more."""

_SECRET = re.compile(
    r"token|password|passwd|secret|authorization|cookie|private_key", re.IGNORECASE
)
_SECRET_FILE = re.compile(r"(_file|_path)$", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)[^/\s@]+@", re.IGNORECASE)

Logger = structlog.typing.FilteringBoundLogger
"""What `get_logger` gives."""

_NOISY = {
    "aiohttp.access": logging.ERROR,
    "asyncio": logging.WARNING,
    "grpc": logging.WARNING,
    "watchfiles": logging.WARNING,
}


def bound_value(value: object) -> object:
    """Shorten *value* to `FIELD_LIMIT` characters and remove credentials from URLs in it."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = value if isinstance(value, str) else str(value)
    text = _CREDENTIALS.sub(r"\g<scheme>***@", text)
    return text if len(text) <= FIELD_LIMIT else f"{text[: FIELD_LIMIT - 1]}…"


def _bound_fields(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if key in ("exception", "exc_info"):
            continue
        if _SECRET.search(key) and not _SECRET_FILE.search(key):
            event[key] = "***"
        elif isinstance(value, (list, tuple)):
            event[key] = [bound_value(item) for item in value[:20]]
        elif isinstance(value, Mapping):
            event[key] = bound_value(dict(value))
        else:
            event[key] = bound_value(value)
    return event


class _Forward(logging.Handler):
    """Hands records of the standard `logging` to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger()
        error = record.exc_info[1] if record.exc_info else None
        if type(error).__module__ == "aiohttp.http_exceptions":
            # Anyone who sends noise gets a 400, and no traceback of ours into the log.
            logger.debug("not HTTP", logger=record.name, reason=str(error))
            return
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        logger.log(record.levelno, record.getMessage(), **fields)


def set_up_logs(
    *, style: str | None = None, level: str = "info", stream: TextIO | None = None
) -> None:
    """Configure logging of the whole process.

    Args:
        style: ``json`` or ``console``; none picks console on a terminal and JSON elsewhere.
        level: the least level that is written, one of `LEVELS`.
        stream: where lines go; standard error by default.
    """
    out = sys.stderr if stream is None else stream
    # Standard error may be a pipe that no one reads; a stream of a caller's is written at once.
    target = QueuedStream(sys.stderr.fileno()) if stream is None and _has_file(out) else out
    threshold = logging.getLevelNamesMapping()[level.upper()]
    chosen = style or ("console" if out.isatty() else "json")
    limit = [] if level == "debug" else [RateLimit(time.monotonic)]
    shared: list[structlog.typing.Processor] = [
        *limit,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.UnicodeDecoder(),
    ]
    if chosen == "json":
        shared += [
            structlog.processors.format_exc_info,
            _bound_fields,
            structlog.processors.JSONRenderer(default=str),
        ]
    else:
        colours = out.isatty() and "NO_COLOR" not in os.environ
        shared += [
            _bound_fields,
            structlog.dev.ConsoleRenderer(
                colors=colours, exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", target)),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Forward()]
    root.setLevel(threshold)
    for name, least in _NOISY.items():
        logging.getLogger(name).setLevel(max(least, threshold))


def _has_file(stream: TextIO) -> bool:
    try:
        stream.fileno()
    except (OSError, ValueError):
        return False
    return True


def get_logger(**fields: object) -> Logger:
    """Return a logger that adds *fields* to each of its lines."""
    logger: Logger = structlog.get_logger(**fields)
    return logger
