"""From a view to a plan and its resources: one call, in a thread of its own.

Deciding takes from a millisecond to some hundred; the event loop must answer Envoys meanwhile.
Steering and the builder keep state, so one thread at a time calls them, in the order of cycles.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from controlplane.config import Config
from controlplane.fleet.view import FleetView
from controlplane.resources.build import SnapshotBuilder, Views
from controlplane.resources.grpc_clients import GrpcViews
from controlplane.resources.names import ROLE_GRPC
from controlplane.resources.versions import OlderEnvoyViews
from controlplane.steering import Steering
from controlplane.steering.digest import assignment_digest, plan_version
from controlplane.steering.plan import Assignment, Plan
from controlplane.xds.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Decision:
    """What one cycle came to."""

    plan: Plan
    views: Views
    derived_views: Mapping[str, Snapshot]
    """Those of gRPC clients and of older Envoys, by view key."""
    solve_seconds: float
    build_seconds: float


class Decider:
    """Steering and the snapshot builder of one configuration after another."""

    def __init__(self, config: Config) -> None:
        self._steering = Steering(config)
        self._builder = SnapshotBuilder(config)
        self._grpc = GrpcViews(config)
        self._older = OlderEnvoyViews(config)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decide")

    async def decide(
        self,
        view: FleetView,
        *,
        clients: Collection[tuple[str, str]] = (),
        follow: Plan | None = None,
    ) -> Decision:
        """Decide on *view* and build what Envoys get, *clients* of other roles (site, role) too.

        With *follow*, that plan is taken instead of the one decided, which then only served to
        learn: a follower that becomes leader goes on where the plan stands.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._decide, view, clients, follow
        )

    async def reconfigure(self, config: Config) -> None:
        """Go on under another configuration, with what was learned."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._reconfigure, config)

    async def restore(self, plan: Plan) -> Views:
        """Receive a previous plan as the last one, and build what Envoys get of it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._restore, plan)

    async def build_without(
        self, plan: Plan, gone: Collection[str], *, clients: Collection[tuple[str, str]] = ()
    ) -> Mapping[str, Snapshot]:
        """Build what Envoys get of *plan* without the instances *gone*; deciding comes after."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: self._build(without(plan, gone), clients)[0]
        )

    async def memory(self, *, now: float) -> dict[str, Any]:
        """Return what steering has learned."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: self._steering.memory(now=now)
        )

    async def remember(self, memory: Mapping[str, Any], *, now: float) -> tuple[str, ...]:
        """Let steering go on from what it learned in another process.

        Returns:
            What of it could not be read.

        Raises:
            ValueError, KeyError, TypeError: it is no such document.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: self._steering.remember(memory, now=now)
        )

    async def explain(self, service: str, site: str) -> Assignment | None:
        """Return one assignment with all its terms, which a large plan leaves out."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._steering.explain, service, site
        )

    async def try_out(self, view: FleetView, config: Config) -> tuple[Plan, Plan]:
        """Return what would be decided on *view* now, and what under *config*; nothing is kept."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._try_out, view, config
        )

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _decide(
        self, view: FleetView, clients: Collection[tuple[str, str]], follow: Plan | None
    ) -> Decision:
        began = time.perf_counter()
        plan = self._steering.decide(view)
        if follow is not None:
            plan = fit(follow, plan, view.config)
            self._steering.follow(plan, now=view.at)
        decided = time.perf_counter()
        _, views, derived = self._build(plan, clients)
        return Decision(plan, views, derived, decided - began, time.perf_counter() - decided)

    def _build(
        self, plan: Plan, clients: Collection[tuple[str, str]]
    ) -> tuple[Mapping[str, Snapshot], Views, Mapping[str, Snapshot]]:
        """Return all snapshots of *plan*, and apart those of Envoys and of other clients."""
        views = self._builder.build(plan)
        grpc_sites = [site for site, role in clients if role == ROLE_GRPC]
        derived = self._grpc.build(views, grpc_sites) | self._older.build(views, clients)
        return {**views, **derived}, views, derived

    def _try_out(self, view: FleetView, config: Config) -> tuple[Plan, Plan]:
        as_is = copy.deepcopy(self._steering).decide(view)
        changed = copy.deepcopy(self._steering)
        changed.reconfigure(config)
        return as_is, changed.decide(replace(view, config=config))

    def _reconfigure(self, config: Config) -> None:
        builder = SnapshotBuilder(config, previous=self._builder)
        grpc_views = GrpcViews(config)
        self._steering.reconfigure(config)
        self._builder, self._grpc, self._older = builder, grpc_views, OlderEnvoyViews(config)

    def _restore(self, plan: Plan) -> Views:
        self._steering.restore(plan)
        return self._builder.build(plan)


def without(plan: Plan, gone: Collection[str]) -> Plan:
    """Return *plan* without the instances *gone*; the others keep their weights.

    Where no other instance is left the assignment stays as it is: the decision that follows says
    what becomes of it.
    """
    assignments = {}
    for key, assignment in plan.assignments.items():
        kept = tuple(each for each in assignment.allocations if each.instance not in gone)
        if kept and len(kept) < len(assignment.allocations):
            place = {old: new for new, old in enumerate(sorted({each.priority for each in kept}))}
            renumbered = (replace(each, priority=place[each.priority]) for each in kept)
            assignments[key] = replace(assignment, allocations=tuple(renumbered))
        else:
            assignments[key] = assignment
    return replace(plan, assignments=assignments)


def unknown_to(plan: Plan, config: Config) -> list[str]:
    """Return what *plan* names and *config* lacks, or the reverse, as an operator reads it.

    Instances first, then pairs of a service and a client site.
    """
    places = {instance.name: instance.site for instance in config.instances}
    pairs = {(service.name, site.name) for service in config.services for site in config.sites}
    missing = {
        allocation.instance
        for assignment in plan.assignments.values()
        for allocation in assignment.allocations
        if places.get(allocation.instance) != allocation.site
    }
    other = {f"{service} from {site}" for service, site in plan.assignments.keys() ^ pairs}
    return sorted(missing) + sorted(other)


def fit(plan: Plan, own: Plan, config: Config) -> Plan:
    """Return *plan* as far as *config* knows what it names, and *own* for the rest.

    Replicas have different configurations during a rollout; each serves what all decided where it
    can, and what it decided itself for a service, a site or an instance that the others lack.
    """
    if covers(plan, config):
        return plan
    places = {instance.name: instance.site for instance in config.instances}
    assignments = {
        key: shared
        if (shared := plan.assignments.get(key)) is not None
        and all(places.get(each.instance) == each.site for each in shared.allocations)
        else decided
        for key, decided in own.assignments.items()
    }
    digests = ((key, assignment_digest(each)) for key, each in assignments.items())
    return replace(own, assignments=assignments, version=plan_version(digests))


def covers(plan: Plan, config: Config) -> bool:
    """Return whether *plan* can be served under *config* until a first cycle has decided.

    It must know each pair of service and client site and send no one to an instance that the
    configuration does not have at that site.
    """
    places = {instance.name: instance.site for instance in config.instances}
    pairs = {(service.name, site.name) for service in config.services for site in config.sites}
    return plan.assignments.keys() == pairs and all(
        places.get(allocation.instance) == allocation.site
        for assignment in plan.assignments.values()
        for allocation in assignment.allocations
    )
