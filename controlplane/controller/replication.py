"""Joins a control plane to its replicas, where ``server.bus`` says that there are some."""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl

from controlplane.bus.nats import NatsBus
from controlplane.config import BusTls
from controlplane.controller.control_plane import ControlPlane
from controlplane.controller.cycle import CycleResult
from controlplane.errors import StartError
from controlplane.runtime.tasks import guard
from controlplane.runtime.tls import client_context

FIRST_LOOK = 5.0
"""Seconds that a start waits for the replicas' plan; then it goes on with what it has."""


def make_bus(control: ControlPlane) -> NatsBus:
    """Make this replica's end of the bus, and let the control plane use it.

    Raises:
        StartError: its certificates cannot be read.
    """
    server = control.config.server

    def count(what: str, number: int) -> None:
        if number:
            control.metrics.bus_reports.labels(what).inc(number)

    bus = NatsBus(
        server.bus.split(","),
        # A process that comes back is another replica: the lease of the old one is not its own.
        me=f"{socket.gethostname()}-{secrets.token_hex(4)}",
        on_report=control.reports.receive_shared,
        on_change=control.receive_bus_change,
        count=count,
        tls=None if server.bus_tls is None else _build_context(server.bus_tls),
        clock=control.clock,
    )
    control.bus = bus
    return bus


async def join(control: ControlPlane, bus: NatsBus) -> asyncio.Task[None]:
    """Start the bus and wait for the replicas' plan; give the task that keeps it joined."""

    def count(name: str) -> None:
        control.metrics.task_failures.labels(name).inc()

    resigning: set[asyncio.Task[None]] = set()

    def resign_if_deaf(result: CycleResult) -> None:
        if not (result.view.frozen and bus.leads and bus.replicas) or resigning:
            return
        control.log.warning(
            "leader hears no instance; lease given up",
            replicas=bus.replicas,
            remedy="see whether this replica reaches the instances; another one leads meanwhile",
        )
        task = asyncio.create_task(bus.resign(), name="resign")
        resigning.add(task)
        task.add_done_callback(resigning.discard)

    control.cycle.completed.subscribe(resign_if_deaf)
    task = asyncio.create_task(guard("bus", bus.run, log=control.log, on_failure=count), name="bus")
    if not await bus.wait_for_look(within=FIRST_LOOK):
        control.log.warning(
            "bus unreachable at start",
            bus=control.config.server.bus,
            remedy="see whether NATS runs with JetStream on, and its address",
        )
    return task


def _build_context(tls: BusTls) -> ssl.SSLContext:
    try:
        return client_context(tls.ca, cert=tls.cert, key=tls.key)
    except ssl.SSLError as error:
        raise StartError(
            f"server.bus_tls: {tls.ca}, {tls.cert}, {tls.key}: {error.reason}; give PEM files, and"
            " the key that the certificate was made with"
        ) from error
    except OSError as error:
        raise StartError(
            f"server.bus_tls: {error.filename or tls.ca or tls.cert}: {error.strerror};"
            " name a file that is there and that the user of the control plane may read"
        ) from error
