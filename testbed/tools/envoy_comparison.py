"""One fleet, one schedule of requests, several ways to balance them: what did the clients feel?

Twelve emulated instances of unequal speed and size at four sites, and a real Envoy at each of
them that takes the requests of its site's clients.
The Envoys are steered by ``cats serve`` (a process of its own, every setting at its default and
no capacity configured), or they balance alone over a static cluster by one of Envoy's policies.
Arrivals, lengths, instances, distances and the slowdown are the same in every trial of a seed.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from pathlib import Path
from typing import Any

from testbed.demo.traffic import Lengths, Record, Stream, Traffic
from testbed.fakes.engine import Curve
from testbed.fakes.instances import EmulatedInstance, InstanceSettings
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoys import EnvoyProcess, running_envoy
from testbed.processes.ports import free_ports

SERVICE = "chat"
PATH = "/v1/completions"
BASE, CROWDING = 0.30, 0.03
"""Seconds of a mean request alone at speed 1, and what each request in the batch adds."""
FLEET: Mapping[str, Sequence[tuple[float, int]]] = {
    "north": ((1.6, 8), (0.6, 4), (1.0, 2)),
    "south": ((1.0, 8), (0.6, 2), (1.6, 4)),
    "east": ((0.6, 8), (1.0, 4), (1.6, 2)),
    "west": ((1.6, 4), (0.6, 2), (1.0, 8)),
}
"""Site -> speed and slots of its instances."""
CLIENTS = {"north": 0.4, "south": 0.3, "east": 0.2, "west": 0.1}
"""Site -> its clients' part of all requests."""
SLOWED = {"south-2": 0.6, "west-2": 0.6}
"""Instance -> share of its machine that a training job takes from the middle of the trial on."""
RTT = {
    frozenset(pair): rtt
    for pair, rtt in zip(
        combinations(FLEET, 2), (0.015, 0.030, 0.040, 0.020, 0.035, 0.025), strict=True
    )
}
LOCAL_RTT = 0.0005
LATE = 0.1
"""Seconds. Where more than one request in a hundred is sent this late, the machine was short of
processor time: the trial says nothing of the balancing and is to be repeated."""


class Balancing(StrEnum):
    """Who decides where a request goes."""

    STEERED = "cats serve"
    """It is reported each instance's slots, as operators know them from their engines' settings."""
    STEERED_BLIND = "cats serve, no slots configured"
    ROUND_ROBIN = "round_robin"
    LEAST_REQUEST = "least_request"
    BY_CAPACITY = "round_robin by true capacity"
    """What an operator could configure who had measured every instance beforehand."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A schedule."""

    length: float = 60.0
    """Seconds of arrivals."""
    slow_at: float = 30.0
    """Seconds from the first of them to the slowdown."""
    timeout: float = 30.0
    """Seconds that a client waits for the end of an answer."""
    utilisation: float = 0.65
    """Of what all instances could serve before the slowdown."""
    seed: int = 1

    @property
    def rate(self) -> float:
        """Return the requests a second of all sites, mean."""
        return self.utilisation * math.fsum(curve.capacity for curve in curves().values())


@dataclass(frozen=True, slots=True)
class Result:
    """What became of the requests of one trial."""

    balancing: Balancing
    records: Sequence[Record]
    began_at: float
    """On the clock of the records."""
    timeout: float

    @property
    def failed(self) -> int:
        """Count the requests that were not answered."""
        return sum(not record.answered for record in self.records)

    @property
    def late(self) -> float:
        """Return the 99th percentile of the seconds that requests were sent after they were due."""
        return percentile([record.late for record in self.records], 0.99)

    def latencies(self, start: float = 0.0, end: float = math.inf) -> Sequence[float]:
        """Return the seconds of the requests that came from *start* to *end* of the schedule.

        One that was not answered counts as the timeout, however soon it failed.
        """
        return [
            record.latency if record.answered else max(self.timeout, record.latency)
            for record in self.records
            if start <= record.started_at - self.began_at < end
        ]


def percentile(latencies: Sequence[float], share: float) -> float:
    """Return the smallest latency that *share* of all do not exceed."""
    return sorted(latencies)[math.ceil(share * len(latencies)) - 1]


def curves() -> Mapping[str, Curve]:
    """Return instance -> how fast it really is."""
    return {
        f"{site}-{number}": Curve(BASE / speed, CROWDING / speed, slots)
        for site, machines in FLEET.items()
        for number, (speed, slots) in enumerate(machines)
    }


async def run_trials(trial: Trial, balancings: Sequence[Balancing]) -> Mapping[Balancing, Result]:
    """Run *trial* once for each of *balancings*, all at the same time, each with its own fleet.

    At the same time, so that whatever else the machine does disturbs all of them alike.
    """
    async with AsyncExitStack() as stack:
        stages = [await stack.enter_async_context(_stage(each)) for each in balancings]
        results = await asyncio.gather(
            *(
                _send(trial, balancing, stage)
                for balancing, stage in zip(balancings, stages, strict=True)
            )
        )
    return dict(zip(balancings, results, strict=True))


@dataclass(frozen=True, slots=True)
class _Stage:
    """What is there before the first request."""

    instances: Mapping[str, EmulatedInstance]
    listeners: Mapping[str, int]


@asynccontextmanager
async def _stage(balancing: Balancing) -> AsyncIterator[_Stage]:
    async with AsyncExitStack() as stack:
        instances = {
            name: await stack.enter_async_context(EmulatedInstance(_settings(name, curve)))
            for name, curve in curves().items()
        }
        listeners = dict(zip(CLIENTS, free_ports(len(CLIENTS)), strict=True))
        await stack.enter_async_context(
            _steered(instances, listeners, blind=balancing is Balancing.STEERED_BLIND)
            if balancing in {Balancing.STEERED, Balancing.STEERED_BLIND}
            else _alone(instances, listeners, balancing)
        )
        yield _Stage(instances, listeners)


async def _send(trial: Trial, balancing: Balancing, stage: _Stage) -> Result:
    loop = asyncio.get_running_loop()
    streams = [
        Stream(
            service=SERVICE,
            site=site,
            url=f"http://127.0.0.1:{stage.listeners[site]}{PATH}",
            rate=trial.rate * part,
            headers={"x-emulated-from": site},
            lengths=Lengths(sigma=0.6),
            timeout=trial.timeout,
            in_flight=100_000,
        )
        for site, part in CLIENTS.items()
    ]
    began_at = loop.time()
    async with Traffic(streams, seed=trial.seed, length=trial.length) as traffic:
        for name, share in SLOWED.items():
            loop.call_at(began_at + trial.slow_at, stage.instances[name].train, share)
        await traffic.wait_sent()
    return Result(balancing, tuple(traffic.records), began_at, trial.timeout)


def _site(name: str) -> str:
    return name.rpartition("-")[0]


def _settings(name: str, curve: Curve) -> InstanceSettings:
    site = _site(name)
    rtt = {other: RTT.get(frozenset({site, other}), LOCAL_RTT) for other in CLIENTS}
    return InstanceSettings(curve=curve, rtt=rtt)


# Steered.


def _fleet(
    instances: Mapping[str, EmulatedInstance], listeners: Mapping[str, int], *, blind: bool
) -> Mapping[str, Any]:
    """Write fleet.yaml: where everything is, and nothing of how fast it is."""
    return {
        "version": 1,
        "sites": [
            {
                "name": site,
                "kind": "edge",
                "region": site,
                "listener": {"address": "127.0.0.1", "port": listeners[site]},
            }
            for site in FLEET
        ],
        "models": [{"name": "emulated"}],
        "services": [
            {"name": SERVICE, "match": [{"path": PATH}], "models": [{"name": "emulated"}]}
        ],
        "instances": [
            {
                "name": name,
                "site": _site(name),
                "address": instance.address,
                "model": "emulated",
                "engine": "vllm",
                **({"slots": instance.settings.curve.slots} if not blind else {}),
                "scrape": {"url": f"http://{instance.address}/metrics"},
            }
            for name, instance in instances.items()
        ],
        "network": {
            "paths": [
                {"from": one, "to": other, "rtt": f"{1000 * rtt:g}ms"}
                for (one, other), rtt in ((sorted(pair), rtt) for pair, rtt in RTT.items())
            ]
        },
    }


@asynccontextmanager
async def _steered(
    instances: Mapping[str, EmulatedInstance], listeners: Mapping[str, int], *, blind: bool
) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="cats-trial-"))
        file = Path(place) / "fleet.yaml"
        file.write_text(json.dumps(_fleet(instances, listeners, blind=blind)))
        control = await stack.enter_async_context(ControlPlaneProcess(file))
        await control.wait_ready()
        for site in listeners:
            bootstrap = await _bootstrap(file, site, control.xds_port)
            envoy = await stack.enter_async_context(running_envoy(bootstrap))
            # Before there is demand, the near instances may be all that the plan sends to.
            await _wait_healthy(envoy, 1)
        yield


async def _bootstrap(file: Path, site: str, port: int) -> str:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "controlplane", "bootstrap", "-c", str(file), "--site", site),
        *("--id", f"{site}-1", "--xds", f"127.0.0.1:{port}", "--admin-port", "0"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    text, _ = await child.communicate()
    if child.returncode != 0:
        raise AssertionError(f"cats bootstrap for {site} ended with status {child.returncode}")
    return text.decode()


# Alone.


def _cluster(instances: Mapping[str, EmulatedInstance], balancing: Balancing) -> dict[str, Any]:
    by_capacity = balancing is Balancing.BY_CAPACITY
    capacities = {name: each.settings.curve.capacity for name, each in instances.items()}
    options = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "name": SERVICE,
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST" if balancing is Balancing.LEAST_REQUEST else "ROUND_ROBIN",
        "circuit_breakers": {
            "thresholds": [
                dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), 10_000)
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": options,
                "common_http_protocol_options": {"idle_timeout": "4s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": SERVICE,
            "endpoints": [
                {
                    "lb_endpoints": [
                        {
                            "endpoint": {"address": _address(instance.port)},
                            "load_balancing_weight": round(100 * capacities[name])
                            if by_capacity
                            else 1,
                            "metadata": {"filter_metadata": {"cats": {"instance": name}}},
                        }
                        for name, instance in instances.items()
                    ]
                }
            ],
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _listener(port: int) -> dict[str, Any]:
    extensions = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{extensions}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "inference",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "route": {"cluster": SERVICE, "timeout": "0s"},
                        }
                    ],
                }
            ],
            "response_headers_to_add": [
                {
                    "header": {
                        "key": "x-cats-instance",
                        "value": "%UPSTREAM_METADATA(cats:instance)%",
                    }
                }
            ],
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{extensions}.http.router.v3.Router"},
            }
        ],
    }
    return {
        "name": "inference",
        "address": _address(port),
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ]
            }
        ],
    }


@asynccontextmanager
async def _alone(
    instances: Mapping[str, EmulatedInstance],
    listeners: Mapping[str, int],
    balancing: Balancing,
) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for site, port in listeners.items():
            bootstrap = {
                "node": {"id": f"{site}-1", "cluster": site},
                "admin": {"address": _address(0)},
                "static_resources": {
                    "listeners": [_listener(port)],
                    "clusters": [_cluster(instances, balancing)],
                },
            }
            envoy = await stack.enter_async_context(running_envoy(json.dumps(bootstrap)))
            await _wait_healthy(envoy, len(instances))
        yield


async def _wait_healthy(envoy: EnvoyProcess, count: int) -> None:
    await envoy.wait_for(
        lambda clusters: sum(each.healthy for each in clusters.get(SERVICE, ())) >= count,
        f"see {count} healthy instances",
    )
