"""Round trips through a real network of our own: namespaces joined by a delayed link."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import aiohttp
import pytest

from controlplane.agent.probes import Prober
from controlplane.agent.settings import Probe, Probes

HERE, THERE = "10.231.77.1", "10.231.77.2"
DELAY = 0.02


def run(*command: str) -> None:
    """Run a command of the system."""
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@pytest.fixture
def namespace() -> Iterator[str]:
    """Return a namespace at the end of a link that delays by 20 ms."""
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("tc"):
        pytest.skip("needs root, ip and tc: a network namespace cannot be made")
    name = f"cats{os.getpid()}"
    near, far = f"cn{os.getpid()}", f"cf{os.getpid()}"
    try:
        run("ip", "netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"a network namespace cannot be made: {error.stderr.decode().strip()}")
    try:
        run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        run("ip", "address", "add", f"{HERE}/30", "dev", near)
        run("ip", "link", "set", near, "up")
        run("ip", "-n", name, "address", "add", f"{THERE}/30", "dev", far)
        run("ip", "-n", name, "link", "set", far, "up")
        run("tc", "qdisc", "add", "dev", near, "root", "netem", "delay", f"{DELAY * 1000:g}ms")
        yield name
    except subprocess.CalledProcessError as error:
        pytest.skip(f"tc netem is not to be had here: {error.stderr.decode().strip()}")
    finally:
        subprocess.run(["ip", "link", "delete", near], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


async def test_connecting_measures_the_round_trip_of_a_delayed_link(namespace: str) -> None:
    """Within a tenth or a millisecond of what netem adds."""
    listen = (
        "import socket; s = socket.create_server(('', 9000)); print('up', flush=True)\n"
        "while True: s.accept()[0].close()"
    )
    command = ("ip", "netns", "exec", namespace, sys.executable, "-c", listen)
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert child.stdout is not None
        await asyncio.wait_for(child.stdout.readline(), 60)
        probe = Probe(site="far", address=f"{THERE}:9000")
        settings = Probes(samples=10, targets=(probe,))
        prober = Prober(settings, on_measured=lambda _: None)
        error = math.inf
        async with aiohttp.ClientSession() as session, asyncio.timeout(60):
            # A machine that is busy during one measurement is not during every one.
            while error > max(0.001, 0.1 * DELAY):
                measured = await prober.round_trip(probe, session)
                assert measured.rtt is not None
                error = abs(measured.rtt - DELAY)
    finally:
        child.kill()
        await child.wait()
