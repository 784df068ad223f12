"""Joins a control plane to its replicas, where ``server.bus`` says that there are some."""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from controlplane.config import BusTls, Config
from controlplane.controller.control_plane import ControlPlane
from controlplane.controller.cycle_result import CycleResult
from controlplane.controller.discovery_status import RuleStatus
from controlplane.errors import StartError
from controlplane.runtime.tasks import guard
from controlplane.runtime.tls import client_context

if TYPE_CHECKING:
    from controlplane.bus.kubernetes import KubernetesBus
    from controlplane.bus.nats import NatsBus

FIRST_LOOK = 5.0
"""Seconds that a start waits for the replicas' plan; then it goes on with what it has."""
_REMEDIES = {
    "nats": "see whether NATS runs with JetStream on, and its address",
    "kubernetes": "see whether the API answers, whether the role may get, create and update leases,"
    " and whether replicas reach each other at server.replicas.port",
}
DEAF_AFTER = 10.0
"""Seconds of leading without any report from an instance after which another replica may try."""
LOOK_PERIOD = 2.0
"""Seconds between two looks at what the leader's discovery hears."""
DEAF_PERIODS = 3.0
"""The same in scrape periods, where they are long."""
BLIND_AFTER = 15.0
"""Seconds of leading without the Kubernetes API after which another replica may try; an API server
that is restarted is back before."""


class Deafness:
    """How long a leader has heard no instance, counted from when it began to lead.

    Only the leader reads instances.
    A successor therefore finds every report as old as the gap before it, which says nothing of
    what it can hear itself.
    """

    def __init__(self) -> None:
        self._since: float | None = None

    def observe(self, *, leads: bool, silent: bool, now: float) -> float:
        """Return the seconds for which this replica has led while all instances were silent."""
        if not (leads and silent):
            self._since = None
            return 0.0
        if self._since is None:
            self._since = now
        return now - self._since


class Blindness:
    """How long a leader has had no answer of the Kubernetes API, for any rule of discovery.

    Once in an outage it gives the lead up: where no replica has an answer, each has led once and
    the last one stays.
    """

    def __init__(self) -> None:
        self._outage = Deafness()
        self._resigned = False

    def is_due(self, status: Sequence[RuleStatus], *, leads: bool, now: float) -> bool:
        """Report whether the lead should go to another replica now."""
        blind = bool(status) and all(rule.reason for rule in status)
        self._resigned &= blind
        blind_for = self._outage.observe(leads=leads, silent=blind, now=now)
        return blind_for > BLIND_AFTER and not self._resigned

    def note_resigned(self) -> None:
        """Record that the lead was given up for it."""
        self._resigned = True


def make_bus(control: ControlPlane) -> NatsBus:
    """Make this replica's end of the bus, and let the control plane use it.

    Raises:
        StartError: its certificates cannot be read, or the NATS client is not installed.
    """
    try:
        from controlplane.bus.nats import NatsBus  # noqa: PLC0415 -- one that is alone needs none
    except ModuleNotFoundError as error:
        raise StartError(
            f"server.bus: needs the package {error.name}; pip install 'cats-controlplane[nats]'"
        ) from error
    server = control.config.server
    bus = NatsBus(
        server.bus.split(","),
        # A process that comes back is another replica: the lease of the old one is not its own.
        me=replica_name(),
        on_report=control.reports.receive_shared,
        on_change=control.receive_bus_change,
        count=bus_counter(control),
        tls=None if server.bus_tls is None else build_context(server.bus_tls),
        clock=control.clock,
    )
    control.bus = bus
    return bus


def replica_name() -> str:
    """Return a name unlike any other replica's, an earlier process of the same pod included."""
    return f"{socket.gethostname()}-{secrets.token_hex(4)}"


def bus_counter(control: ControlPlane) -> Callable[[str, int], None]:
    """Return what counts reports on the bus, by what became of them."""

    def count(what: str, number: int) -> None:
        if number:
            control.metrics.bus_reports.labels(what).inc(number)

    return count


class Resignation:
    """Resigns where this replica leads and does not hear what it should."""

    def __init__(self, control: ControlPlane, bus: NatsBus | KubernetesBus) -> None:
        self._control = control
        self._bus = bus
        self._deafness = Deafness()
        self._blindness = Blindness()
        self._tasks: set[asyncio.Task[None]] = set()

    def resign_if_deaf(self, result: CycleResult) -> None:
        """Resign if no instance has been heard for long."""
        view, bus = result.view, self._bus
        deaf_for = self._deafness.observe(leads=bus.leads, silent=view.frozen, now=view.at)
        if deaf_for <= _patience(view.config) or not self._may_resign:
            return
        self._control.log.warning(
            "leader hears no instance; lease given up",
            seconds=round(deaf_for, 1),
            replicas=bus.replicas,
            remedy="check whether this replica reaches the instances; another one leads meanwhile",
        )
        self._resign()

    async def resign_if_blind(self) -> None:
        """Resign whenever no rule of discovery has been answered for long.

        Apart from the cycles, which pause for a minute where nothing changes.
        """
        while True:
            await asyncio.sleep(LOOK_PERIOD)
            status, bus = self._control.configuration.discovery_status(), self._bus
            due = self._blindness.is_due(status, leads=bus.leads, now=self._control.clock())
            if not due or not self._may_resign:
                continue
            self._blindness.note_resigned()
            self._control.log.warning(
                "leader hears no Kubernetes API; lease given up",
                replicas=bus.replicas,
                remedy="see 'discovery failed' in this replica's log; another one leads meanwhile",
            )
            self._resign()

    @property
    def _may_resign(self) -> bool:
        return self._bus.may_resign and not self._tasks

    def _resign(self) -> None:
        task = asyncio.create_task(self._bus.resign(), name="resign")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def join(control: ControlPlane, bus: NatsBus | KubernetesBus) -> asyncio.Task[None]:
    """Start the bus and wait for the replicas' plan; return the task that keeps it joined."""

    def count(name: str) -> None:
        control.metrics.task_failures.labels(name).inc()

    resignation = Resignation(control, bus)
    control.cycle.completed.subscribe(resignation.resign_if_deaf)

    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(bus.run(), name="replicas")
            tasks.create_task(resignation.resign_if_blind(), name="leader's discovery")

    task = asyncio.create_task(guard("bus", run, log=control.log, on_failure=count), name="bus")
    if not await bus.wait_for_look(within=FIRST_LOOK):
        control.log.warning(
            "bus unreachable at start",
            bus=control.config.server.bus,
            remedy=_REMEDIES.get(control.config.server.bus, _REMEDIES["nats"]),
        )
    return task


def _patience(config: Config) -> float:
    """Return the seconds in which each instance must have been read several times."""
    periods = (each.scrape.period for each in config.instances if each.scrape is not None)
    return max(DEAF_AFTER, DEAF_PERIODS * max(periods, default=0.0))


def build_context(tls: BusTls) -> ssl.SSLContext:
    """Read the certificates for the bus.

    Raises:
        StartError: a file is not there, or not what it should be.
    """
    try:
        return client_context(tls.ca, cert=tls.cert, key=tls.key)
    except ssl.SSLError as error:
        raise StartError(
            f"server.bus_tls: {tls.ca}, {tls.cert}, {tls.key}: {error.reason}; use PEM files, and"
            " the private key of that certificate"
        ) from error
    except OSError as error:
        raise StartError(
            f"server.bus_tls: {error.filename or tls.ca or tls.cert}: {error.strerror};"
            " name an existing file that the control plane's user may read"
        ) from error
