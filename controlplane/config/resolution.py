"""Instances that are addressed by DNS names, once their names are resolved.

Endpoints reach Envoy over EDS, which takes IP addresses only; so what is decided on has these.
Who resolves, and how often, is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.config.addresses import is_ip
from controlplane.config.places import Places, place_of
from controlplane.config.schema import Config
from controlplane.config.schema.instances import Instance
from controlplane.config.schema.sites import SiteKind

SHARED_ADDRESS_REMEDY = (
    "see the names in DNS; let each instance have an address or a port of its own,"
    " or list all models of a server as one instance"
)


def names_of(config: Config) -> frozenset[str]:
    """Return the DNS names of instances' addresses."""
    return frozenset(each.host for each in config.instances if not is_ip(each.host))


def with_addresses(config: Config, addresses: Mapping[str, str]) -> Config:
    """Return *config* with the IP address in place of each name.

    An instance whose name has no address takes no part, nor does one of `shared_addresses`.

    Args:
        config: the file's, with what was discovered.
        addresses: DNS name -> IP address, IPv6 without brackets.
    """
    if not names_of(config):
        return config
    instances, _ = _resolve(config, addresses)
    return config.model_copy(update={"instances": instances})


def shared_addresses(config: Config, addresses: Mapping[str, str]) -> dict[str, str]:
    """Return the instances left out because another holds the address that their name has.

    An IP address that is written holds before any name; of names, the first in the list does.

    Args:
        config: the file's, with what was discovered.
        addresses: DNS name -> IP address, IPv6 without brackets.

    Returns:
        Instance left out -> instance that holds its address.
    """
    return _resolve(config, addresses)[1] if names_of(config) else {}


def _resolve(
    config: Config, addresses: Mapping[str, str]
) -> tuple[tuple[Instance, ...], dict[str, str]]:
    devices = {site.name for site in config.sites if site.kind is SiteKind.DEVICE}
    places = Places(config.services)
    for each in config.instances:
        if is_ip(each.host):
            places.add(place_of(each, devices), each)
    instances, left_out = [], {}
    for instance in config.instances:
        resolved = instance
        if not is_ip(instance.host):
            ip = addresses.get(instance.host)
            if ip is None:
                continue
            shown = f"[{ip}]" if ":" in ip else ip
            resolved = instance.model_copy(update={"address": f"{shown}:{instance.port}"})
            place = place_of(resolved, devices)
            rival = places.rival(place, resolved)
            if rival is not None:
                left_out[instance.name] = rival.name
                continue
            places.add(place, resolved)
        instances.append(resolved)
    return tuple(instances), left_out
