"""What NVIDIA's driver says of the GPUs, through its management library (NVML).

Without a driver there are no GPUs, and that is no fault.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

DRIVER = "libnvidia-ml.so.1"

log = structlog.get_logger(part="gpus")


@dataclass(frozen=True, slots=True)
class GpuState:
    """One look at one GPU; what it does not say is none."""

    utilisation: float | None
    """Busy share of the last second, 0 to 1."""
    memory: float | None
    """Share of its memory in use, 0 to 1."""
    power: float | None
    """Draw in watts."""
    training: float | None = None
    """Share of the last second that training jobs took, 0 to 1; none where no GPU runs any."""


class GpuReader:
    """Looks at the GPUs of this machine again and again.

    Args:
        library: ``pynvml``, or what speaks like it; by default the real one where it works.
    """

    def __init__(self, library: Any = None) -> None:
        self._library: Any = None
        self._devices: list[Any] = []
        self._seen: dict[Any, int] = {}
        """GPU -> time of its newest sample of a process, by the driver's clock."""
        self._known: set[int] = set()
        """Training jobs that were seen on a GPU; one that pauses there is still known."""
        if library is None:
            try:
                # The binding is large; where the driver's library is not, it is not needed.
                ctypes.CDLL(DRIVER)
                library = importlib.import_module("pynvml")
            except (OSError, ImportError):
                return
        try:
            library.nvmlInit()
            count = library.nvmlDeviceGetCount()
            self._devices = [library.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        except library.NVMLError as error:
            log.debug("no GPUs", reason=str(error))
            return
        self._library = library

    def close(self) -> None:
        """Let go of the driver."""
        if self._library is not None:
            with contextlib.suppress(self._library.NVMLError):
                self._library.nvmlShutdown()
            self._library, self._devices = None, []

    def read(self, jobs: Collection[int] = ()) -> tuple[GpuState, ...]:
        """Look at all GPUs, in the order of their indices.

        Args:
            jobs: process ids of training jobs. Where the driver sees none of them on any GPU,
                they run beside the GPUs, or it numbers processes otherwise, as from a container.
        """
        taken = [self._processes(device) if jobs else {} for device in self._devices]
        self._known = {
            job for job in jobs if job in self._known or any(job in each for each in taken)
        }
        return tuple(
            self._read(device, _sum_of(each, jobs) if self._known else None)
            for device, each in zip(self._devices, taken, strict=True)
        )

    def _processes(self, device: Any) -> Mapping[int, float]:
        """Return process id -> share of the GPU that it took since the last look."""
        try:
            samples = self._library.nvmlDeviceGetProcessUtilization(
                device, self._seen.get(device, 0)
            )
        except self._library.NVMLError:
            return {}  # not supported, or no process used it since
        shares: dict[int, float] = {}
        for sample in sorted(samples, key=lambda one: one.timeStamp):
            shares[sample.pid] = min(1.0, sample.smUtil / 100)
            self._seen[device] = sample.timeStamp
        return shares

    def _read(self, device: Any, training: float | None) -> GpuState:
        library = self._library

        def ask(function: Any) -> Any:
            try:
                return function(device)
            except library.NVMLError:
                return None

        rates = ask(library.nvmlDeviceGetUtilizationRates)
        memory = ask(library.nvmlDeviceGetMemoryInfo)
        milliwatts = ask(library.nvmlDeviceGetPowerUsage)
        return GpuState(
            utilisation=None if rates is None else min(1.0, rates.gpu / 100),
            memory=None if memory is None or not memory.total else memory.used / memory.total,
            power=None if milliwatts is None else milliwatts / 1000,
            training=training,
        )


def _sum_of(shares: Mapping[int, float], jobs: Iterable[int]) -> float:
    return min(1.0, sum(shares.get(job, 0.0) for job in jobs))


def of_instance(gpus: Sequence[GpuState], indices: Sequence[int]) -> tuple[GpuState, ...]:
    """Return the GPUs at *indices*; all of them if none is named."""
    if not indices:
        return tuple(gpus)
    return tuple(gpus[index] for index in indices if index < len(gpus))
