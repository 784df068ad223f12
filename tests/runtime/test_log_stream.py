"""The log never waits for its reader, and its volume is bounded."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from controlplane.runtime import log_stream
from controlplane.runtime.log import get_logger, set_up_logs
from controlplane.runtime.log_stream import QueuedStream, RateLimit

CHATTY = """
import asyncio, signal, sys
from controlplane.runtime.log import get_logger, set_up_logs

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    set_up_logs(style="json", level="debug")
    for number in range(20000):
        get_logger().info("something happened", number=number, filler="x" * 200)
    print("alive", flush=True)
    await stop.wait()

asyncio.run(main())
print("ended", flush=True)
"""


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_a_pipe_that_nobody_reads_stops_nothing() -> None:
    """Four megabytes of lines into a pipe of 64 kB: the process goes on and ends on SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHATTY], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert b"alive\n" == process.stdout.readline()
        process.send_signal(signal.SIGTERM)

        assert b"ended\n" == process.stdout.readline()
        assert 0 == process.wait(timeout=60)
    finally:
        process.kill()
        process.communicate()


def test_lines_come_in_order_and_dropped_ones_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waited is written once someone reads; the rest is one line with its number."""
    monkeypatch.setattr(log_stream, "WAITING_LIMIT", 10)
    reader, writer = os.pipe()
    stream = QueuedStream(writer)
    stream.write("x" * 1_000_000 + "\n")  # fills the pipe, so the thread blocks
    for number in range(30):
        stream.write(f"{number}\n")

    text = b""
    while b"dropped" not in text:
        text += os.read(reader, 65536)
    os.close(reader)
    os.close(writer)

    lines = text.decode().splitlines()
    assert [str(number) for number in range(9)] == lines[1:10]
    assert json.loads(lines[-1])["count"] in (20, 21)  # whether the first line still waited


def test_one_event_cannot_fill_the_log() -> None:
    """A client that provokes a line ten times a second for an hour costs some 3,700 lines."""
    now = 0.0
    limit = RateLimit(lambda: now)
    written, sums = 0, 0
    for tick in range(36_000):
        now = tick / 10
        try:
            line = limit(None, "info", {"event": "client rejected"})
        except structlog.DropEvent:
            continue
        written += 1
        sums += int(line.get("similar_lines_dropped", 0))
        limit(None, "info", {"event": f"other {tick // 600}"})

    assert 3_600 <= written <= 3_800
    assert 30_000 <= sums + written <= 36_000


def test_many_events_together_are_bounded_too() -> None:
    """Names that a client makes up are no way around."""
    limit = RateLimit(lambda: 0.0)
    written = 0
    for number in range(10_000):
        try:
            limit(None, "info", {"event": f"event {number}"})
        except structlog.DropEvent:
            continue
        written += 1

    assert log_stream.TOTAL_BURST == written


def test_a_debug_log_is_whole() -> None:
    """An operator who asks for every line gets every line."""
    stream = io.StringIO()
    set_up_logs(style="json", level="debug", stream=stream)
    for _ in range(500):
        get_logger().info("same")

    assert 500 == len(stream.getvalue().splitlines())
