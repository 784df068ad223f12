"""The pictures of the documentation can be taken again, and are there."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from testbed.processes.browser import find_browser
from testbed.tools.screenshots import DASHBOARDS, IMAGES, TERMINALS, take_small
from testbed.tools.terminal_pictures import CELL, run_in_terminal


def size_of(file: Path) -> tuple[int, int]:
    """Return width and height of a PNG."""
    width, height = struct.unpack(">II", file.read_bytes()[16:24])
    return int(width), int(height)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_dashboard_is_in_the_documentation(name: str) -> None:
    """At the width that it was taken at."""
    window, found = DASHBOARDS[name], size_of(IMAGES / name)
    assert window.width == found[0]
    assert found[1] >= window.height


@pytest.mark.parametrize("name", TERMINALS)
def test_every_terminal_is_in_the_documentation(name: str) -> None:
    """In the size that it was taken in, and shown on a page."""
    columns, rows = TERMINALS[name]
    width, height = size_of(IMAGES / name)
    pages = (IMAGES.parent / "screens.md").read_text(encoding="utf-8")
    assert width >= columns * CELL[0]
    assert height >= rows * CELL[1]
    assert f"images/{name}" in pages


async def test_a_terminal_shows_no_line_wider_than_itself() -> None:
    """What a command prints in 80 columns has 80 at most."""
    text = await run_in_terminal("plan", "--help", columns=80, rows=24)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert "Print the plan" in plain
    assert max(map(len, plain.splitlines())) <= 80


@pytest.mark.envoy
@pytest.mark.skipif(find_browser() is None, reason="chromium is not installed")
async def test_pictures_are_taken_of_a_fleet_at_work(tmp_path: Path) -> None:
    """What `make screenshots` does, with a shorter story; no page complains."""
    assert [] == await take_small(tmp_path, length=30.0, shown=1.0)
    for name, window in DASHBOARDS.items():
        if "small" in name:
            assert window.width == size_of(tmp_path / name)[0]
    assert (tmp_path / "demo-80x24.png").exists()
