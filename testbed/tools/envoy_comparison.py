"""One fleet, one schedule of requests, several ways to balance them: what did the clients feel?

Emulated instances of unequal speed and size at several sites, and a real Envoy at each site that
takes the requests of its clients.
The Envoys are steered by ``cats serve`` (a process of its own, every setting at its default and
no capacity configured), or they balance alone over a static cluster by one of Envoy's policies.
Arrivals, lengths, instances, distances and the slowdown are the same in every trial of a seed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.demo.traffic import Lengths, Stream, Traffic
from testbed.fakes.engine import Curve
from testbed.fakes.instance_settings import InstanceSettings
from testbed.fakes.instances import EmulatedInstance
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoys import EnvoyProcess, running_envoy
from testbed.processes.ports import free_ports
from testbed.tools.lone_envoys import (
    PATH,
    SERVICE,
    Balancing,
    build_address,
    build_cluster,
    build_listener,
)
from testbed.tools.trials import Result, Setting, Trial

LOCAL_RTT = 0.0005
LATE = 0.1
"""Seconds. Where more than one request in a hundred is sent this late, the machine was short of
processor time: the trial says nothing of the balancing and is to be repeated."""


async def run_trials(trial: Trial, balancings: Sequence[Balancing]) -> Mapping[Balancing, Result]:
    """Run *trial* once for each of *balancings*, all at the same time, each with its own fleet.

    At the same time, so that whatever else the machine does disturbs all of them alike.
    """
    async with AsyncExitStack() as stack:
        stages = [
            await stack.enter_async_context(_stage(trial.setting, each)) for each in balancings
        ]
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
async def _stage(setting: Setting, balancing: Balancing) -> AsyncIterator[_Stage]:
    async with AsyncExitStack() as stack:
        instances = {
            name: await stack.enter_async_context(EmulatedInstance(_settings(setting, name, curve)))
            for name, curve in setting.curves().items()
        }
        listeners = dict(zip(setting.clients, free_ports(len(setting.clients)), strict=True))
        await stack.enter_async_context(
            _steered(setting, instances, listeners, blind=balancing is Balancing.STEERED_BLIND)
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
        for site, part in trial.setting.clients.items()
    ]
    began_at = loop.time()
    async with Traffic(streams, seed=trial.seed, length=trial.length) as traffic:
        for name, share in trial.setting.slowed.items():
            loop.call_at(began_at + trial.slow_at, stage.instances[name].train, share)
        await traffic.wait_sent()
    return Result(balancing, tuple(traffic.records), began_at, trial.timeout)


def _site(name: str) -> str:
    return name.rpartition("-")[0]


def _settings(setting: Setting, name: str, curve: Curve) -> InstanceSettings:
    site = _site(name)
    rtt = {other: setting.rtt.get(frozenset({site, other}), LOCAL_RTT) for other in setting.clients}
    return InstanceSettings(curve=curve, rtt=rtt)


# Steered.


def _fleet(
    setting: Setting,
    instances: Mapping[str, EmulatedInstance],
    listeners: Mapping[str, int],
    *,
    blind: bool,
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
            for site in setting.fleet
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
                for (one, other), rtt in ((sorted(pair), rtt) for pair, rtt in setting.rtt.items())
            ]
        },
    }


@asynccontextmanager
async def _steered(
    setting: Setting,
    instances: Mapping[str, EmulatedInstance],
    listeners: Mapping[str, int],
    *,
    blind: bool,
) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="cats-trial-"))
        file = Path(place) / "fleet.yaml"
        file.write_text(json.dumps(_fleet(setting, instances, listeners, blind=blind)))
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
                "admin": {"address": build_address(0)},
                "static_resources": {
                    "listeners": [build_listener(port)],
                    "clusters": [build_cluster(instances, balancing)],
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
