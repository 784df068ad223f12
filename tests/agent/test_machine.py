"""The machine's sensors, as files laid out like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.agent.machine import MachineReader


def lay_out(root: Path, files: dict[str, str]) -> None:
    """Write files below *root*."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def test_the_processors_energy_becomes_watts_and_survives_its_wrap(tmp_path: Path) -> None:
    """Packages add up, their parts do not, and the counter starts over now and then."""
    zone = "sys/class/powercap/intel-rapl:"
    lay_out(
        tmp_path,
        {
            f"{zone}0/energy_uj": "1000000",
            f"{zone}0/max_energy_range_uj": "5000000",
            f"{zone}1/energy_uj": "0",
            f"{zone}1/max_energy_range_uj": "5000000",
            f"{zone}0:0/energy_uj": "0",
        },
    )
    reader = MachineReader(root=tmp_path)

    first = reader.read(now=0.0).power
    lay_out(tmp_path, {f"{zone}0/energy_uj": "3000000", f"{zone}1/energy_uj": "4000000"})
    second = reader.read(now=2.0).power
    lay_out(tmp_path, {f"{zone}0/energy_uj": "1000000", f"{zone}1/energy_uj": "4000000"})
    third = reader.read(now=3.0).power
    (tmp_path / f"{zone}1/energy_uj").unlink()
    fourth = reader.read(now=4.0).power

    assert (None, 3.0, 3.0, None) == (first, second, third, fourth)


@pytest.mark.parametrize(
    ("files", "battery", "power", "mains"),
    [
        pytest.param(
            {"BAT0/type": "Battery", "BAT0/status": "Discharging", "BAT0/capacity": "42",
             "BAT0/power_now": "7500000", "AC/type": "Mains", "AC/online": "0"},
            0.42, 7.5, False, id="on_battery",
        ),
        pytest.param(
            {"BAT0/type": "Battery", "BAT0/status": "Discharging", "BAT0/capacity": "42",
             "BAT0/current_now": "500000", "BAT0/voltage_now": "12000000"},
            0.42, 6.0, False, id="amperes_and_volts",
        ),
        pytest.param(
            {"BAT0/type": "Battery", "BAT0/status": "Charging", "BAT0/capacity": "42"},
            None, None, True, id="charging",
        ),
        pytest.param(
            {"BAT0/type": "Battery", "BAT0/status": "Unknown", "BAT0/capacity": "42",
             "AC/type": "Mains", "AC/online": "1"},
            None, None, True, id="on_mains",
        ),
        pytest.param(
            {"mouse/type": "Battery", "mouse/scope": "Device", "mouse/status": "Discharging",
             "mouse/capacity": "5"},
            None, None, False, id="a_mouse",
        ),
        pytest.param({}, None, None, False, id="none"),
    ],
)  # fmt: skip
def test_battery_counts_only_while_it_feeds_the_machine(
    tmp_path: Path, files: dict[str, str], battery: float | None, power: float | None, mains: bool
) -> None:
    """A phone on its charger is a machine on mains."""
    lay_out(tmp_path, {f"sys/class/power_supply/{name}": text for name, text in files.items()})

    state = MachineReader(root=tmp_path, rapl=False).read(now=0.0)

    assert (battery, power, mains) == (state.battery, state.power, state.mains)


def test_shares_lie_between_zero_and_one(tmp_path: Path) -> None:
    """Whatever this machine does now; pressure is read as a share, and may be absent."""
    lay_out(tmp_path, {"proc/pressure/cpu": "some avg10=12.50 avg60=1.00 avg300=0.00 total=1"})

    state = MachineReader(root=tmp_path).read(now=0.0)
    bare = MachineReader(root=tmp_path / "nothing").read(now=0.0)

    assert 0 <= state.cpu <= 1
    assert 0 < state.memory <= 1
    assert (0.125, None) == (state.pressure, bare.pressure)
