"""Expositions of DCGM's exporter and of node exporter, as these write them."""

from __future__ import annotations

import pytest

from controlplane.agent.exporters import Exported, join_exported, parse_exported
from controlplane.agent.settings import ExporterKind
from controlplane.errors import ReportError

DCGM = """\
# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1",device="nvidia0"} 40
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-2",device="nvidia1"} 9223372036854775794
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-1"} 150.5
DCGM_FI_DEV_POWER_USAGE{gpu="1",UUID="GPU-2"} 100
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-1"} 1000
DCGM_FI_DEV_FB_FREE{gpu="0",UUID="GPU-1"} 3000
DCGM_FI_DEV_MEMORY_TEMP{gpu="0",UUID="GPU-1"} 9223372036854775794
"""

NODE = """\
# TYPE node_rapl_package_joules_total counter
node_rapl_package_joules_total{index="0",path="/sys/class/powercap/intel-rapl:0"} %s
node_rapl_package_joules_total{index="1",path="/sys/class/powercap/intel-rapl:1"} %s
node_pressure_cpu_waiting_seconds_total %s
node_power_supply_capacity{power_supply="BAT0"} 81
node_power_supply_online{power_supply="AC"} %s
node_load1 3.5
"""


def test_dcgm_gives_the_busiest_gpu_and_the_power_of_all() -> None:
    """Sentinels are left out, alone."""
    exported = parse_exported(DCGM, ExporterKind.DCGM, before=None, at=1.0)

    assert (0.4, 0.25, 250.5) == (exported.utilisation, exported.memory, exported.gpu_power)


@pytest.mark.parametrize(
    ("labels", "power"),
    [({"gpu": "0"}, 150.5), ({"gpu": "*", "UUID": "GPU-[2]"}, 100.0), ({"Hostname": "b"}, None)],
)
def test_labels_choose_the_gpus_that_count(labels: dict[str, str], power: float | None) -> None:
    """One exporter may show what other machines and jobs use."""
    exported = parse_exported(DCGM, ExporterKind.DCGM, before=None, at=1.0, labels=labels)

    assert power == exported.gpu_power


def test_node_exporter_gives_rates_from_two_looks() -> None:
    """A counter that ran backwards gives no rate."""
    first = parse_exported(NODE % (100, 50, 5, 1), ExporterKind.NODE, before=None, at=10.0)
    second = parse_exported(
        NODE % (180, 70, 5.5, 1), ExporterKind.NODE, before=(10.0, first), at=12.0
    )
    third = parse_exported(NODE % (1, 1, 6, 0), ExporterKind.NODE, before=(12.0, second), at=13.0)

    assert (None, None, None) == (first.power, first.pressure, first.battery)
    assert (50.0, 0.25, None) == (second.power, second.pressure, second.battery)
    assert (None, 0.5, 0.81) == (third.power, third.pressure, third.battery)


def test_exporters_of_one_machine_speak_together() -> None:
    """The busiest GPU of all; each part's watts."""
    joined = join_exported(
        [
            Exported(utilisation=0.4, gpu_power=100.0),
            Exported(utilisation=0.9, memory=0.5, gpu_power=50.0),
            Exported(power=30.0, pressure=0.25),
        ]
    )

    assert Exported(0.9, 0.5, 30.0, 150.0, 0.25) == joined
    assert Exported() == join_exported([])


def test_what_is_no_exposition_is_refused() -> None:
    """With our own error."""
    with pytest.raises(ReportError):
        parse_exported("<html>", ExporterKind.NODE, before=None, at=0.0)
