"""Moments: any of the last day, in bounded memory, over a restart."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from controlplane.admin_api.moments import Moments, pack
from controlplane.runtime.kept_files import restore_kept, save_kept


def document(at: float, *, plan: int = 1, noise: int = 0) -> dict[str, Any]:
    """Make a keyed overview with *noise* characters that cannot be compressed."""
    text = random.Random(at).randbytes(noise).hex()
    return {"at": at, "text": text, "shares": {"chat": {"north": {"a": plan}}}}


def fill(moments: Moments, ats: list[float], **fields: Any) -> None:
    """Add an overview at each of *ats* that is due."""
    for at in ats:
        if moments.due(at):
            moments.add(pack(document(at, **fields)))


def test_the_nearest_moment_is_shown_whole() -> None:
    """With the shares of its plan, and how far back one may look."""
    moments = Moments()
    fill(moments, [100.0, 101.0, 105.0], plan=1)
    fill(moments, [110.0], plan=2)

    found = moments.nearest(106.0)()

    assert found is not None
    assert (105.0, {"chat": {"north": {"a": 1}}}) == (found["at"], found["shares"])
    assert (100.0, 110.0) == found["reach"]
    assert None is Moments().nearest(1.0)()


def test_a_day_is_kept_a_minute_apart_and_a_quarter_of_an_hour_finely() -> None:
    """Older ones go."""
    moments = Moments()
    fill(moments, [float(at) for at in range(0, 90_000, 5)])
    reach = moments.reach

    def shown(at: float) -> float:
        found = moments.nearest(at)()
        assert found is not None
        return float(found["at"])

    assert reach is not None
    assert 86_400.0 - 60.0 <= reach[1] - reach[0] <= 86_400.0
    assert 89_900.0 == shown(89_901.0)
    assert abs(shown(50_000.0) - 50_000.0) <= 30.0


def test_memory_is_bounded_by_dropping_the_oldest() -> None:
    """Shares that no moment needs any more go with them."""
    moments = Moments(max_bytes=100_000)
    for at in range(0, 6_000, 5):
        fill(moments, [float(at)], noise=1_000, plan=at)
    reach = moments.reach

    assert moments.size <= 100_000
    assert reach is not None
    assert 5_995.0 == reach[1]
    assert len(moments._shares) <= len(moments._fine) + len(moments._coarse)


def test_moments_survive_a_restart(tmp_path: Path) -> None:
    """What is cut or damaged is left out, and the rest shown."""
    moments, again, damaged, nothing = Moments(), Moments(), Moments(), Moments()
    fill(moments, [float(at) for at in range(0, 600, 5)])
    save_kept(moments.file, moments.encode(), tmp_path)

    assert "" == restore_kept(again, tmp_path)
    assert (moments.reach, moments.size) == (again.reach, again.size)
    content = (tmp_path / "moments.bin").read_bytes()
    assert "cut" in damaged.restore(content[:-3])
    assert (0.0, 595.0) == damaged.reach
    assert "no moments" in nothing.restore(b"something else")
    assert "" == restore_kept(nothing, tmp_path / "none")


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_a_damaged_file_never_fails(cut: int) -> None:
    """Whatever byte is another one."""
    moments = Moments()
    fill(moments, [0.0, 5.0, 10.0])
    content = bytearray(moments.encode()())
    content[min(cut + 15, len(content) - 1)] ^= 0xFF

    assert isinstance(Moments().restore(bytes(content)), str)
