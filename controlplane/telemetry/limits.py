"""Bounds of what can be, shared by all who read telemetry.

Wide on purpose: they catch broken units, sentinels and overflows, not odd days.
"""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.model import COUNTERS, Signal

SENTINEL = 2.0**62
"""Drivers write numbers near 2^63 for "cannot be read" (DCGM: 9223372036854775794)."""
SHARE_SLACK = 1.05
"""Shares a little above 1 are rounding and count as 1; beyond, the unit is wrong."""
MAX_GAUGE = 1e9
MAX_RTT = 60.0
"""Seconds."""
MAX_BANDWIDTH = 1e13
"""Bytes a second."""
MAX_POWER = 1e9
"""Watts."""
MAX_ENERGY_PRICE = 1e6
"""Of a kilowatt-hour, in whatever currency."""
MAX_CARBON = 5e3
"""Grams of CO2 of a kilowatt-hour; the dirtiest power stations are at 1,300."""

SHARES = frozenset(
    {Signal.KV_USE, Signal.UTILISATION, Signal.MEMORY, Signal.PRESSURE, Signal.TRAINING}
)
"""Signals that lie between 0 and 1."""

LIMITS: Mapping[Signal, float] = {
    signal: SENTINEL if signal in COUNTERS else SHARE_SLACK if signal in SHARES else MAX_GAUGE
    for signal in Signal
}
"""Signal -> largest value that can be; the smallest is 0 for all."""
