"""What the admin port shows of a control plane."""

from __future__ import annotations

import asyncio

from controlplane.admin_api.discovery import encode_rules
from controlplane.admin_api.documents import (
    Document,
    encode_agents,
    encode_config,
    encode_envoys,
    encode_fleet,
    encode_overrides,
)
from controlplane.admin_api.effect import encode_effect
from controlplane.admin_api.overview import encode_overview
from controlplane.admin_api.plan_documents import encode_allocation, encode_explanation, encode_plan
from controlplane.admin_api.routes import UnknownName
from controlplane.controller.control_plane import ControlPlane
from controlplane.controller.cycle import CycleResult
from controlplane.controller.history import Query
from controlplane.controller.overrides import parse_request
from controlplane.grpc_services.envoys import EnvoyRecord
from controlplane.steering.plan import Assignment
from controlplane.xds.snapshot import Snapshot, view_key
from controlplane.xds.types import ENDPOINT

JOINED = 0.1
"""Seconds of changes of the Envoys' state that make one event."""


class AdminView:
    """Documents of one control plane; see `controlplane.admin_api.routes.ControlPlane`."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self.events = control.events
        control.cycle.completed.subscribe(self._publish_cycle)
        control.configuration.changed.subscribe(
            lambda _: self.events.publish_state("config", self.config_document)
        )

    def is_ready(self) -> bool:
        """Return whether a snapshot is being served."""
        return self._control.views.ready

    def fleet_document(self) -> Document | None:
        """Return the fleet; None before the first cycle."""
        control = self._control
        if control.view is None:
            return None
        status = control.configuration.status
        return {
            **encode_fleet(control.view, epoch=control.epoch, levels=control.cycle.levels.levels()),
            "mode": control.config.steering.mode.value,
            "config": {"ok": not status.faults, "faults": [str(fault) for fault in status.faults]},
            "discovery": encode_rules(control.configuration.discovery_status()),
        }

    def plan_document(self) -> Document | None:
        """Return the plan; None before the first one."""
        control = self._control
        return None if control.plan is None else encode_plan(control.plan, epoch=control.epoch)

    async def explain_document(self, service: str, site: str) -> Document | None:
        """Explain one pair; None before the first plan.

        Raises:
            UnknownName: there is no such service or site.
        """
        control = self._control
        config = control.config
        services = [item.name for item in config.services]
        if service not in services:
            raise UnknownName("service", service, services)
        sites = [item.name for item in config.sites]
        if site not in sites:
            raise UnknownName("site", site, sites)
        if control.plan is None:
            return None
        plan = control.plan
        assignment: Assignment | None = plan.assignments.get((service, site))
        if assignment is None:
            return None
        if any(item.why is None for item in assignment.allocations):
            assignment = await control.decider.explain(service, site) or assignment
        proposed = plan.proposed.get((service, site))
        document = encode_explanation(
            plan,
            assignment,
            epoch=control.epoch,
            envoys=[
                _acknowledgement(envoy, control.views.snapshot(view_key(site, envoy.role)))
                for envoy in sorted(control.registry.envoys, key=lambda envoy: envoy.id)
                if envoy.connected and envoy.site == site
            ],
        )
        if proposed is not None:
            document["proposed"] = [encode_allocation(item) for item in proposed.allocations]
        return document

    def overview_document(self) -> Document | None:
        """Return what the dashboard shows at a glance; None before the first plan."""
        control = self._control
        if control.view is None or control.plan is None:
            return None
        return encode_overview(
            control.view,
            control.plan,
            epoch=control.epoch,
            status=control.configuration.status,
            envoys=[*control.registry.envoys],
            versions={
                view: snapshot.of_type(ENDPOINT).version
                for view, snapshot in control.views.views.items()
            },
            overrides=self._overrides(),
        )

    def overrides_document(self) -> Document:
        """Return the overrides of the file and those made while running."""
        return {
            "lasting": self._control.configuration.overrides.lasting,
            "overrides": self._overrides(),
        }

    async def add_override(self, content: bytes) -> Document:
        """Let an override stand, or only say what it would do.

        Raises:
            OverrideError: it cannot be.
        """
        control = self._control
        configuration = control.configuration
        request = parse_request(content, configuration.merged.config)
        effect = None
        if control.view is not None:
            config = configuration.overrides.apply(configuration.merged.config, more=[request])
            effect = encode_effect(*await control.decider.try_out(control.view, config))
        if request.dry_run:
            return {"added": None, "effect": effect}
        made = await control.add_override(request)
        return {"added": made.id, "lasting": configuration.overrides.lasting, "effect": effect}

    async def remove_override(self, name: str, by: str) -> Document:
        """End an override made while running.

        Raises:
            OverrideError: there is no such one.
        """
        return {"removed": await self._control.remove_override(name, by=by)}

    async def history_document(self, query: Query, at: float | None) -> Document | None:
        """Return the figures over time that *query* asks for, or the sample nearest to *at*."""
        history = self._control.history
        make = history.query(query) if at is None else history.nearest(at)
        return await asyncio.to_thread(make)

    def envoys_document(self) -> Document:
        """Return the connected Envoys."""
        control = self._control
        return encode_envoys(control.registry.envoys, now=control.clock(), epoch=control.epoch)

    def agents_document(self) -> Document:
        """Return the connected agents."""
        control = self._control
        return encode_agents(control.agents.agents, now=control.clock(), epoch=control.epoch)

    def config_document(self) -> Document:
        """Return the configuration's status."""
        control = self._control
        return encode_config(control.config, control.configuration.status, epoch=control.epoch)

    def metrics_text(self) -> bytes:
        """Return the Prometheus text."""
        return self._control.metrics.expose()

    async def run_envoy_events(self) -> None:
        """Publish the Envoys' state after it changed, a burst of changes once."""
        touched = self._control.envoys_touched
        while True:
            await touched.wait()
            await asyncio.sleep(JOINED)
            touched.clear()
            self.events.publish_state("envoys", self.envoys_document)
            self.events.publish_state("overview", self.overview_document)

    def _overrides(self) -> list[Document]:
        configuration = self._control.configuration
        return encode_overrides(configuration.merged.config, configuration.overrides.active)

    def _publish_cycle(self, result: CycleResult) -> None:
        if result.plan_changed:
            self.events.publish_state("plan", self.plan_document)
        self.events.publish_state("fleet", self.fleet_document)
        self.events.publish_state("overview", self.overview_document)


def _acknowledgement(envoy: EnvoyRecord, snapshot: Snapshot | None) -> Document:
    record = envoy.types.get(ENDPOINT)
    version = "" if snapshot is None else snapshot.of_type(ENDPOINT).version
    return {
        "id": envoy.id,
        "mode": envoy.mode,
        "acknowledged": record is not None and record.acked == version,
        "refusal": (record.refusal or None) if record else None,
    }
