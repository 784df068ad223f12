"""Pictures of what commands print in a terminal of a given size: a real pseudo-terminal, as PNG."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

from rich.console import Console, RenderableType
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from testbed.processes.browser import Page
from testbed.processes.children import die_with_parent

SIZES = ((80, 24), (120, 40))
"""Columns and rows."""
CELL = (9, 19)
"""Pixels of one character."""
LONGEST = 30.0
"""Seconds that a command may take."""
THEME = TerminalTheme(
    (16, 22, 28),
    (232, 237, 242),
    [(44, 56, 68), (255, 138, 128), (111, 211, 148), (240, 189, 91), (122, 178, 226),
     (184, 147, 240), (95, 208, 197), (200, 210, 220)],
    [(110, 125, 140), (255, 160, 150), (140, 230, 170), (255, 210, 120), (150, 200, 240),
     (205, 175, 250), (130, 225, 215), (255, 255, 255)],
)  # fmt: skip
_PAGE = (
    '<!doctype html><meta charset="utf-8"><style>body{{margin:0;background:#10161c;color:#e8edf2}}'
    'pre{{margin:12px;font:15px/{height}px "DejaVu Sans Mono",monospace;width:{columns}ch}}</style>'
    "<pre>{code}</pre>"
)


async def run_in_terminal(
    *words: str, columns: int, rows: int, look: float | None = None, keys: str = ""
) -> str:
    """Return what ``cats`` shows in a terminal of *columns* and *rows*, with its colours.

    Args:
        words: the command's arguments.
        columns: of the terminal.
        rows: of the terminal.
        look: seconds after which a live view is looked at and ended; None waits for the end.
        keys: what is typed before.
    """
    return await asyncio.to_thread(_run, words, columns, rows, look, keys)


def _run(words: tuple[str, ...], columns: int, rows: int, look: float | None, keys: str) -> str:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "", "LINES": ""}
    for name in ("COLUMNS", "LINES", "NO_COLOR", "CI"):
        environment.pop(name, None)
    child = subprocess.Popen(
        [sys.executable, "-m", "controlplane", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 -- no threads hold locks it needs
    )
    os.close(theirs)
    os.set_blocking(ours, False)
    printed = bytearray()
    began = time.monotonic()
    typed = False
    try:
        while time.monotonic() - began < LONGEST:
            try:
                printed += os.read(ours, 65_536)
            except BlockingIOError:
                if child.poll() is not None:
                    break
                time.sleep(0.02)
            except OSError:  # the child has closed its end
                break
            if look is not None and printed.count(b"\x1b[H") > 0:
                if keys and not typed:
                    os.write(ours, keys.encode())
                    typed = True
                if time.monotonic() - began > look:
                    break
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        os.close(ours)
    return _last_screen(printed.decode(errors="replace"))


def _last_screen(printed: str) -> str:
    """Return what a live view drew last; of what only prints, all."""
    printed = printed.partition("\x1b[?1049l")[0]
    last = printed.split("\x1b[H")[-1] if "\x1b[H" in printed else printed
    plain = re.sub(r"\x1b\[[0-9;?]*[A-LN-Za-ln-z]|\x1b\]8;[^\x07\x1b]*(?:\x07|\x1b\\)", "", last)
    return plain.replace("\r", "")


def render_text(renderable: RenderableType, *, columns: int, rows: int) -> str:
    """Return what rich prints of *renderable* in a terminal."""
    file = io.StringIO()
    Console(
        file=file, force_terminal=True, width=columns, height=rows, color_system="truecolor"
    ).print(renderable)
    return file.getvalue()


async def draw_terminal(text: str, file: Path, *, columns: int, rows: int) -> None:
    """Write a PNG of *text*, which fits the terminal or is cut as one cuts it: to its last rows."""
    lines = Text.from_ansi(text.rstrip("\n")).split("\n")[-rows:]
    console = Console(
        file=io.StringIO(),
        force_terminal=True,
        record=True,
        width=columns,
        color_system="truecolor",
    )
    for line in lines:
        console.print(line, overflow="fold")
    code = console.export_html(inline_styles=True, code_format="{code}", theme=THEME)
    page = _PAGE.format(height=CELL[1], columns=columns, code=code)
    encoded = base64.b64encode(page.encode()).decode()
    width, height = columns * CELL[0] + 36, rows * CELL[1] + 24
    async with Page(width=width, height=height, dark=True) as shown:
        await shown.open(f"data:text/html;base64,{encoded}")
        await shown.screenshot(file, whole=False)
