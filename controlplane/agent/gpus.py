"""What NVIDIA's driver says of the GPUs, through its management library (NVML).

Without a driver there are no GPUs, and that is no fault.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from collections.abc import Sequence
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


class GpuReader:
    """Looks at the GPUs of this machine again and again.

    Args:
        library: ``pynvml``, or what speaks like it; by default the real one where it works.
    """

    def __init__(self, library: Any = None) -> None:
        self._library: Any = None
        self._devices: list[Any] = []
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

    def read(self) -> tuple[GpuState, ...]:
        """Look at all GPUs, in the order of their indices."""
        return tuple(self._read(device) for device in self._devices)

    def _read(self, device: Any) -> GpuState:
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
        )


def of_instance(gpus: Sequence[GpuState], indices: Sequence[int]) -> tuple[GpuState, ...]:
    """Return the GPUs at *indices*; all of them if none is named."""
    if not indices:
        return tuple(gpus)
    return tuple(gpus[index] for index in indices if index < len(gpus))
