"""Shares to integer weights."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from controlplane.steering.weights import LEAST_SHARE, round_rows, round_shares

fleets = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=4), st.floats(0.001, 1.0), min_size=1, max_size=30
).map(lambda raw: {name: share / sum(raw.values()) for name, share in raw.items()})


@given(fleets, st.integers(100, 20_000))
def test_weights_add_up_and_nobody_kept_gets_none(shares: dict[str, float], total: int) -> None:
    """The sum is exact and every instance that is kept weighs at least 1."""
    weights = round_shares(shares, total=total)

    assert total == sum(weights.values())
    assert min(weights.values()) >= 1


@given(fleets)
def test_weights_are_within_one_of_their_quota(shares: dict[str, float]) -> None:
    """Rounding moves no one by more than one."""
    assume(min(shares.values()) >= LEAST_SHARE)
    weights = round_shares(shares, total=10_000)

    assert all(abs(weights[name] - share * 10_000) <= 1 for name, share in shares.items())


@given(fleets, st.randoms())
def test_order_does_not_matter(shares: dict[str, float], random: object) -> None:
    """The same shares in another order give the same weights."""
    names = list(shares)
    random.shuffle(names)  # type: ignore[attr-defined]

    assert round_shares(shares, total=1000) == round_shares(
        {name: shares[name] for name in names}, total=1000
    )


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        pytest.param({"a": 1.0}, {"a": 100}, id="one takes all"),
        pytest.param({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, {"a": 34, "b": 33, "c": 33}, id="ties"),
        pytest.param({"a": 0.9999, "b": 0.0001}, {"a": 100}, id="crumbs are dropped"),
        pytest.param({"a": 0.998, "b": 0.002}, {"a": 99, "b": 1}, id="little is at least one"),
        pytest.param({"a": 0.0, "b": 0.0}, {}, id="nothing"),
        pytest.param({}, {}, id="no one"),
    ],
)
def test_small_cases(shares: dict[str, float], expected: dict[str, int]) -> None:
    """Cases worked out by hand."""
    assert expected == round_shares(shares, total=100)


def test_more_instances_than_weight_is_refused() -> None:
    """A sum that cannot give everyone 1 is an error, not a zero weight."""
    with pytest.raises(ValueError, match="cannot share"):
        round_shares({str(n): 1 / 20 for n in range(20)}, total=10)


@given(st.lists(fleets, min_size=1, max_size=8), st.integers(30, 2_000))
def test_many_rows_are_rounded_as_each_alone(rows: list[dict[str, float]], total: int) -> None:
    """The fast way for a whole plan gives what the plain one gives row by row."""
    names = sorted({name for shares in rows for name in shares})
    rank = np.array([names.index(name) for shares in rows for name in shares])
    starts = np.cumsum([0, *(len(shares) for shares in rows[:-1])])
    weights = round_rows(
        np.array([share for shares in rows for share in shares.values()]),
        starts,
        rank,
        total=total,
    )

    for shares, own in zip(rows, np.split(weights, starts[1:]), strict=True):
        alone = round_shares(shares, total=total)

        assert [alone.get(name, 0) for name in shares] == own.tolist()


def test_a_row_of_too_many_is_refused() -> None:
    """Everyone who is kept must get 1."""
    shares = np.full(4, 0.25)

    with pytest.raises(ValueError, match="4 instances cannot share a weight of 3"):
        round_rows(shares, np.array([0]), np.arange(4), total=3)
