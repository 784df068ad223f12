"""Where cycles and reports go beside their ports: traces and recordings."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from types import ModuleType

from controlplane.controller.control_plane import ControlPlane
from controlplane.controller.cycle_result import CycleResult
from controlplane.diagnostics.recording import Recorder
from controlplane.errors import StartError
from controlplane.runtime.addresses import join_address
from controlplane.runtime.config_file import read_text


def _import_tracing() -> ModuleType:
    """Return what needs OpenTelemetry, which a process that is not traced does without."""
    try:
        from controlplane.controller import tracing  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise StartError(
            f"server.tracing: needs the package {error.name};"
            " pip install 'cats-controlplane[tracing]', or leave server.tracing out"
        ) from error
    return tracing


def trace_cycles(control: ControlPlane, xds_port: int, ends: contextlib.AsyncExitStack) -> None:
    """Send traces of the cycles, if the configuration says where to."""
    tracing = control.config.server.tracing
    if tracing is None:
        return
    tracer = _import_tracing().CycleTracer(
        tracing, replica=join_address((socket.gethostname(), xds_port))
    )
    control.cycle.measured.subscribe(tracer.trace_cycle)
    control.meter.settled.subscribe(tracer.trace_settled)
    ends.push_async_callback(asyncio.to_thread, tracer.close)


def record_reports(
    control: ControlPlane, directory: Path, config_file: Path, ends: contextlib.AsyncExitStack
) -> None:
    """Write every report to *directory*, until a write fails."""
    recorder = Recorder(directory, fleet=read_text(config_file))
    ends.callback(recorder.close)
    control.reports.accepted.subscribe(recorder.take)

    def write(_: CycleResult) -> None:
        try:
            recorder.write(control.registry.clients, now=control.clock())
        except OSError as error:
            control.cycle.completed.unsubscribe(write)
            control.reports.accepted.unsubscribe(recorder.take)
            control.log.warning(
                "recording stopped; serving continues",
                reason=error.strerror or str(error),
                remedy="free disk space, and restart with --record",
            )

    control.cycle.completed.subscribe(write)
