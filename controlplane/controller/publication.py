"""What Envoys get of the served plan: built in a thread of its own, published by the event loop.

The thread is not the deciding one, so that an instance that goes is out of the weights while a
decision is under way. Builders keep state, so one thread at a time calls them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from controlplane.config import Config
from controlplane.config.withdrawals import Withdrawn
from controlplane.controller.withdrawals import NOTHING, Withdrawals
from controlplane.grpc_services.views import ViewStore
from controlplane.resources.build import SnapshotBuilder
from controlplane.resources.grpc_clients import GrpcViews
from controlplane.resources.low_battery import LowBatteryViews
from controlplane.resources.names import LOW_BATTERY, ROLE_GRPC
from controlplane.resources.versions import OlderEnvoyViews
from controlplane.resources.views import Views
from controlplane.steering.plan import Plan
from controlplane.steering.withdrawal import without
from controlplane.xds.snapshot import Snapshot, view_key

Snapshots = Mapping[str, Snapshot]
"""View key -> what its clients get."""
Result = TypeVar("Result")
Clients = Collection[tuple[str, str]]
"""(site, role) of gRPC clients and older Envoys."""
LowBattery = Mapping[str, Collection[str]]
"""Device site -> ids of the clients on devices whose battery is low."""


@dataclass(frozen=True, slots=True)
class Published:
    """What came of a plan."""

    views: Views
    """Those of Envoys of today's version."""
    changed: bool
    """Whether any view did."""
    build_seconds: float


class _Builders:
    """The builders of one configuration."""

    def __init__(self, config: Config, *, previous: SnapshotBuilder | None = None) -> None:
        self.envoys = SnapshotBuilder(config, previous=previous)
        self._grpc = GrpcViews(config)
        self._older = OlderEnvoyViews(config)
        self._low_battery = LowBatteryViews()

    def build(
        self, plan: Plan, clients: Clients, low_battery: Collection[str]
    ) -> tuple[Views, Snapshots]:
        """Return the views of *plan*, and with them those of other clients.

        The sites *low_battery* have clients on devices whose battery is low.
        """
        views = self.envoys.build(plan)
        every = {**views, **self._low_battery.build(views, low_battery)}
        several = {*clients, *_variants(clients, low_battery)}
        grpc_sites = [site for site, role in several if role == ROLE_GRPC]
        derived = self._grpc.build(every, grpc_sites) | self._older.build(every, several)
        return views, {**every, **derived}


def _variants(clients: Clients, low_battery: Collection[str]) -> Iterator[tuple[str, str]]:
    """Return the views, as sites, and roles of those *clients* who may have a low battery."""
    for site, role in clients:
        if site in low_battery:
            yield view_key(site, variant=LOW_BATTERY), role


class Publication:
    """Builds and publishes plans, and withdraws instances from the one that is served.

    Attributes:
        plan: the served one, as it was decided; None before the first.
        withdrawals: what is left out of it.
    """

    def __init__(self, config: Config, views: ViewStore) -> None:
        self._store = views
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="build")
        self._next = self._serving = _Builders(config)
        self._turn = asyncio.Lock()
        """So that what is published last was built last."""
        self._left_out = NOTHING
        self._low_battery: LowBattery = {}
        self.plan: Plan | None = None
        self.withdrawals = Withdrawals()

    async def reconfigure(self, config: Config) -> None:
        """Build the next plan under another configuration; the served one stays under its own."""
        before = self._next.envoys
        self._next = await self._run(lambda: _Builders(config, previous=before))

    async def publish(
        self,
        plan: Plan,
        *,
        clients: Clients = (),
        barred: Withdrawn = NOTHING,
        low_battery: LowBattery | None = None,
    ) -> Published:
        """Serve *plan*, without what went while it was decided and without *barred*.

        Clients on devices whose battery is low, *low_battery*, have a view of their own; None for
        the previous ones.
        """
        async with self._turn:
            began = time.perf_counter()
            builders = self._next
            left_out = self.withdrawals.from_next | barred
            reduced = without(plan, left_out)
            if low_battery is not None:
                self._low_battery = low_battery
            low = self._low_battery
            views, built = await self._run(lambda: builders.build(reduced, clients, low))
            build_seconds = time.perf_counter() - began
            self.withdrawals.end_decision(barred)
            self.plan, self._serving, self._left_out = plan, builders, left_out
            changed = self._store.publish(built, low_battery=low)
            return Published(views, changed, build_seconds)

    async def withdraw(self, *, clients: Clients) -> None:
        """Publish the served plan without what went; do nothing where that is published."""
        async with self._turn:
            left_out = self.withdrawals.from_served
            if self.plan is None or left_out <= self._left_out:
                return
            plan, builders = self.plan, self._serving
            self._left_out = left_out
            _, built = await self._run(
                lambda: builders.build(without(plan, left_out), clients, self._low_battery)
            )
            self._store.publish(built)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self, build: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, build)
