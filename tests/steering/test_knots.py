"""Values looked up in tables of rising ones."""

from __future__ import annotations

import numpy as np

from controlplane.steering.knots import KNOTS, Ladders, knot_below


def test_the_knot_below_is_the_one_that_a_search_finds() -> None:
    """Between knots, at each, and by the least number below and above it; far out as well."""
    apart = np.linspace(-0.5, 12.0, 40_001)
    beside = [np.nextafter(KNOTS, toward) for toward in (-np.inf, np.inf)]
    share = np.concatenate([apart, KNOTS, *beside, [1e300, np.inf, np.nan]])

    found = np.clip(KNOTS.searchsorted(share, side="right") - 1, 0, len(KNOTS) - 2)

    np.testing.assert_array_equal(knot_below(share), found)


def test_rows_searched_together_are_searched_as_each_alone() -> None:
    """Below, at and above a row's values, and where some are equal."""
    rng = np.random.default_rng(5)
    for count in (1, 2, 7, 8, 95):
        values = np.sort(rng.integers(0, 40, (30, count)).astype(float), axis=1)
        wanted = rng.integers(-1, 42, (30, 50)) + rng.choice([0.0, 0.5], (30, 50))

        alone = [
            row.searchsorted(some, side="right") for row, some in zip(values, wanted, strict=True)
        ]

        np.testing.assert_array_equal(Ladders.of(values).count(wanted), np.array(alone))
