"""What it costs that one of five thousand discovered endpoints goes."""

from __future__ import annotations

import json
import time
from pathlib import Path

from controlplane.config import DiscoveredInstance, parse_config
from controlplane.controller.control_plane import ControlPlane
from controlplane.sources.kubernetes.mapping import Mapper
from controlplane.sources.kubernetes.objects import EndpointSlice, parse_endpoint_slice
from testbed.fakes.kubernetes_objects import make_slice

CLUSTERS, SLICES, ENDPOINTS = 3, 17, 100
ATTEMPTS = 5
"""Of which the best counts: caches that others use cost processor time as well."""
WITHIN = 0.2
"""Seconds of processor time to find and merge what changed; with `controller.discovery.JOINED` it
leaves most of a second to the cycle that follows at once."""


def piece(cluster: int, number: int, *, count: int = ENDPOINTS) -> EndpointSlice:
    """Return a slice of *count* endpoints."""
    endpoints = {f"p{number}-{i}": f"10.{cluster}.{number}.{i}" for i in range(1, count + 1)}
    return parse_endpoint_slice(make_slice(f"s{number}", endpoints))


def test_an_endpoint_that_goes_costs_little_among_five_thousand() -> None:
    """Only the slice that changed is read again, and what is merged is without it."""
    rules = [
        {
            "name": f"c{cluster}", "kind": "endpoint_slices", "site": f"s{cluster}", "model": "m",
            "instance_name": f"c{cluster}-{{name}}",
        }
        for cluster in range(CLUSTERS)
    ]  # fmt: skip
    document = {
        "version": 1,
        "sites": [{"name": f"s{cluster}", "kind": "edge"} for cluster in range(CLUSTERS)],
        "models": [{"name": "m"}],
        "services": [{"name": "chat", "match": [{"path": "/"}], "models": [{"name": "m"}]}],
        "discovery": {"rules": rules},
    }
    config = parse_config(json.dumps(document), file="fleet.yaml")
    assert config.discovery is not None
    mappers = [Mapper(config, rule) for rule in config.discovery.rules]
    pieces = [[piece(c, number) for number in range(SLICES)] for c in range(CLUSTERS)]

    def find() -> tuple[DiscoveredInstance, ...]:
        findings = [mapper.map(part) for mapper, part in zip(mappers, pieces, strict=True)]
        return tuple(each for item in findings for each in item.found)

    control = ControlPlane(config, file=Path("fleet.yaml"), settle=0.0)
    control.configuration.receive_discovered(find())
    known = {instance.name for instance in control.configuration.merged.config.instances}

    spent = []
    for attempt in range(1, ATTEMPTS + 1):
        began = time.process_time()
        pieces[1][3] = piece(1, 3, count=ENDPOINTS - attempt)
        control.configuration.receive_discovered(find())
        spent.append(time.process_time() - began)
    control.close()
    left = {instance.name for instance in control.configuration.merged.config.instances}
    gone = {f"c1-p3-{ENDPOINTS - attempt}" for attempt in range(ATTEMPTS)}

    assert known - gone == left
    assert CLUSTERS * SLICES * ENDPOINTS == len(known)
    assert min(spent) < WITHIN
