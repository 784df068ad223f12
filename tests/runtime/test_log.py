"""Logs are one bounded line per event, and keep no secret."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterator
from typing import TextIO, cast

import pytest
import structlog
from aiohttp.http_exceptions import BadStatusLine

from controlplane.runtime.log import FIELD_LIMIT, bound_value, get_logger, set_up_logs
from controlplane.runtime.log_stream import QueuedStream


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    """Read the log that was written to *stream*."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_carry_event_level_time_and_fields() -> None:
    """A machine finds everything under its own key."""
    stream = io.StringIO()
    set_up_logs(style="json", stream=stream)

    get_logger(part="cycle").warning("plan held", gain=0.004, remedy="none needed")

    (line,) = lines(stream)
    assert "plan held" == line["event"]
    assert "warning" == line["level"]
    assert "cycle" == line["part"]
    assert 0.004 == line["gain"]
    assert str(line["timestamp"]).endswith("Z")


def test_a_field_from_a_peer_is_cut_and_stays_on_one_line() -> None:
    """No one can flood or forge the log through a name or an error text."""
    stream = io.StringIO()
    set_up_logs(style="json", stream=stream)

    get_logger().info("resource refused", text="x" * 10_000 + "\nforged")

    (line,) = lines(stream)
    assert FIELD_LIMIT == len(str(line["text"]))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        pytest.param("token", "abc", "***", id="token"),
        pytest.param("Authorization", "Bearer abc", "***", id="header"),
        pytest.param("token_file", "/run/token", "/run/token", id="a path is no secret"),
        pytest.param("bus", "nats://me:pw@host:4222", "nats://***@host:4222", id="url"),
    ],
)
def test_secrets_are_not_written(key: str, value: str, expected: str) -> None:
    """Secrets are recognised by key, credentials in URLs by their form."""
    stream = io.StringIO()
    set_up_logs(style="json", stream=stream)

    get_logger().info("read", **{key: value})

    assert expected == lines(stream)[0][key]


def test_lines_of_libraries_take_the_same_form() -> None:
    """What a library logs through the standard module is one JSON line, too."""
    stream = io.StringIO()
    set_up_logs(style="json", stream=stream)

    logging.getLogger("somelib").error("gave %s", "up")

    assert [("gave up", "somelib")] == [(line["event"], line["logger"]) for line in lines(stream)]


def test_levels_below_the_threshold_are_dropped() -> None:
    """``--log-level`` holds for our lines and for libraries'."""
    stream = io.StringIO()
    set_up_logs(style="json", level="error", stream=stream)

    get_logger().info("quiet")
    logging.getLogger("somelib").warning("quiet")

    assert "" == stream.getvalue()


def test_an_exception_becomes_a_field_of_one_json_line() -> None:
    """A bug's traceback does not break line-wise readers."""
    stream = io.StringIO()
    set_up_logs(style="json", stream=stream)

    try:
        _ = 1 / 0
    except ZeroDivisionError:
        get_logger().exception("task failed")

    (line,) = lines(stream)
    assert "ZeroDivisionError" in str(line["exception"])


def test_console_lines_are_plain_without_a_terminal() -> None:
    """No escape codes reach a file."""
    stream = io.StringIO()
    set_up_logs(style="console", stream=stream)

    get_logger().info("ready", envoys=3)

    assert "ready" in stream.getvalue()
    assert "\x1b[" not in stream.getvalue()


def test_numbers_stay_numbers() -> None:
    """Only texts are bounded."""
    assert 3 == bound_value(3)
    assert None is bound_value(None)


def test_noise_on_an_http_port_leaves_no_traceback() -> None:
    """Anybody can send some; a bug of ours is reported as ever."""
    stream = io.StringIO()
    set_up_logs(style="json", level="info", stream=stream)
    logger = logging.getLogger("aiohttp.server")
    for error in (BadStatusLine("noise"), ValueError("ours")):
        try:
            raise error
        except (BadStatusLine, ValueError):
            logger.exception("Error handling request")
    (line,) = lines(stream)

    assert "ValueError: ours" in str(line["exception"])


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    """A full disk under the log must not end the tasks that say of it."""
    full = os.open("/dev/full", os.O_WRONLY)
    stream = QueuedStream(full)
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", stream)))
    get_logger().info("said", to="a full disk")
    stream.drain()
    os.close(full)
    logging.getLogger("library").warning("said as well")
