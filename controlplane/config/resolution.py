"""Instances that are addressed by DNS names, once their names are resolved.

Endpoints reach Envoy over EDS, which takes IP addresses only; so what is decided on has these.
Who resolves, and how often, is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.config.addresses import is_ip
from controlplane.config.places import Places, place_of
from controlplane.config.schema import Config
from controlplane.config.schema.sites import SiteKind


def names_of(config: Config) -> frozenset[str]:
    """Return the DNS names of instances' addresses."""
    return frozenset(each.host for each in config.instances if not is_ip(each.host))


def with_addresses(config: Config, addresses: Mapping[str, str]) -> Config:
    """Return *config* with the IP address in place of each name.

    An instance whose name has no address takes no part, nor does one whose address is another's.

    Args:
        config: the file's, with what was discovered.
        addresses: DNS name -> IP address, IPv6 without brackets.
    """
    if not names_of(config):
        return config
    devices = {site.name for site in config.sites if site.kind is SiteKind.DEVICE}
    places = Places(config.services)
    for each in config.instances:
        if is_ip(each.host):
            places.add(place_of(each, devices), each)
    instances = []
    for instance in config.instances:
        resolved = instance
        if not is_ip(instance.host):
            ip = addresses.get(instance.host)
            if ip is None:
                continue
            shown = f"[{ip}]" if ":" in ip else ip
            resolved = instance.model_copy(update={"address": f"{shown}:{instance.port}"})
            place = place_of(resolved, devices)
            if places.rival(place, resolved) is not None:
                continue
            places.add(place, resolved)
        instances.append(resolved)
    return config.model_copy(update={"instances": tuple(instances)})


def shared_addresses(config: Config, addresses: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of instances that `with_addresses` leaves out for another's address."""
    kept = {each.name for each in with_addresses(config, addresses).instances}
    return tuple(
        each.name
        for each in config.instances
        if each.name not in kept and addresses.get(each.host) is not None
    )
