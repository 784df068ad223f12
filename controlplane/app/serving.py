"""``cats serve``: opens the ports, runs the loops, drains at the end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from aiohttp import web

from controlplane import __version__
from controlplane.admin_api.view import AdminView
from controlplane.app.admin_port import build_http, open_certificates, open_webhook
from controlplane.app.grpc_port import build_grpc, build_identities
from controlplane.app.kept_history import restore_history, save_on
from controlplane.app.listeners import bind_grpc, bind_http
from controlplane.app.readers import (
    make_resolver,
    make_tariff_reader,
    make_waker,
    read_while_deciding,
    resolve_first,
)
from controlplane.config.addresses import is_loopback
from controlplane.controller.control_plane import ControlPlane
from controlplane.controller.cycle import CycleResult
from controlplane.controller.discovered_store import NOTHING_SAVED
from controlplane.controller.discovery import InstanceDiscovery, load_discovered
from controlplane.controller.lease_replication import make_kubernetes_bus
from controlplane.controller.replication import join, make_bus
from controlplane.diagnostics.recording import Recorder
from controlplane.errors import StartError
from controlplane.runtime.addresses import Address, join_address
from controlplane.runtime.certificate_files import follow_certificates
from controlplane.runtime.collector import collect_when_due, set_start_aside
from controlplane.runtime.config_file import ConfigFile, read_text
from controlplane.runtime.log import get_logger
from controlplane.runtime.open_files import take_files
from controlplane.runtime.tasks import guard
from controlplane.runtime.watchdog import LoopWatchdog
from controlplane.sources.orca import OrcaReader
from controlplane.sources.scrape import Scraper

if TYPE_CHECKING:
    from controlplane.bus.kubernetes import KubernetesBus
    from controlplane.bus.nats import NatsBus

GRACE = 0.5
"""Seconds that answers under way get at the end. An Envoy's stream never ends by itself, so this is
what a drain takes; Envoys then connect to another replica, or keep what they have."""


Extension = Callable[[ControlPlane], Iterable[web.RouteDef]]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line decides."""

    config_file: Path
    xds: Address = ("127.0.0.1", 18000)
    admin: Address = ("127.0.0.1", 18080)
    state_dir: Path | None = None
    record: Path | None = None
    """Directory that every report is written to."""
    settle: float | None = None
    """Seconds that first reports get before the first plan; by default one period, at most 1 s."""
    extend: Extension | None = None
    """Adds routes to the admin port; for conformance tests."""
    max_connections: int = 20_000
    """Of the gRPC port; fewer where the system allows fewer files, logged if less than half."""


@dataclass(frozen=True, slots=True)
class Running:
    """A control plane whose ports are open."""

    control: ControlPlane
    xds_port: int
    admin_port: int


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigError: the configuration is wrong.
        StartError: a port cannot be opened.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        async with running(settings):
            set_start_aside()
            await stop.wait()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """Run a control plane for the duration of the block.

    Long, since the order in which parts start is to be read in one place.

    Raises:
        ConfigError: the configuration is wrong.
        StartError: a port cannot be opened, or a setting is not supported.
    """
    file = ConfigFile(settings.config_file)
    config = file.read()
    saved = (
        load_discovered(settings.state_dir, log=get_logger()) if config.discovery else NOTHING_SAVED
    )
    control = ControlPlane(
        config,
        file=settings.config_file,
        state_dir=settings.state_dir,
        settle=settings.settle,
        found=saved.found,
        matches=saved.matches,
        addresses=await resolve_first(config),
    )
    discovery = InstanceDiscovery(control, state_dir=settings.state_dir, saved=saved)
    _log_warnings(control, file)
    async with contextlib.AsyncExitStack() as ends:
        ends.callback(control.close)
        if settings.record is not None:
            _record(control, settings.record, settings.config_file, ends)
        admin_view = AdminView(control)
        scraper = Scraper((), on_report=control.receive, clock=control.clock)
        orca = OrcaReader((), on_report=control.receive, clock=control.clock)
        read_while_deciding(control, scraper, orca)
        most = take_files(settings.max_connections)
        server = build_grpc(control, build_identities(control), most)
        ends.push_async_callback(server.stop, GRACE)
        xds_tls, admin_tls, webhook_tls = certificates = open_certificates(control)
        xds_port = await bind_grpc(server, settings.xds, certificates=xds_tls)
        extra = () if settings.extend is None else settings.extend(control)
        runner = await build_http(control, admin_view, settings.admin, extra_routes=extra)
        ends.push_async_callback(runner.cleanup)
        admin_port = await bind_http(runner, settings.admin, certificates=admin_tls)
        await open_webhook(config.server.webhook, webhook_tls, ends)
        _trace_cycles(control, xds_port, ends)
        bus = None
        if config.server.bus != "local":
            bus = await _make_bus(control, ends)
            bus.may_lead = False
            ends.push_async_callback(_end, await join(control, bus))
        await control.load_state()
        last_day = control.history, admin_view.moments
        await restore_history(last_day, settings.state_dir, ends, log=control.log)
        _tell_start(control, settings, xds_port, admin_port)
        _report_open_files(control, settings, most)
        loops: dict[str, Callable[[], Awaitable[None]]] = {
            "cycles": lambda: _run_cycles(control, discovery, bus),
            "withdrawals": control.cycle.run_withdrawals,
            "discovery": discovery.run,
            "names": make_resolver(control).run,
            "scrapes": scraper.run,
            "orca streams": orca.run,
            "tariffs": make_tariff_reader(control).run,
            "starts": make_waker(control).run,
            "configuration file": lambda: _follow_file(control, file),
            "envoy events": admin_view.run_envoy_events,
            "admin states": admin_view.run_states,
            "certificates": lambda: follow_certificates(filter(None, certificates)),
            "watchdog": _watchdog(control).run,
            "garbage collections": collect_when_due,
            "history": lambda: save_on(control.history, settings.state_dir),
            "moments": lambda: save_on(admin_view.moments, settings.state_dir),
        }
        _reload_on_hangup(file, ends)
        running_loops = asyncio.create_task(_run_guarded(control, loops), name="loops")
        try:
            yield Running(control, xds_port, admin_port)
        finally:
            control.log.info("draining", grace=GRACE)
            if bus is not None:
                await bus.close()
            running_loops.cancel()
            await asyncio.gather(running_loops, return_exceptions=True)


async def _run_cycles(
    control: ControlPlane, discovery: InstanceDiscovery, bus: NatsBus | KubernetesBus | None
) -> None:
    await discovery.wait_first()
    if bus is not None:
        bus.may_lead = True
    await control.cycle.run()


async def _make_bus(
    control: ControlPlane, ends: contextlib.AsyncExitStack
) -> NatsBus | KubernetesBus:
    """Make this replica's end of the bus, whatever joins the replicas."""
    replicas = control.config.server.replicas
    if replicas is None:
        return make_bus(control)
    bus, runner = await make_kubernetes_bus(control, replicas, ends)
    address = ("0.0.0.0", replicas.port)  # noqa: S104 -- other pods ask, and sign what they ask
    if bus.address.startswith("127.0.0.1:"):
        address = ("127.0.0.1", replicas.port)
    await bind_http(runner, address, setting="server.replicas.port")
    return bus


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


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _run_guarded(
    control: ControlPlane, loops: Mapping[str, Callable[[], Awaitable[None]]]
) -> None:
    def count(name: str) -> None:
        control.metrics.task_failures.labels(name).inc()

    async with asyncio.TaskGroup() as tasks:
        for name, run in loops.items():
            guarded = guard(name, run, log=control.log, on_failure=count)
            tasks.create_task(guarded, name=name)


def _report_open_files(control: ControlPlane, settings: Settings, most: int) -> None:
    """Warn where the limit of open files allows far fewer clients than wanted."""
    if most < settings.max_connections / 2:
        control.log.warning(
            "open-file limit lowers max connections",
            max_connections=most,
            wanted=settings.max_connections,
            remedy="raise the hard limit (LimitNOFILE, ulimit -Hn), or --max-connections",
        )


def _watchdog(control: ControlPlane) -> LoopWatchdog:
    watchdog = LoopWatchdog(log=control.log)
    loop = asyncio.get_running_loop()
    control.metrics.measure_loop(lambda: watchdog.lag(now=loop.time()))
    return watchdog


def _trace_cycles(control: ControlPlane, xds_port: int, ends: contextlib.AsyncExitStack) -> None:
    """Send traces of the cycles, if the configuration says where to."""
    tracing = control.config.server.tracing
    if tracing is None:
        return
    tracer = _import_tracing().CycleTracer(
        tracing, replica=join_address((socket.gethostname(), xds_port))
    )
    control.cycle.measured.subscribe(tracer.tell_cycle)
    control.meter.settled.subscribe(tracer.tell_settled)
    ends.push_async_callback(asyncio.to_thread, tracer.close)


def _record(
    control: ControlPlane, directory: Path, config_file: Path, ends: contextlib.AsyncExitStack
) -> None:
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
                remedy="make room and restart with --record",
            )

    control.cycle.completed.subscribe(write)


async def _follow_file(control: ControlPlane, file: ConfigFile) -> None:
    async with contextlib.aclosing(file.changes()) as changes:
        async for change in changes:
            control.configuration.receive_file(change)
            _log_warnings(control, file)


def _log_warnings(control: ControlPlane, file: ConfigFile) -> None:
    for warning in file.warnings:
        control.log.warning(
            "configuration accepted with a warning",
            warning=str(warning),
            remedy="see the warning; 'cats check' reports the same",
        )


def _reload_on_hangup(file: ConfigFile, ends: contextlib.AsyncExitStack) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, file.reload)
    ends.callback(loop.remove_signal_handler, signal.SIGHUP)


def _tell_start(control: ControlPlane, settings: Settings, xds_port: int, admin_port: int) -> None:
    config = control.config
    scheme = "http" if config.server.admin.tls is None else "https"
    control.log.info(
        "control plane started",
        version=__version__,
        config=str(settings.config_file),
        sites=len(config.sites),
        services=len(config.services),
        instances=len(config.instances),
        xds=join_address((settings.xds[0], xds_port)),
        admin=f"{scheme}://{join_address((settings.admin[0], admin_port))}",
        tls=config.server.tls is not None,
    )
    admin = config.server.admin
    if not is_loopback(settings.admin[0]) and admin.tls is None:
        control.log.warning(
            "admin tokens sent without encryption",
            admin=join_address(settings.admin),
            remedy="set server.admin.tls, or keep the network closed",
        )
    if config.server.tls is None and not is_loopback(settings.xds[0]):
        control.log.warning(
            "gRPC port served without TLS",
            xds=join_address(settings.xds),
            remedy="set server.tls in the configuration, or keep the network closed",
        )
    elif config.server.tls is not None and config.server.tls.client_ca is None:
        control.log.warning(
            "client certificates not required",
            remedy="set server.tls.client_ca in the configuration",
        )
