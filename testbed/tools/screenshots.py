"""Takes the pictures of the documentation: ``make screenshots``.

A real control plane, real Envoys and live traffic, as in the demo, seen by a real browser while a
training job takes part of the near edge.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
from pathlib import Path

from testbed.demo.run import Demo
from testbed.demo.world import build_world
from testbed.processes.browser import BrowserError, Page

IMAGES = Path(__file__).parents[2] / "docs" / "images"
WINDOWS = {
    "dashboard-light.png": (1440, 900, False),
    "dashboard-dark.png": (1440, 900, True),
    "dashboard-phone.png": (390, 844, False),
}
"""Width, height and scheme of each."""
LENGTH = 120.0
"""Seconds of the whole story, of which the beginning is enough."""
SHOWN = 15.0
"""Seconds of the training job before the pictures, so that it is seen in the course of time."""
PATIENCE = 180.0
DRAWN = "document.documentElement.dataset.drawn"
EXPLAINED = "document.querySelector('#explanation-title').innerText.startsWith('Why: ')"
OBSERVED = "document.querySelector('#chart').innerText.includes('observed ')"


async def take(directory: Path, *, length: float = LENGTH, shown: float = SHOWN) -> list[str]:
    """Write all pictures into *directory*; give what the pages complained of."""
    world = build_world()
    with tempfile.TemporaryDirectory(prefix="cats-screenshots-") as place:
        async with Demo(world, Path(place), seed=1) as demo, contextlib.AsyncExitStack() as ends:
            pages = {}
            for name, (width, height, dark) in WINDOWS.items():
                page = Page(width=width, height=height, dark=dark)
                pages[name] = await ends.enter_async_context(page)
                await page.open(f"{demo.scene.admin}#service=chat&from={world.near}")
            playing = asyncio.create_task(demo.play(length, go_on=False))
            async with asyncio.timeout(PATIENCE):
                while not trains(demo, shown) and not playing.done():  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
            for name, page in pages.items():
                for condition in (DRAWN, EXPLAINED, OBSERVED):
                    await page.wait_for(condition)
                await page.screenshot(directory / name)
            demo.interrupted.set()
            await playing
            return [complaint for page in pages.values() for complaint in page.complaints]


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
