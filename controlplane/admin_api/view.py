"""What the admin port shows of a control plane.

What a document needs is read on the event loop, where it changes, and the document is made in
another thread: that of a large fleet takes a tenth of a second, and streams must not wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from controlplane.admin_api.alerts import AlertBook, find_alerts
from controlplane.admin_api.client_documents import (
    encode_acknowledgement,
    encode_agents,
    encode_envoys,
)
from controlplane.admin_api.discovery import encode_rules
from controlplane.admin_api.documents import encode_config, encode_fleet, encode_overrides
from controlplane.admin_api.effect import encode_effect
from controlplane.admin_api.instance_page import encode_instance_page
from controlplane.admin_api.keyed import key_overview
from controlplane.admin_api.live import LiveOverview
from controlplane.admin_api.moments import Moments, Packed, pack
from controlplane.admin_api.overview import encode_overview
from controlplane.admin_api.plan_documents import encode_allocation, encode_explanation, encode_plan
from controlplane.admin_api.room import encode_room
from controlplane.admin_api.served import UnknownName
from controlplane.admin_api.values import Document
from controlplane.controller.control_plane import ControlPlane
from controlplane.controller.history import Query
from controlplane.controller.override_requests import left_alone, parse_request
from controlplane.xds.snapshot import view_key
from controlplane.xds.types import ENDPOINT

Make = Callable[[], Document | None]
"""Makes a document of what was read; may be called in another thread."""


class AdminView:
    """What the admin port shows of one control plane: JSON-ready documents of this instant.

    Attributes:
        events: what happens, for those who watch.
        moments: overviews of the last day.
        live: the newest overview that was made for pages; None before the first.
    """

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self.events = control.events
        self.moments = Moments()
        self.live: LiveOverview | None = None
        self._making = asyncio.Lock()
        self._alerts = AlertBook()

    def is_ready(self) -> bool:
        """Return whether a snapshot is being served."""
        return self._control.views.ready

    async def fleet_document(self) -> Document | None:
        """Return the fleet; None before the first cycle."""
        return await asyncio.to_thread(self.read_fleet())

    def read_fleet(self) -> Make:
        """Return what makes the fleet's document, of this instant."""
        control = self._control
        view, epoch, status = control.view, control.epoch, control.configuration.status
        if view is None:
            return lambda: None
        levels = control.cycle.levels.levels
        rules = encode_rules(control.configuration.discovery_status())
        mode = control.config.steering.mode.value
        failing = () if control.plan is None else control.plan.failing
        return lambda: {
            **encode_fleet(view, epoch=epoch, levels=levels(), failing=failing),
            "mode": mode,
            "config": {"ok": not status.faults, "faults": [str(fault) for fault in status.faults]},
            "discovery": rules,
        }

    async def plan_document(self) -> Document | None:
        """Return the plan; None before the first one."""
        return await asyncio.to_thread(self.read_plan())

    def read_plan(self) -> Make:
        """Return what makes the plan's document, of this instant."""
        plan, epoch = self._control.plan, self._control.epoch
        return lambda: None if plan is None else encode_plan(plan, epoch=epoch)

    async def room_document(self, site: str | None, model: str | None) -> Document | None:
        """Return what fits where, and what more replicas would win; None before the first plan.

        Args:
            site: the one that is asked for; None for all.
            model: likewise.

        Raises:
            UnknownName: there is no such site or model.
        """
        config = self._control.config
        for kind, name, known in (("site", site, config.sites), ("model", model, config.models)):
            names = [each.name for each in known]
            if name is not None and name not in names:
                raise UnknownName(kind, name, names)
        plan, epoch = self._control.plan, self._control.epoch
        return await asyncio.to_thread(
            lambda: None if plan is None else encode_room(plan, epoch=epoch, site=site, model=model)
        )

    async def explain_document(self, service: str, site: str) -> Document | None:
        """Explain one pair; None before the first plan.

        Raises:
            UnknownName: there is no such service or site.
        """
        control = self._control
        config = control.config
        wanted = (("service", service, config.services), ("site", site, config.sites))
        for kind, name, known in wanted:
            names = [each.name for each in known]
            if name not in names:
                raise UnknownName(kind, name, names)
        plan = control.plan
        assignment = None if plan is None else plan.assignments.get((service, site))
        if plan is None or assignment is None:
            return None
        if any(item.why is None for item in assignment.allocations):
            terms = await control.decider.explain(service, site) or assignment
            assignment = replace(terms, note=assignment.note)  # The served plan's: why it stays.
        explained, epoch, view = assignment, control.epoch, control.view
        envoys = [
            encode_acknowledgement(
                envoy, control.views.snapshot(view_key(site, envoy.role, envoy.variant))
            )
            for envoy in sorted(control.registry.envoys, key=lambda envoy: envoy.id)
            if envoy.connected and envoy.site == site
        ]

        def make() -> Document:
            document = encode_explanation(plan, explained, epoch=epoch, envoys=envoys, view=view)
            proposed = plan.proposed.get((service, site))
            if proposed is not None:
                document["proposed"] = [encode_allocation(item) for item in proposed.allocations]
            return document

        return await asyncio.to_thread(make)

    async def overview_document(self) -> Document | None:
        """Return what the dashboard shows at a glance; None before the first plan."""
        return await asyncio.to_thread(self.read_overview())

    def read_overview(self) -> Make:
        """Return what makes the overview, of this instant."""
        control = self._control
        view, plan, epoch = control.view, control.plan, control.epoch
        if view is None or plan is None:
            return lambda: None
        status, envoys = control.configuration.status, [*control.registry.envoys]
        versions = {
            name: snapshot.of_type(ENDPOINT).version
            for name, snapshot in control.views.views.items()
        }
        overrides = self._overrides()
        agents = encode_agents(control.agents.agents, now=view.at, epoch=epoch)["agents"]
        bus_ok = control.bus.connected

        def make() -> Document:
            document = encode_overview(
                view,
                plan,
                epoch=epoch,
                status=status,
                envoys=envoys,
                versions=versions,
                overrides=overrides,
            )
            alerts = find_alerts(document, agents=agents, bus_ok=bus_ok)
            # Nearly always the same thread after another; a date may at worst be set twice.
            document["alerts"] = self._alerts.date(alerts, at=document["at"])
            return document

        return make

    async def live_overview(self) -> LiveOverview | None:
        """Return the overview of the last cycle as pages follow it; None before the first plan."""
        async with self._making:
            make, before = self.read_overview(), self.live
            kept = self.moments.due(self._control.unix_time())

            def build() -> tuple[LiveOverview, Packed | None] | None:
                overview = make()
                if overview is None:
                    return None
                keyed = key_overview(overview)
                return LiveOverview(keyed, before), pack(keyed) if kept else None

            made = await asyncio.to_thread(build)
            if made is None:
                return None
            self.live, packed = made
            if packed is not None:
                self.moments.add(packed)
            return self.live

    async def moment_document(self, at: float) -> Document | None:
        """Return the overview nearest to the Unix time *at*, as pages follow it."""
        return await asyncio.to_thread(self.moments.nearest(at))

    async def instance_document(self, name: str) -> Document | None:
        """Return everything about one instance; None before the first plan.

        Raises:
            UnknownName: there is no such instance.
        """
        control = self._control
        view, plan, epoch = control.view, control.plan, control.epoch
        if view is None or plan is None:
            return None
        if name not in view.instances:
            raise UnknownName("instance", name, view.instances)
        levels = control.cycle.levels.levels
        return await asyncio.to_thread(
            lambda: encode_instance_page(view, plan, name, levels=levels().get(name), epoch=epoch)
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
        answer = {"effect": effect, "left_alone": left_alone(request, configuration.merged.config)}
        if request.dry_run:
            return {"added": None, **answer}
        made = await control.overrides.add(request)
        return {"added": made.id, "lasting": configuration.overrides.lasting, **answer}

    async def remove_override(self, name: str, by: str) -> Document:
        """End an override made while running.

        Raises:
            OverrideError: there is no such one.
        """
        return {"removed": await self._control.overrides.remove(name, by=by)}

    async def history_document(self, query: Query, at: float | None) -> Document | None:
        """Return the figures over time that *query* asks for, or the sample nearest to *at*."""
        history = self._control.history
        make = history.query(query) if at is None else history.nearest(at)
        return await asyncio.to_thread(make)

    async def envoys_document(self, name: str | None = None) -> Document:
        """Return the connected Envoys, or the one with an id."""
        return await asyncio.to_thread(self.read_envoys(name))

    def read_envoys(self, name: str | None = None) -> Callable[[], Document]:
        """Return what makes the document of all Envoys, or of one, of this instant."""
        control = self._control
        now, epoch = control.clock(), control.epoch
        known = [each for each in control.registry.envoys if name is None or each.id == name]
        return lambda: encode_envoys(known, now=now, epoch=epoch)

    async def agents_document(self) -> Document:
        """Return the connected agents."""
        control = self._control
        return encode_agents(control.agents.agents, now=control.clock(), epoch=control.epoch)

    async def config_document(self) -> Document:
        """Return the configuration's status."""
        return self.read_config()

    def read_config(self) -> Document:
        """Return the configuration's status, which is made at once."""
        control = self._control
        return encode_config(control.config, control.configuration.status, epoch=control.epoch)

    async def metrics_text(self) -> bytes:
        """Return the Prometheus text."""
        return await asyncio.to_thread(self._control.metrics.read())

    def _overrides(self) -> list[Document]:
        configuration = self._control.configuration
        return encode_overrides(configuration.merged.config, configuration.overrides.active)
