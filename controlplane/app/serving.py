"""``cats serve``: opens the ports, runs the loops, drains at the end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controlplane.admin_api.protection import count_answers
from controlplane.admin_api.state_publisher import StatePublisher
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
from controlplane.app.records import record_reports, trace_cycles
from controlplane.app.settings import Settings
from controlplane.app.start_report import report_open_files, report_start
from controlplane.controller.control_plane import ControlPlane
from controlplane.controller.discovered_store import NOTHING_SAVED
from controlplane.controller.discovery import InstanceDiscovery
from controlplane.controller.discovery_saving import load_discovered
from controlplane.controller.lease_replication import make_kubernetes_bus
from controlplane.controller.replication import join, make_bus
from controlplane.runtime.certificate_files import follow_certificates
from controlplane.runtime.collector import collect_when_due
from controlplane.runtime.config_file import ConfigFile
from controlplane.runtime.log import get_logger
from controlplane.runtime.memory import collect_recent
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

MAX_REPLICAS = 32
"""Connections at a time to the port on which replicas ask each other; one of each is the rule."""


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
            collect_recent()
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
            record_reports(control, settings.record, settings.config_file, ends)
        admin_view = AdminView(control)
        states = StatePublisher(control, admin_view)
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
        trace_cycles(control, xds_port, ends)
        bus = None
        if config.server.bus != "local":
            bus = await _make_bus(control, ends)
            bus.may_lead = False
            ends.push_async_callback(_end, await join(control, bus))
        await control.load_state()
        last_day = control.history, admin_view.moments
        await restore_history(last_day, settings.state_dir, ends, log=control.log)
        report_start(control, settings, xds_port, admin_port)
        report_open_files(control, settings, most)
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
            "envoy events": states.run_envoy_events,
            "admin states": states.run_states,
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
    bus, runner = await make_kubernetes_bus(control, replicas, ends, middlewares=[count_answers])
    address = ("0.0.0.0", replicas.port)  # noqa: S104 -- other pods ask, and sign what they ask
    if bus.address.startswith("127.0.0.1:"):
        address = ("127.0.0.1", replicas.port)
    await bind_http(runner, address, setting="server.replicas.port", most=MAX_REPLICAS)
    return bus


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


def _watchdog(control: ControlPlane) -> LoopWatchdog:
    watchdog = LoopWatchdog(log=control.log)
    loop = asyncio.get_running_loop()
    control.metrics.loop_lag.set_function(lambda: watchdog.lag(now=loop.time()))
    return watchdog


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
