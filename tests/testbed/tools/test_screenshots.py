"""The pictures of the documentation can be taken again, and are there."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from testbed.processes.browser import find_browser
from testbed.tools.screenshots import IMAGES, WINDOWS, take


def size_of(file: Path) -> tuple[int, int]:
    """Return width and height of a PNG."""
    width, height = struct.unpack(">II", file.read_bytes()[16:24])
    return int(width), int(height)


def test_every_picture_is_in_the_documentation() -> None:
    """At the width that it was taken at."""
    for name, (width, height, _) in WINDOWS.items():
        found = size_of(IMAGES / name)
        assert width == found[0]
        assert found[1] >= height


@pytest.mark.envoy
@pytest.mark.skipif(find_browser() is None, reason="chromium is not installed")
async def test_pictures_are_taken_of_a_fleet_at_work(tmp_path: Path) -> None:
    """What `make screenshots` does, with a shorter story; no page complains."""
    assert [] == await take(tmp_path, length=30.0, shown=1.0)
    for name, (width, _, _) in WINDOWS.items():
        assert width == size_of(tmp_path / name)[0]
