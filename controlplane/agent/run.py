"""``cats agent``: opens what the agent needs, runs its loops, ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import aiohttp

from controlplane import __version__
from controlplane.agent.discovery import discover
from controlplane.agent.exporter_reader import ExporterReader
from controlplane.agent.gpus import GpuReader, of_instance
from controlplane.agent.link import Uplink
from controlplane.agent.machine import MachineReader
from controlplane.agent.orca_server import OrcaServer
from controlplane.agent.probes import Measured, Prober
from controlplane.agent.settings import AgentConfig, LocalInstance
from controlplane.agent.survey import Item, Local, MachineSnapshot, build_items, draw_of
from controlplane.agent.training import ProcessWatch, PushedJobs
from controlplane.errors import StartError
from controlplane.grpc_transport.client import split_address
from controlplane.model import InstanceReport, ScrapeFailure
from controlplane.runtime.log import get_logger
from controlplane.runtime.tasks import guard
from controlplane.sources.scrape import Scraper
from controlplane.wire.cats.telemetry.v1 import telemetry_pb2 as pb

MAX_PATHS = 1_000
"""Measurements kept between two batches."""


class Agent:
    """What one agent knows, and to whom it reports.

    Attributes:
        links: its lines to the control planes.
    """

    def __init__(self, config: AgentConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self._clock = clock
        self._log = get_logger(part="agent")
        me = pb.Agent(id=config.id, site=config.site, version=__version__)
        self.links = [
            Uplink(target, me, keep=config.buffer, clock=clock) for target in config.control_planes
        ]
        self._instances = {instance.name: instance for instance in config.instances}
        self._results: dict[str, InstanceReport | ScrapeFailure] = {}
        self._paths: list[Measured] = []
        machine = config.machine
        self._machine = MachineReader(rapl=machine.rapl, battery=machine.battery)
        self._gpus = GpuReader() if machine.gpu else None
        self._watch = ProcessWatch(config.training.processes)
        self.jobs = PushedJobs()
        self._exporters = ExporterReader(config, clock=clock, log=self._log)
        self._scraper = Scraper(config.instances, on_report=self._take, clock=clock)
        self._prober = Prober(config.probes, on_measured=self._measured, clock=clock)
        self._orca = {one.instance: OrcaServer(one, clock=clock) for one in config.orca}

    def loops(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Return everything that runs for as long as the agent does, by name."""
        config = self.config
        loops: dict[str, Callable[[], Awaitable[None]]] = {
            "scrapes": self._scraper.run,
            "rounds": self._rounds,
        }
        loops |= {f"line to {link.target.address}": link.run for link in self.links}
        if config.probes.targets:
            loops["probes"] = self._prober.run
        if config.discover is not None:
            loops["discovery"] = self._discover
        if config.machine.exporters or config.training.metrics:
            loops["exporters"] = self._exporters.run
        return loops

    async def start(self, ends: contextlib.AsyncExitStack) -> None:
        """Open the agent's own ports; they close with *ends*.

        Raises:
            StartError: one cannot be had.
        """
        if self._gpus is not None:
            ends.callback(self._gpus.close)
        for server in self._orca.values():
            try:
                await server.start()
            except OSError as error:
                raise StartError(
                    f"orca: cannot listen on {server.settings.address} ({error.strerror}); is "
                    "another agent running? choose another address"
                ) from error
            ends.push_async_callback(server.stop)
        if self.config.api is not None:
            # aiohttp's server is loaded by agents that have a port only.
            from aiohttp import web  # noqa: PLC0415

            from controlplane.agent.local_api import build_api  # noqa: PLC0415

            runner = web.AppRunner(
                build_api(self.jobs, shown=self.shown, clock=self._clock),
                access_log=None,
                shutdown_timeout=1.0,
            )
            await runner.setup()
            ends.push_async_callback(runner.cleanup)
            host, port = split_address(self.config.api.address)
            try:
                await web.TCPSite(runner, host, port).start()
            except OSError as error:
                raise StartError(
                    f"api: cannot listen on {self.config.api.address} ({error.strerror});"
                    " is another agent running? choose another with api.address"
                ) from error

    def shown(self) -> dict[str, Any]:
        """Return the agent's state, for people."""
        return {
            "id": self.config.id,
            "site": self.config.site,
            "version": __version__,
            "instances": sorted(self._instances),
            "training": self._training_share(self._clock()),
            "control_planes": [
                {
                    "address": link.target.address,
                    "connected": link.connected,
                    "sent": link.sent,
                    "accepted": link.accepted,
                    "refused": link.refused,
                    "waiting": link.waiting,
                    "dropped": link.dropped,
                    "failures": link.failures,
                }
                for link in self.links
            ],
        }

    def _take(self, result: InstanceReport | ScrapeFailure) -> None:
        self._results[result.instance] = result
        server = self._orca.get(result.instance)
        if server is not None and isinstance(result, InstanceReport):
            server.load.take(result)

    def _measured(self, measured: Measured) -> None:
        self._paths = [*self._paths[-MAX_PATHS + 1 :], measured]

    async def _rounds(self) -> None:
        clock = asyncio.get_running_loop().time
        period = self.config.period
        due = clock()
        while True:
            # A round that took longer than a period costs the rounds it missed, no more.
            due += period * max(1.0, (clock() - due) // period + 1)
            await asyncio.sleep(due - clock())
            items = self.round()
            for link in self.links:
                link.put(_copies(items) if len(self.links) > 1 else items)

    def round(self) -> list[Item]:
        """Read the machine, and return what is new since the last round."""
        now = self._clock()
        results, self._results = self._results, {}
        paths, self._paths = self._paths, []
        around = self._look(now)
        local = {
            name: Local(str(instance.engine), of_instance(around.gpus, instance.gpus))
            for name, instance in self._instances.items()
            if name in results
        }
        return build_items(
            results.values(), paths, around, local=local, reports_power=self.config.reports_power
        )

    def _look(self, now: float) -> MachineSnapshot:
        machine = self._machine.read(now=now)
        processes = self._watch.share(now=now)
        gpus = self._gpus.read(self._watch.jobs) if self._gpus is not None else ()
        exported = self._exporters.exported(now=now)
        return MachineSnapshot(
            now,
            machine,
            gpus,
            self._worth_reporting([self.jobs.share(now=now), *self._exporters.training]),
            self._worth_reporting([processes]),
            power=draw_of(machine, exported, gpus, idle=self.config.machine.idle_power),
            battery=exported.battery if machine.battery is None else machine.battery,
            mains=machine.mains or exported.mains,
            pressure=exported.pressure,
            gpu_utilisation=exported.utilisation,
            gpu_memory=exported.memory,
        )

    def _training_share(self, now: float) -> float | None:
        return self._worth_reporting(
            [
                self._watch.share(now=now),
                self.jobs.share(now=now),
                *self._exporters.training,
            ]
        )

    def _worth_reporting(self, reported: Iterable[float | None]) -> float | None:
        """Return the largest of *reported*; 0 if it is small, or if none is there that could be."""
        config = self.config
        shares = [share for share in reported if share is not None]
        if not shares:
            watched = config.training.processes or config.training.metrics or config.api
            # Saying that there is none ends what was said before.
            return 0.0 if watched else None
        most = max(shares)
        return most if most >= config.training_floor else 0.0

    async def _discover(self) -> None:
        config = self.config
        if config.discover is None:
            return
        urls = [instance.scrape.url for instance in config.instances]
        async with aiohttp.ClientSession(trust_env=False) as session:
            while True:
                found = await discover(
                    config.discover,
                    agent=config.id,
                    session=session,
                    taken=urls,
                    period=config.period,
                )
                self._adopt(found)
                await asyncio.sleep(config.discover.period)

    def _adopt(self, found: tuple[LocalInstance, ...]) -> None:
        named = {instance.name: instance for instance in self.config.instances}
        new = {one.name: one for one in found if one.name not in named}
        before = {name for name in self._instances if name not in named}
        # An engine that does not answer one question is not gone; its scrapes say.
        new |= {name: self._instances[name] for name in before - new.keys()}
        for name in sorted(new.keys() - before):
            self._log.info(
                "engine discovered", instance=name, engine=str(new[name].engine),
                url=new[name].scrape.url,
            )  # fmt: skip
        if new.keys() != before:
            self._instances = {**named, **new}
            self._scraper.reconfigure(self._instances.values())


def _copies(items: list[Item]) -> list[Item]:
    # Each line stamps the messages for its own moment of sending.
    return [Item(item.at, copy.deepcopy(item.message)) for item in items]


@contextlib.asynccontextmanager
async def running_agent(config: AgentConfig) -> AsyncIterator[Agent]:
    """Run an agent for the duration of the block.

    Raises:
        StartError: one of its ports cannot be had.
    """
    log = get_logger(part="agent")
    async with contextlib.AsyncExitStack() as ends:
        agent = Agent(config)
        await agent.start(ends)
        log.info(
            "agent started", id=config.id, site=config.site, version=__version__,
            instances=len(config.instances),
            control_planes=[target.address for target in config.control_planes],
        )  # fmt: skip
        tasks = [
            asyncio.create_task(guard(name, loop, log=log, on_failure=lambda _: None), name=name)
            for name, loop in agent.loops().items()
        ]
        try:
            yield agent
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def run_agent(config: AgentConfig) -> None:
    """Run an agent until SIGTERM or SIGINT.

    Raises:
        StartError: one of its ports cannot be had.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with running_agent(config):
            await stop.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
