"""``cats top``: instances, shares and sites, live in a terminal."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import Any

import click

from controlplane.cli import Failure, examples
from controlplane.cli.api import fetch
from controlplane.cli.assignments import Selection
from controlplane.cli.options import admin_option, selection_options
from controlplane.cli.text import screen as screen_size
from controlplane.cli.top_screen import Screen, build_lines, whole_lines

_ESCAPES = {
    "[A": "up", "OA": "up", "[B": "down", "OB": "down", "[5~": "page up", "[6~": "page down",
    "[H": "home", "OH": "home", "[1~": "home", "[F": "end", "OF": "end", "[4~": "end", "": "escape",
}  # fmt: skip
_KEYS = {"\t": "tab", "\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace"}


@click.command(
    epilog=examples("cats top", "cats top --service chat --from edge-north", "cats top --once")
)
@selection_options
@admin_option
@click.option(
    "--every",
    type=click.FloatRange(0.2, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Refresh interval.",
)
@click.option("--once", is_flag=True, help="Print everything once and exit.")
def command(selection: Selection, admin_url: str, every: float, *, once: bool) -> None:
    """Show the fleet live: instances, pairs of service and client site, and sites.

    Keys: 1 2 3 or Tab for the view, s to sort by the next column, r to reverse, / to filter, arrows
    and Page Up or Down to scroll, q to quit.
    """
    overview = fetch(admin_url, "/api/v1/overview")
    if once or not (sys.stdout.isatty() and sys.stdin.isatty()):
        for line in whole_lines(overview, selection, screen_size()[0]):
            click.echo(line)
        return
    view = "instances" if (selection.service or selection.site) is None else "pairs"
    with _raw_terminal(), contextlib.suppress(KeyboardInterrupt):
        _watch(Screen(selection=selection, view=view), overview, admin_url, every)


def _watch(screen: Screen, overview: dict[str, Any], admin_url: str, every: float) -> None:
    """Draw, and take keys, until q."""
    failure = ""
    due = time.monotonic() + every
    while True:
        width, height = screen_size()
        lines = build_lines(overview, screen, width=width, height=height)
        if failure:
            lines[-1] = failure[:width]
        # Line by line over what was there: clearing the whole screen first would flicker.
        sys.stdout.write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines))
        sys.stdout.flush()
        key = _read_key(max(0.0, due - time.monotonic()))
        if key is not None:
            if not screen.press(key, page=max(1, height - 6)):
                return
            continue
        due = time.monotonic() + every
        try:
            overview, failure = fetch(admin_url, "/api/v1/overview"), ""
        except Failure as error:
            failure = error.format_message()


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Read keys one by one, on a screen of our own; Ctrl-C works as always."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    sys.stdout.write("\x1b[?1049h\x1b[?25l")
    try:
        yield
    finally:
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _read_key(within: float) -> str | None:
    """Return the next key, by name if it has one; None if none was pressed *within* seconds."""
    descriptor = sys.stdin.fileno()
    if not select.select([descriptor], [], [], within)[0]:
        return None
    first = os.read(descriptor, 1).decode(errors="replace")
    if first != "\x1b":
        return _KEYS.get(first, first)
    rest = ""
    while len(rest) < 4 and select.select([descriptor], [], [], 0.02)[0]:
        rest += os.read(descriptor, 1).decode(errors="replace")
        if rest in _ESCAPES:
            break
    return _ESCAPES.get(rest, "")
