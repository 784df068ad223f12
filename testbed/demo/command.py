"""The command of the demo: its arguments, its screen, its exit status."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pydantic_core import PydanticCustomError
from rich.console import Console
from rich.live import Live

from controlplane.config.units import parse_duration
from testbed.demo.closing import build_closing
from testbed.demo.run import LIVE_PERIOD, Demo, DemoError
from testbed.demo.screen import build_live, plain_lines
from testbed.demo.script import judge, tabulate
from testbed.demo.world import DEFAULT_EXAMPLE, build_world
from testbed.processes.envoys import EnvoyError

DEFAULT_LENGTH = 120.0
"""Seconds of the story when no one says how long."""
PLAIN_PERIOD = 5.0


async def run(arguments: argparse.Namespace) -> int:
    """Play the script and return the exit status."""
    plain = arguments.plain or not sys.stdout.isatty()
    console = Console(width=None if sys.stdout.isatty() else 80, highlight=False, soft_wrap=True)
    length = DEFAULT_LENGTH if arguments.length is None else arguments.length
    with tempfile.TemporaryDirectory(prefix="cats-demo-") as place:
        demo = Demo(build_world(arguments.example), Path(place), seed=arguments.seed)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, demo.interrupt)
        console.print(
            f"starting {len(demo.world.instances)} instances, the control plane and"
            f" {len(demo.world.listeners)} Envoys ... (Ctrl-C ends it)"
        )
        try:
            async with demo:
                if demo.interrupted.is_set():
                    console.print("interrupted during start-up; nothing was measured")
                    return 0
                console.print(f"dashboard: {demo.scene.admin}   logs: {place}")
                await _play(demo, console, length, plain=plain, go_on=arguments.length is None)
                rejected = await demo.count_rejected()
        except (DemoError, EnvoyError) as error:
            console.print(f"the demo failed: {error}", markup=False)
            console.print(demo.last_words(), markup=False)
            return 1
        return _close(demo, console, rejected)


async def _play(demo: Demo, console: Console, length: float, *, plain: bool, go_on: bool) -> None:
    view = _print_lines(demo, console) if plain else _draw(demo, console)
    showing = asyncio.create_task(view)
    try:
        await demo.play(length, go_on=go_on)
    finally:
        showing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await showing


def _close(demo: Demo, console: Console, rejected: int) -> int:
    """Print the closing tables; return 1 if a claim did not hold."""
    claims = judge(demo.world, demo.records, demo.chapters, rejected=rejected)
    table = tabulate(demo.records, demo.chapters)
    console.print(build_closing(demo.world, table, demo.chapters, claims), soft_wrap=False)
    broken = [claim for claim in claims if claim.hard and not claim.held]
    if broken:
        console.print(f"{len(broken)} of {len(claims)} claims did not hold", style="red")
        return 1
    interrupted = any(chapter.ended_at is None for chapter in demo.chapters)
    suffix = "; the interrupted phase is not judged" if interrupted else ""
    console.print(f"all {len(claims)} claims held{suffix}")
    return 0


async def _print_lines(demo: Demo, console: Console) -> None:
    title = ""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        if demo.scene.title != title:
            title = demo.scene.title
            console.print(f"[{demo.scene.elapsed:6.1f} s] {title}", markup=False)
            due = loop.time() + PLAIN_PERIOD
        elif loop.time() >= due:
            due = loop.time() + PLAIN_PERIOD
            for line in plain_lines(demo.scene):
                console.print(line, markup=False, no_wrap=True, crop=False, overflow="ignore")
        await asyncio.sleep(0.1)


async def _draw(demo: Demo, console: Console) -> None:
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            width, height = console.size
            live.update(build_live(demo.scene, width=width, height=height), refresh=True)
            await asyncio.sleep(LIVE_PERIOD)


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""

    def duration(text: str) -> float:
        try:
            seconds = parse_duration(text)
        except PydanticCustomError as error:
            raise argparse.ArgumentTypeError(error.message()) from error
        if seconds < 5.0:
            raise argparse.ArgumentTypeError("the story takes 5s at least")
        return seconds

    parser = argparse.ArgumentParser(
        prog="make demo DEMO_ARGS=...", description="The main job, end to end, to watch."
    )
    parser.add_argument(
        "--for",
        dest="length",
        type=duration,
        help="end by itself after so long, as 60s; otherwise it goes on until Ctrl-C",
    )
    parser.add_argument("--plain", action="store_true", help="lines instead of a live screen")
    parser.add_argument("--seed", type=int, default=1, help="of the traffic")
    parser.add_argument(
        "--example", type=Path, default=DEFAULT_EXAMPLE, help="folder with fleet and emulation"
    )
    return parser.parse_args(given)
