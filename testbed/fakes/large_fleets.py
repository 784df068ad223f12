"""A fleet as large as one control plane is meant for, and reports that keep it moving."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from controlplane.model import InstanceReport, Report, Signal, Source, TrafficReport


def make_crowd(*, sites: int, instances: int, services: int, **sections: Any) -> str:
    """Return the text of a fleet.yaml; every model serves several services."""
    kinds = ("edge", "edge", "edge", "edge", "cloud")
    names = [f"{kinds[n % 5]}-{n:02}" for n in range(sites)]
    return json.dumps(
        {
            "version": 1,
            "sites": [
                {"name": name, "kind": kinds[n % 5], "region": f"region-{n % 7}"}
                for n, name in enumerate(names)
            ],
            "models": [{"name": f"model-{n}"} for n in range(5)],
            "services": [
                {
                    "name": f"service-{n:02}",
                    "delay": "sensitive" if n % 3 else "tolerant",
                    "match": [{"path": f"/v1/{n}"}],
                    "models": [{"name": f"model-{n % 5}"}],
                }
                for n in range(services)
            ],
            "instances": [
                {
                    "name": f"instance-{n:03}",
                    "site": names[n % sites],
                    "address": f"10.0.{n >> 8}.{n & 255}:8000",
                    "model": f"model-{n // sites % 5}",
                    "slots": 16,
                    "service_time": "200ms",
                }
                for n in range(instances)
            ],
            "steering": {"period": "1s", **sections.pop("steering", {})},
            **sections,
        }
    )


def make_reports(
    *, sites: int, instances: int, services: int, at: float, rng: random.Random
) -> Iterator[Report]:
    """Return what all instances and the Envoys of all sites say of one second."""
    kinds = ("edge", "edge", "edge", "edge", "cloud")
    for n in range(instances):
        yield InstanceReport(
            f"instance-{n:03}",
            Source.AGENT,
            at,
            {
                Signal.RUNNING: float(rng.randrange(16)),
                Signal.WAITING: float(rng.randrange(3)),
                Signal.SLOTS: 16.0,
            },
        )
    for n in range(sites):
        for service in range(services):
            issued = 4.0 + rng.random()
            yield TrafficReport(
                envoy=f"envoy-{n}",
                site=f"{kinds[n % 5]}-{n:02}",
                service=f"service-{service:02}",
                instance="",
                at=at,
                interval=1.0,
                issued=issued,
                succeeded=issued,
            )
