"""Configurations and plans as values, for tests that need one and care for a part of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controlplane.config import Config, PolicyName
from controlplane.steering.plan import Allocation, Assignment, Plan


def make_config(
    *,
    instances: Mapping[str, tuple[str, str]] | None = None,
    services: Sequence[Mapping[str, Any]] | None = None,
    fields: Mapping[str, Mapping[str, Any]] | None = None,
    **sections: Any,
) -> Config:
    """Build a fleet of one cloud, one edge and one class of devices.

    Args:
        instances: name -> (site, address); every one runs the model ``m``.
        services: as in ``fleet.yaml``; by default one, ``chat``, identified by its path.
        fields: instance -> further keys of it.
        sections: further top-level sections of ``fleet.yaml``.
    """
    default_instances = {
        "north-a": ("north", "10.1.0.1:8000"),
        "north-b": ("north", "10.1.0.2:8000"),
        "cloud-a": ("cloud", "10.2.0.1:8000"),
        "local": ("phones", "127.0.0.1:9000"),
    }
    return Config.model_validate(
        {
            "version": 1,
            "sites": [
                {"name": "north", "kind": "edge", "region": "eu-north", "zone": "eu-north-1a"},
                {"name": "cloud", "kind": "cloud", "region": "eu-west"},
                {"name": "phones", "kind": "device"},
            ],
            "models": [{"name": "m"}],
            "services": services
            or [{"name": "chat", "match": [{"path": "/v1/chat"}], "models": [{"name": "m"}]}],
            "instances": [
                {"name": name, "site": site, "address": address}
                | ({"model": "m"} if "models" not in (fields or {}).get(name, {}) else {})
                | dict((fields or {}).get(name, {}))
                for name, (site, address) in (instances or default_instances).items()
            ],
            **sections,
        }
    )


def make_plan(
    config: Config, weights: Mapping[tuple[str, str], Mapping[str, int | tuple[int, int]]]
) -> Plan:
    """Build a plan.

    Args:
        config: names the site of each instance.
        weights: (service, client site) -> instance -> weight, or (weight, priority).
    """
    sites = {instance.name: instance.site for instance in config.instances}
    assignments = {}
    for (service, client), split in weights.items():
        pairs = [
            (name, *(given if isinstance(given, tuple) else (given, 0)))
            for name, given in split.items()
        ]
        totals: dict[int, int] = {}
        for _, weight, priority in pairs:
            totals[priority] = totals.get(priority, 0) + weight
        allocations = tuple(
            Allocation(
                instance=name,
                site=sites.get(name, "nowhere"),
                share=weight / totals[priority] if totals[priority] else 0.0,
                weight=weight,
                priority=priority,
            )
            for name, weight, priority in sorted(pairs, key=lambda pair: (pair[2], pair[0]))
        )
        assignments[service, client] = Assignment(
            service=service,
            client_site=client,
            policy=PolicyName.STATIC,
            allocations=allocations,
        )
    return Plan(version=str(hash(str(weights))), at=0.0, assignments=assignments)
