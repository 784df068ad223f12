"""Which instances may serve a service: the one place that says so.

What holds by the settings of service, instance and site, and apart from that what overrides drain
for a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from controlplane.config.schema.instances import Instance
from controlplane.config.schema.services import Service
from controlplane.config.schema.sites import Site, SiteKind
from controlplane.config.schema.steering import Override


def exclusion(service: Service, instance: Instance, site: Site) -> str:
    """Return why *instance*, which is at *site*, may not serve *service*; empty if it may."""
    listed = [model for model in service.models if model.name in instance.model_names]
    if not listed:
        return f"runs {', '.join(instance.model_names)}, which the service does not list"
    if all(math.isinf(model.penalty) for model in listed):
        names = ", ".join(model.name for model in listed)
        return f"model {names} has penalty never"
    if service.residency is not None and site.region not in service.residency.allow:
        # Fails closed: a site that does not say where it is may not hold resident requests.
        where = f"region {site.region}" if site.region else "a site without a region"
        return f"residency forbids {where}"
    return ""


def may_serve(service: Service, instance: Instance, sites: Mapping[str, Site]) -> bool:
    """Return whether *instance* may serve requests of *service* from some client site.

    A site that *sites* lacks has no region, so that residency excludes it.
    """
    site = sites.get(instance.site) or Site(name=instance.site, kind=SiteKind.EDGE)
    return not exclusion(service, instance, site)


def is_reachable(instance: Instance, sites: Mapping[str, Site], *, client_site: str) -> bool:
    """Return whether clients at *client_site* reach *instance*: a device's serves the device."""
    return sites[instance.site].kind is not SiteKind.DEVICE or instance.site == client_site


def covers(override: Override, instance: Instance) -> bool:
    """Return whether *override* is for *instance*, alone or with all of its site."""
    return override.instance in (None, instance.name) and override.site in (None, instance.site)


def drain_of(instance: Instance, overrides: Iterable[Override]) -> Override | None:
    """Return which of *overrides* drains *instance*; None if none does."""
    return next((each for each in overrides if each.drain and covers(each, instance)), None)
