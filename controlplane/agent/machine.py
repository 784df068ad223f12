"""What the machine says of itself: processors, memory, pressure, battery, and energy.

Reads /proc and /sys through psutil and files; every sensor that is absent is simply not there.
Paths are below *root*, so that a test can lay out a machine of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

PRESSURE_FIELD = "avg10="
"""Share of the last ten seconds in which some task waited (Documentation/accounting/psi.rst)."""


@dataclass(frozen=True, slots=True)
class MachineState:
    """One look at the machine; what cannot be read is none."""

    cpu: float
    """Busy share of all processors since the last look, 0 to 1."""
    memory: float
    """Share of the memory in use, 0 to 1."""
    pressure: float | None
    """Share of time that some task waited for a processor, 0 to 1."""
    power: float | None
    """Draw of the processors in watts, since the last look."""
    battery: float | None
    """Charge, 0 to 1; none on mains."""
    mains: bool = False
    """Whether there is a battery that is not in use."""


class MachineReader:
    """Looks at one machine again and again.

    Args:
        rapl: count the processors' energy.
        battery: read the power supplies.
        root: of the file system.
    """

    def __init__(self, *, rapl: bool = True, battery: bool = True, root: Path = Path("/")) -> None:
        self._pressure = root / "proc/pressure/cpu"
        self._battery = root / "sys/class/power_supply" if battery else None
        self._counters = list(_rapl(root / "sys/class/powercap")) if rapl else []
        psutil.cpu_percent()  # the first look has no past

    def read(self, *, now: float) -> MachineState:
        """Look at *now*, any monotonic clock."""
        watts = [counter.watts(now) for counter in self._counters]
        power: float | None = None
        if watts and all(watt is not None for watt in watts):
            power = sum(watt for watt in watts if watt is not None)
        charge, discharge = (None, None) if self._battery is None else _battery(self._battery)
        return MachineState(
            cpu=min(1.0, psutil.cpu_percent() / 100),
            memory=min(1.0, psutil.virtual_memory().percent / 100),
            pressure=_pressure(self._pressure),
            # On battery, its discharge is the whole machine's draw.
            power=power if discharge is None else discharge,
            battery=charge,
            mains=charge is None and self._battery is not None and _has_battery(self._battery),
        )


class EnergyCounter:
    """One RAPL counter of microjoules, which wraps (Documentation/power/powercap)."""

    def __init__(self, path: Path, wraps_at: float) -> None:
        self._path = path
        self._wraps_at = wraps_at
        self._last: tuple[float, float] | None = None

    def watts(self, now: float) -> float | None:
        """Return the mean draw since the last call; None at the first, or if it cannot be read."""
        joules = _number(self._path, scale=1e-6)
        if joules is None:
            self._last = None
            return None
        last, self._last = self._last, (now, joules)
        if last is None or now <= last[0]:
            return None
        gain = joules - last[1]
        if gain < 0:
            gain += self._wraps_at
        return gain / (now - last[0]) if gain >= 0 else None


def _rapl(folder: Path) -> Iterator[EnergyCounter]:
    # intel-rapl:0 is a package, intel-rapl:0:1 a part of it that the package includes.
    # AMD's counters appear under the same name.
    for zone in sorted(folder.glob("intel-rapl:*")):
        if zone.name.count(":") == 1 and _number(zone / "energy_uj") is not None:
            wraps = _number(zone / "max_energy_range_uj", scale=1e-6) or 0.0
            yield EnergyCounter(zone / "energy_uj", wraps)


def _battery(folder: Path) -> tuple[float | None, float | None]:
    """Return charge and draw while on battery; neither on mains."""
    charge: float | None = None
    draw = 0.0
    for supply in sorted(folder.glob("*")):
        kind = _text(supply / "type")
        if kind in ("Mains", "USB", "UPS") and _text(supply / "online") == "1":
            return None, None
        if kind != "Battery" or _text(supply / "scope") == "Device":
            continue  # a mouse has a battery, too
        if _text(supply / "status") in ("Charging", "Full", "Not charging"):
            return None, None
        percent = _number(supply / "capacity", scale=0.01)
        if percent is not None:
            charge = percent if charge is None else min(charge, percent)
        draw += _draw(supply)
    return (None, None) if charge is None else (min(1.0, charge), draw or None)


def _has_battery(folder: Path) -> bool:
    """Return whether the machine has a battery of its own, in use or not."""
    return any(
        _text(supply / "type") == "Battery" and _text(supply / "scope") != "Device"
        for supply in folder.glob("*")
    )


def _draw(supply: Path) -> float:
    watts = _number(supply / "power_now", scale=1e-6)
    if watts is not None:
        return abs(watts)
    amperes = _number(supply / "current_now", scale=1e-6)
    volts = _number(supply / "voltage_now", scale=1e-6)
    return abs(amperes * volts) if amperes is not None and volts is not None else 0.0


def _pressure(path: Path) -> float | None:
    text = _text(path)
    for field in (text or "").partition("\n")[0].split():
        if field.startswith(PRESSURE_FIELD):
            try:
                return min(1.0, max(0.0, float(field.removeprefix(PRESSURE_FIELD)) / 100))
            except ValueError:
                return None
    return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def _number(path: Path, *, scale: float = 1.0) -> float | None:
    try:
        return float(_text(path) or "") * scale
    except ValueError:
        return None
