"""The demo itself: control plane, real Envoys, instances and traffic, shortened."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from pathlib import Path

import pytest

pytestmark = [pytest.mark.envoy, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[3]
MARK = "CATS_DEMO_RUN"


async def start(*arguments: str) -> tuple[asyncio.subprocess.Process, str]:
    """Start the demo; give it with the mark that all its children inherit."""
    mark = uuid.uuid4().hex
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "testbed.demo", "--plain", *arguments),
        cwd=ROOT,
        env={**os.environ, MARK: mark},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    return process, mark


def marked(mark: str) -> list[str]:
    """Return the command lines of the running processes that carry *mark*."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            environment = (entry / "environ").read_bytes()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if f"{MARK}={mark}".encode() in environment and command:
            found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


async def wait_until_gone(mark: str) -> None:
    """Wait until no process carries *mark*; the test's own time limit bounds it."""
    while marked(mark):  # noqa: ASYNC110 -- no one says of the end of others' children
        await asyncio.sleep(0.1)


async def test_the_story_holds_and_ends_by_itself() -> None:
    """It ends with status 0 and a table of shares in all phases, and leaves no process behind."""
    process, mark = await start("--for", "20s")
    output, _ = await process.communicate()
    text = output.decode()

    assert 0 == process.returncode, text
    for phase in ("warm-up", "before", "training", "after", "edge dead", "control plane dead"):
        assert f"] {phase}: " in text
    assert "answered by" in text
    assert "control plane back" in text
    assert "all 10 claims held" in text
    assert [] == marked(mark)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda each: each.name)
async def test_everything_it_started_ends_with_it(number: signal.Signals) -> None:
    """However it is ended, its instances, control plane and Envoys end too."""
    process, mark = await start()
    assert process.stdout is not None
    lines = []
    async for line in process.stdout:
        lines.append(line.decode())
        if "] warm-up: " in lines[-1]:
            break
    assert 9 <= len(marked(mark)), lines

    process.send_signal(number)
    rest = await process.stdout.read()
    await process.wait()
    await wait_until_gone(mark)

    if number is signal.SIGINT:
        assert 0 == process.returncode, rest.decode()
        assert b"claims held" in rest
