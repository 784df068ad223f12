"""A short soak of a whole control plane; the long one is ``python -m benchmarks.soak``."""

from __future__ import annotations

import pytest

from benchmarks.soak import slope, soak


async def test_nobody_is_stale_after_a_storm_of_odd_clients() -> None:
    """Streams leave, refuse and stall, also under names in use; in the end all hold the newest."""
    row = await soak(streams=100, seconds=10.0, seed=7, least=21)

    assert 0 == row.figures["stale"]
    assert 0 == row.figures["cut by the server"]
    assert all(row.figures[name] > 20 for name in ("refusals", "stalls", "changes"))
    assert 100 < row.figures["streams started"] <= row.figures["responses"]
    # Clients under one id count once; those that left are gone from the books.
    assert 50 < row.figures["Envoys in the books"] <= 100


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        pytest.param([(0.0, 5.0), (1.0, 5.0), (2.0, 5.0)], 0.0, id="flat"),
        pytest.param([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)], 2.0, id="rising"),
        pytest.param([(1.0, 1.0)], 0.0, id="one point"),
    ],
)
def test_slope_is_that_of_the_best_line(points: list[tuple[float, float]], expected: float) -> None:
    """By least squares."""
    assert expected == pytest.approx(slope(points))
