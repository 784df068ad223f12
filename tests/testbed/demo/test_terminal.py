"""Ctrl-C in ``make demo``, typed into a real (pseudo-)terminal of 80 columns and 24 rows."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from testbed.demo.records import Record, Summary
from testbed.demo.screen import Scene, build_live, fit_terms
from testbed.demo.script import PHASES, Chapter, tabulate
from testbed.demo.world import build_world

ROOT = Path(__file__).parents[3]
CTRL_C = b"\x03"
OWN = [f"VENV={sys.prefix}"] if Path(sys.prefix, ".ready").exists() else []
"""The environment of the Python that runs the tests: `make` would set up that of another one."""


class Terminal:
    """``make demo`` in a terminal of its own, as a shell would start it."""

    def __init__(self, arguments: str = "") -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            ["make", "demo", *OWN, f"DEMO_ARGS={arguments}"],
            cwd=ROOT,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm"},
            preexec_fn=take_terminal,  # noqa: PLW1509 -- no threads here
        )
        os.close(slave)
        self.text = ""

    def read_until(self, pattern: str | None, *, within: float = 120.0) -> None:
        """Read until *pattern* has been shown; without one, until the process has ended."""
        end = time.monotonic() + within
        while pattern is None or not re.search(pattern, self.text):
            assert time.monotonic() < end, self.text[-4000:]
            if not select.select([self._master], [], [], 1.0)[0]:
                continue
            try:
                read = os.read(self._master, 65536)
            except OSError:  # the last process at the other end has ended
                read = b""
            if not read:
                assert pattern is None, self.text[-4000:]
                return
            self.text += read.decode(errors="replace")

    def wait_until_demo_is_in_foreground(self) -> None:
        """Wait until keys reach the demo alone, which is what it does first."""
        while os.tcgetpgrp(self._master) == self.process.pid:
            assert self.process.poll() is None
            time.sleep(0.001)

    def press(self, keys: bytes) -> None:
        """Type *keys*."""
        os.write(self._master, keys)

    def close(self) -> None:
        """End what still runs."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """Start ``make demo``, which goes on until it is interrupted."""
    started = Terminal()
    yield started
    started.close()


@pytest.mark.envoy
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("moment", "closing"),
    [
        pytest.param("", "", id="while Python loads"),
        pytest.param(r"starting \d", "interrupted during start-up", id="during start-up"),
        pytest.param(r"warm-up: ", "claims held", id="in the first phase"),
    ],
)
def test_ctrl_c_ends_the_demo_with_status_0(terminal: Terminal, moment: str, closing: str) -> None:
    """At any moment: no traceback, make succeeds too, and what was measured is shown."""
    terminal.wait_until_demo_is_in_foreground()
    terminal.read_until(moment)
    terminal.press(CTRL_C)
    terminal.read_until(None)

    assert 0 == terminal.process.wait(), terminal.text
    assert "Traceback" not in terminal.text
    assert "Error" not in terminal.text
    assert closing in terminal.text
    if "claims" in closing:
        assert re.search(r"warm-up \.\.\. +\d", terminal.text)


def test_an_interrupted_phase_is_shown_with_all_that_was_measured() -> None:
    """Its beginning would be left out of a whole phase's figures; here there may be no more."""
    interrupted = Chapter(PHASES[0], 0.0, 10.0)

    cell = tabulate([Record("chat", "n", 1.0, 0.5, 0.1, 200, "a")], [interrupted])["chat", "n"]

    assert {"a": 1.0} == cell["warm-up"].summary.shares


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_the_live_view_fits_its_terminal(width: int, height: int) -> None:
    """No line is wider, none is pushed out, and no figure is cut."""
    world = build_world()
    scene = Scene(world, elapsed=10.0, title="training: a training job", left=5.0)
    scene.admin = "http://127.0.0.1:12345/"
    shares = dict.fromkeys(world.instances, 1 / len(world.instances))
    scene.seen = {
        (stream.service, stream.site): Summary(500, 100, 1.2345, 4.321, shares)
        for stream in world.streams
    }
    planned = [
        {"instance": name, "site": site, "share": 0.2, "priority": 0}
        for name, site in world.sites.items()
    ]
    sites = {stream.site for stream in world.streams}
    scene.plan = {
        "services": {name: {"from": dict.fromkeys(sites, planned)} for name in world.services}
    }
    scene.fleet = {
        "instances": [
            {"name": name, "site": site, "phase": "quarantined", "signals": {}}
            for name, site in world.sites.items()
        ]
    }
    terms = {"rtt": 0.07, "service": 0.24, "queueing": 0.4}
    scene.reasons = {
        name: {"instances": [{**item, "terms": terms, "marginal_cost": 0.71} for item in planned]}
        for name in world.services
    }
    console = Console(width=width, height=height, record=True, file=io.StringIO())

    console.print(build_live(scene, width=width, height=height))

    lines = console.export_text().rstrip("\n").splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert lines[0].startswith(f"{scene.admin}  Ctrl-C ends it")
    assert all("20/20" in line for line in lines if re.match(r"chat +edge|summarise +edge", line))
    assert any("4321" in line and "1234" in line for line in lines)


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (40, " a 44%: 412 ms = rtt 70 + service 197"),
        (36, " a 44%: 412 ms = rtt 70+service 197"),
        (30, " a 44%: 412 ms = rtt 70+…"),
    ],
)
def test_a_sum_that_does_not_fit_loses_whole_terms_and_no_digits(width: int, shown: str) -> None:
    """It moves together first."""
    assert shown == fit_terms(" a 44%: 412 ms = rtt 70 + service 197", width)
