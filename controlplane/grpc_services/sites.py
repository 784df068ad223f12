"""Which site an Envoy is at: ``node.metadata.site``, else a locality that only one site has."""

from __future__ import annotations

from collections import Counter

from controlplane.config import Config, Site
from controlplane.grpc_services.requests import Node


class SiteResolver:
    """Finds the site of a node under the present configuration."""

    def __init__(self, config: Config) -> None:
        self.reconfigure(config)

    def reconfigure(self, config: Config) -> None:
        """Use the sites of *config* for streams that open from now on."""
        places = Counter((site.region, zone) for site in config.sites for zone in _zones(site))
        self._sites = frozenset(site.name for site in config.sites)
        self._places = {
            (site.region, zone): site.name
            for site in config.sites
            for zone in _zones(site)
            if site.region and places[site.region, zone] == 1
        }

    def resolve(self, node: Node) -> str | None:
        """Return the site's name; None when the node names no site that is configured."""
        if node.site:
            return node.site if node.site in self._sites else None
        if node.sub_zone in self._sites:
            return node.sub_zone
        return self._places.get((node.region, node.zone))


def _zones(site: Site) -> set[str]:
    """Return the zones whose Envoys are at *site*; its own may be empty."""
    return {site.zone, *site.zones}
