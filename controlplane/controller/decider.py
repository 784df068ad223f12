"""From a view to a plan: one call, in a thread of its own.

Deciding takes from a millisecond to some seconds; the event loop must answer Envoys meanwhile.
Steering keeps state, so one thread at a time calls it, in the order of cycles.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from controlplane.config import Config
from controlplane.fleet.view import FleetView
from controlplane.steering import Steering
from controlplane.steering.digest import assignment_digest, plan_version
from controlplane.steering.plan import Assignment, Plan


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided on a view, or taken over."""

    plan: Plan
    solve_seconds: float


class Decider:
    """Steering under one configuration after another."""

    def __init__(self, config: Config) -> None:
        self._steering = Steering(config)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decide")

    async def decide(self, view: FleetView, *, follow: Plan | None = None) -> Decision:
        """Decide on *view*.

        With *follow*, that plan is taken instead of the one decided, which then only served to
        learn: a follower that becomes leader goes on where the plan stands.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._decide, view, follow
        )

    async def reconfigure(self, config: Config) -> None:
        """Continue under another configuration, with what was learned."""
        await asyncio.get_running_loop().run_in_executor(
            self._thread, self._steering.reconfigure, config
        )

    async def restore(self, plan: Plan) -> None:
        """Adopt a previous plan as the last one."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._steering.restore, plan)

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

    def _decide(self, view: FleetView, follow: Plan | None) -> Decision:
        began = time.perf_counter()
        plan = self._steering.decide(view)
        if follow is not None:
            plan = fit(follow, plan, view.config)
            self._steering.follow(plan, now=view.at)
        return Decision(plan, time.perf_counter() - began)

    def _try_out(self, view: FleetView, config: Config) -> tuple[Plan, Plan]:
        as_is = copy.deepcopy(self._steering).decide(view)
        changed = copy.deepcopy(self._steering)
        changed.reconfigure(config)
        return as_is, changed.decide(replace(view, config=config))


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
