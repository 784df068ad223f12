"""The views of Envoys older than the current generation.

The version is what the Envoy's node reports.
Only the listener differs, by the access log that turns requests into statistics: Envoy 1.39 names
its scope by ``stats_scope``, 1.37 and 1.38 by ``stat_prefix``, 1.37 has no gauges, and older ones
have no such log at all.
Each generation has views of its own, derived from those of the current one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from controlplane.config import Config
from controlplane.resources.generations import BY_ROLE
from controlplane.resources.listeners import build_listener
from controlplane.resources.packing import to_resource
from controlplane.xds.snapshot import Snapshot, TypeSnapshot, split_view_key, view_key
from controlplane.xds.types import LISTENER


class OlderEnvoyViews:
    """Derives the views of Envoys older than the current generation, under one configuration.

    Only sites that have such Envoys are derived, so that a fleet without them pays nothing.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._sites = {site.name: site for site in config.sites}
        self._listeners: dict[tuple[str, str], TypeSnapshot] = {}
        self._derived: dict[tuple[str, str], tuple[Snapshot, Snapshot]] = {}

    def build(
        self, views: Mapping[str, Snapshot], clients: Collection[tuple[str, str]]
    ) -> dict[str, Snapshot]:
        """Derive the views of older Envoys.

        Args:
            views: those of the current generation, by site.
            clients: (site, role) where clients are; other roles than the generations' are ignored,
                and so is a site that has no view of its own.

        Returns:
            View key -> snapshot.
        """
        derived = {}
        for site, role in clients:
            if role not in BY_ROLE or site not in views:
                continue
            before = self._derived.get((site, role))
            if before is None or before[0] is not views[site]:
                types = {**views[site].types, LISTENER: self._listener(site, role)}
                before = views[site], Snapshot(MappingProxyType(types))
                self._derived[site, role] = before
            derived[view_key(site, role)] = before[1]
        return derived

    def _listener(self, site: str, role: str) -> TypeSnapshot:
        known = self._listeners.get((site, role))
        if known is None:
            message = build_listener(
                self._config, self._sites.get(split_view_key(site)[0]), log=BY_ROLE[role].log
            )
            known = TypeSnapshot.of([to_resource(message.name, message)])
            self._listeners[site, role] = known
        return known
