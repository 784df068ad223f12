"""Takes the pictures of the documentation: ``make screenshots``.

A small fleet is the demo's: a real control plane, real Envoys and live traffic, while a training
job takes part of the near edge. A large one has 50 sites, 500 instances and 20 services that are
reported to a real control plane, with a site that is dead. Both are seen by a real browser and in
a real pseudo-terminal.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from controlplane.app.serving import running
from controlplane.app.settings import Settings
from controlplane.model import InstanceReport
from testbed.background import running_task
from testbed.demo.run import Demo
from testbed.demo.screen import build_live
from testbed.demo.script import PHASES
from testbed.demo.world import build_world
from testbed.fakes import large_fleets
from testbed.processes.browser import BrowserError, Page
from testbed.tools.terminal_pictures import SIZES, draw_terminal, render_text, run_in_terminal

IMAGES = Path(__file__).parents[2] / "docs" / "images"
STORY = (*PHASES[:2], replace(PHASES[2], part=9.0))
"""The beginning of the demo's story, whose training job goes on until all pictures are taken."""
LENGTH = 100.0
"""Seconds that the demo's whole story would have."""
SHOWN = 15.0
"""Seconds of the training job before the pictures, so that it is seen in the course of time."""
EXAMPLE = Path(__file__).parents[2] / "examples" / "cloud-edge-device" / "fleet.yaml"
LARGE = {"sites": 50, "instances": 500, "services": 20}
DEAD = "edge-07"
"""Site of the large fleet whose instances report no longer."""
PATIENCE = 180.0
DRAWN = "document.documentElement.dataset.drawn"
EXPLAINED = "document.querySelector('#explanation-title').innerText.startsWith('Why: ')"
OBSERVED = "document.querySelector('#chart').innerText.includes('observed ')"
SETTLED = """['graph', 'chart', 'map-box'].every(name => {
    const box = document.getElementById(name);
    const svg = box.querySelector('svg');
    return !box.clientWidth || Math.abs(svg.viewBox.baseVal.width - box.clientWidth) < 2})"""
"""Pictures have the width of their window."""
DEAD_SEEN = f"document.querySelector('#detail-body').innerText.includes('{DEAD}')"


@dataclass(frozen=True, slots=True)
class Window:
    """A browser's window."""

    width: int
    height: int
    dark: bool = False


_WINDOWS = {
    "": Window(1440, 900),
    "-dark": Window(1440, 900, dark=True),
    "-tablet": Window(900, 1100),
    "-tablet-dark": Window(900, 1100, dark=True),
    "-phone": Window(390, 844),
    "-phone-dark": Window(390, 844, dark=True),
}
DASHBOARDS = {
    f"dashboard-{fleet}{suffix}.png": window
    for fleet in ("small", "large")
    for suffix, window in _WINDOWS.items()
}
"""File -> the window it was seen in."""
TERMINALS = {
    f"{view}-{columns}x{rows}.png": (columns, rows)
    for columns, rows in SIZES
    for view in ("demo", "top", "plan", "explain", "top-large", "plan-large", "explain-large")
}
"""File -> columns and rows."""


async def take(directory: Path, *, length: float = LENGTH, shown: float = SHOWN) -> list[str]:
    """Write all pictures into *directory*; return what the pages complained of."""
    return [
        *await take_small(directory, length=length, shown=shown),
        *await take_large(directory),
    ]


async def take_small(directory: Path, *, length: float = LENGTH, shown: float = SHOWN) -> list[str]:
    """Write the pictures of the demo's fleet; return what the pages complained of."""
    world = build_world()
    with tempfile.TemporaryDirectory(prefix="cats-screenshots-") as place:
        async with Demo(world, Path(place), seed=1) as demo:
            playing = asyncio.create_task(demo.play(length, go_on=False, phases=STORY))
            async with asyncio.timeout(PATIENCE):
                while not trains(demo, shown) and not playing.done():  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
            address = f"{demo.scene.admin}#service=chat&from={world.near}"
            complaints = await _see(
                address, "small", directory, wanted=(DRAWN, EXPLAINED, OBSERVED)
            )
            for columns, rows in SIZES:
                text = render_text(
                    build_live(demo.scene, width=columns, height=rows), columns=columns, rows=rows
                )
                await draw_terminal(
                    text, directory / f"demo-{columns}x{rows}.png", columns=columns, rows=rows
                )
            await _command_pictures(
                demo.scene.admin, "", directory, fleet=EXAMPLE, service="chat", site=world.near
            )
            demo.interrupted.set()
            await playing
            return complaints


async def take_large(directory: Path) -> list[str]:
    """Write the pictures of a large fleet; return what the pages complained of."""
    async with large_fleet() as (admin, fleet):
        complaints = await _see(
            f"{admin}#service=service-01&page=alerts", "large", directory, wanted=(DRAWN, DEAD_SEEN)
        )
        await _command_pictures(
            admin, "-large", directory, fleet=fleet, service="service-01", site="edge-01"
        )
    return complaints


@contextlib.asynccontextmanager
async def large_fleet() -> AsyncIterator[tuple[str, Path]]:
    """Run a control plane whose large fleet is reported each second; yield address and file."""
    fleet = json.loads(large_fleets.make_crowd(**LARGE, steering={"expiry": "20s"}))
    rng = random.Random(7)
    for site in fleet["sites"]:
        site["coordinates"] = [round(rng.uniform(38, 60), 2), round(rng.uniform(-8, 24), 2)]
    silent = {each["name"] for each in fleet["instances"] if each["site"] == DEAD}
    with tempfile.TemporaryDirectory(prefix="cats-screenshots-") as place:
        file = Path(place) / "fleet.yaml"
        await asyncio.to_thread(file.write_text, json.dumps(fleet), encoding="utf-8")
        settings = Settings(file, xds=("127.0.0.1", 0), admin=("127.0.0.1", 0), settle=0.0)
        async with running(settings) as run:
            control = run.control
            began = control.clock()

            async def report_on() -> None:
                while True:
                    now = control.clock()
                    for number, report in enumerate(
                        large_fleets.make_reports(**LARGE, at=now, rng=rng)
                    ):
                        dead = isinstance(report, InstanceReport) and report.instance in silent
                        if not dead or now - began < 2.0:
                            control.receive(report)
                        if number % 50 == 0:
                            await asyncio.sleep(0)
                    await asyncio.sleep(1.0)

            async with running_task(report_on()):
                yield f"http://127.0.0.1:{run.admin_port}/", file


async def _see(address: str, fleet: str, directory: Path, *, wanted: Iterable[str]) -> list[str]:
    """Take the pictures of one fleet's dashboard, one window after another."""
    complaints = []
    for suffix, window in _WINDOWS.items():
        async with Page(width=window.width, height=window.height, dark=window.dark) as page:
            await page.open(address)
            for condition in (*wanted, SETTLED):
                await page.wait_for(condition, within=PATIENCE)
            # Chromium changes the layout while it captures what is beyond the window, and a page
            # that is drawn just then is drawn too narrow: the window is made as high as the page.
            height = await page.evaluate("document.documentElement.scrollHeight")
            await page.resize(window.width, height)
            await page.wait_for(SETTLED, within=PATIENCE)
            await page.screenshot(directory / f"dashboard-{fleet}{suffix}.png", whole=False)
            complaints += page.complaints
    return complaints


async def _command_pictures(
    admin: str, suffix: str, directory: Path, *, fleet: Path, service: str, site: str
) -> None:
    """Take the pictures of the commands that look at a running control plane, and of a dry run."""
    url = ("--admin", admin.rstrip("/"))
    commands: dict[str, tuple[tuple[str, ...], float | None]] = {
        "top": (("top", *url), 6.0),
        "explain": (("explain", service, "--from", site, *url), None),
        "plan": (("plan", "-c", str(fleet)), None),
    }
    for columns, rows in SIZES:
        for name, (words, look) in commands.items():
            text = await run_in_terminal(*words, columns=columns, rows=rows, look=look)
            file = directory / f"{name}{suffix}-{columns}x{rows}.png"
            await draw_terminal(text, file, columns=columns, rows=rows)


def trains(demo: Demo, seconds: float) -> bool:
    """Return whether the training job has been there for *seconds*."""
    chapter = demo.chapters[-1] if demo.chapters else None
    if chapter is None or chapter.phase.name != "training":
        return False
    return asyncio.get_running_loop().time() - chapter.started_at >= seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default=IMAGES)
    try:
        complaints = asyncio.run(take(parser.parse_args().directory))
    except BrowserError as error:
        sys.exit(str(error))
    sys.exit("\n".join(complaints) or 0)
