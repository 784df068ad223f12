"""Quantities with units."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from controlplane.config.units import (
    BANDWIDTHS,
    DURATIONS,
    MOST,
    POWERS,
    SIZES,
    parse_bandwidth,
    parse_duration,
    parse_penalty,
    parse_power,
    parse_quantity,
    parse_share,
    parse_size,
)


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        pytest.param(0.25, parse_duration("250ms"), id="milliseconds"),
        pytest.param(600.0, parse_duration("10m"), id="minutes"),
        pytest.param(1.5, parse_duration(" 1.5 s "), id="spaces"),
        pytest.param(0.0, parse_duration(0), id="zero needs no unit"),
        pytest.param(0.0, parse_duration("0"), id="zero in quotes neither"),
        pytest.param(math.inf, parse_penalty("never"), id="never"),
        pytest.param(2e6, parse_size("2MB"), id="decimal megabytes"),
        pytest.param(2.0**21, parse_size("2MiB"), id="binary megabytes"),
        pytest.param(12.5e6, parse_bandwidth("100Mbps"), id="bits to bytes"),
        pytest.param(8000.0, parse_power("8kW"), id="kilowatts"),
        pytest.param(0.3, parse_share("30%"), id="per cent"),
        pytest.param(0.3, parse_share(0.3), id="bare share"),
        pytest.param(1.0, parse_share(1), id="all"),
    ],
)
def test_quantities_are_read_in_si_units(expected: float, actual: float) -> None:
    """Seconds, bytes, bytes a second, watts and shares from 0 to 1."""
    assert pytest.approx(expected) == actual


@pytest.mark.parametrize(
    "value",
    [
        "", "s", "1", 1, -1, "-1s", "1 s s", "1e3s", "1S", "inf", "nan", math.inf, math.nan,
        None, True, [], {}, "1s1ms", "1,5s", "٣s", "9" * 400 + "s", "4000000d",
    ],
)  # fmt: skip
def test_what_is_no_duration_is_refused(value: object) -> None:
    """No one has to guess what a number without a unit means."""
    with pytest.raises(PydanticCustomError):
        parse_duration(value)


@given(
    st.decimals(min_value=0, max_value=1000, places=3),
    st.sampled_from(["duration", "size", "rate", "power"]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_a_number_and_a_unit_multiply(
    number: object, kind: str, spaced: bool, random: object
) -> None:
    """What is written is the number times the unit, with or without a space between."""
    units = {"duration": DURATIONS, "size": SIZES, "rate": BANDWIDTHS, "power": POWERS}[kind]
    unit = random.choice(sorted(units))  # type: ignore[attr-defined]
    text = f"{number}{' ' if spaced else ''}{unit}"
    expected = float(str(number)) * units[unit]
    if expected <= MOST:
        assert expected == parse_quantity(text, units, kind, "")


@given(st.text() | st.floats() | st.integers() | st.none() | st.booleans())
def test_any_value_is_a_share_or_refused(value: object) -> None:
    """A share is never outside 0 to 1, and nothing else is raised."""
    try:
        share = parse_share(value)
    except PydanticCustomError:
        return
    assert 0 <= share <= 1
