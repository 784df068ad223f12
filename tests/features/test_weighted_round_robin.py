"""Envoy's own weighted round robin, fed by the agent's normalised reports out of band.

The inner loop of a site: between two plans, Envoy itself moves requests to where there is room.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from contextlib import AsyncExitStack

import aiohttp
import pytest
from aiohttp import web

from controlplane.agent.orca_server import OrcaServer
from controlplane.agent.settings import OrcaExport
from controlplane.model import InstanceReport, Signal, Source
from testbed.background import running_task
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.ports import free_ports

pytestmark = pytest.mark.envoy

HOSTS = {"idle": "127.0.0.2", "half": "127.0.0.3", "crowded": "127.0.0.4"}
"""Envoy asks one port of every endpoint, so each has an address of its own."""

BOOTSTRAP = """\
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {listen}}}}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: h
          http_filters:
          - name: router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: site}}}}]}}
  clusters:
  - name: site
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: site
      endpoints:
      - lb_endpoints: {endpoints}
    load_balancing_policy:
      policies:
      - typed_extension_config:
          name: wrr
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin
            enable_oob_load_report: true
            oob_reporting_period: 1s
            oob_reporting_config: {{port_value: {orca}}}
            blackout_period: 0.5s
            weight_update_period: 0.5s
            weight_expiration_period: 20s
"""  # noqa: E501 -- names of Envoy's types


def said(
    at: float, *, running: float, waiting: float, done: float, service: float
) -> InstanceReport:
    """Return what an instance of eight slots says, *service* seconds a request when idle."""
    signals = {
        Signal.RUNNING: running, Signal.WAITING: waiting, Signal.SLOTS: 8.0,
        Signal.COMPLETED: done, Signal.LATENCY_SUM: service * done,
    }  # fmt: skip
    return InstanceReport("x", Source.SCRAPE, at, signals)


@pytest.mark.parametrize("slowness", [1.0, 40.0], ids=["half_a_second", "twenty_seconds"])
async def test_an_idle_endpoint_attracts_traffic_and_a_crowded_one_loses_it(
    slowness: float,
) -> None:
    """Idle and half full have room for 16 a second, crowded for 2: shares in these ratios.

    However slow the model is: Envoy cuts weights to whole numbers.
    """
    listen, serve, orca = free_ports(3)
    async with AsyncExitStack() as ends:
        loads = {
            "idle": [(0.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 1.0)],
            "half": [(4.0, 0.0, 0.0), (4.0, 0.0, 8.0 * 60), (4.0, 0.0, 16.0 * 60)],
            "crowded": [(8.0, 24.0, 0.0), (8.0, 24.0, 8.0 * 60), (8.0, 24.0, 16.0 * 60)],
        }
        for name, host in HOSTS.items():
            server = OrcaServer(OrcaExport(instance="x", address=f"{host}:{orca}"))
            await server.start()
            ends.push_async_callback(server.stop)
            now = time.monotonic()
            for minutes, (running, waiting, done) in zip((2, 1, 0), loads[name], strict=True):
                server.load.take(
                    said(
                        now - 60 * minutes,
                        running=running,
                        waiting=waiting,
                        done=done / slowness,
                        service=0.5 * slowness,
                    )
                )
            await ends.enter_async_context(running_task(_keep_fresh(server)))
            await _serve(ends, host, serve, name)
        endpoints = json.dumps(
            [
                {
                    "endpoint": {
                        "address": {"socket_address": {"address": host, "port_value": serve}}
                    }
                }
                for host in HOSTS.values()
            ]
        )
        text = BOOTSTRAP.format(listen=listen, orca=orca, endpoints=endpoints)
        envoy = await EnvoyProcess.start(text, log_level="error")
        ends.push_async_callback(envoy.stop)
        session = await ends.enter_async_context(aiohttp.ClientSession())
        async with asyncio.timeout(60):
            while True:
                stats = await envoy.stats("cluster.site.lb_orca_oob.reports_received")
                if sum(stats.values()) >= 12:
                    break
                await asyncio.sleep(0.1)
        shares = await _ask(session, listen, 680)

    assert pytest.approx(320, abs=32) == shares["idle"]
    assert pytest.approx(320, abs=32) == shares["half"]
    assert 10 < shares["crowded"] < 60


async def _keep_fresh(server: OrcaServer) -> None:
    while True:
        await asyncio.sleep(1)
        server.load._at = time.monotonic()  # the same is still true


async def _serve(ends: AsyncExitStack, host: str, port: int, name: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=name)

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.01)
    await runner.setup()
    ends.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, host, port).start()


async def _ask(session: aiohttp.ClientSession, port: int, count: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for _ in range(count):
        async with session.get(f"http://127.0.0.1:{port}/") as answer:
            found[await answer.text()] += 1
    return found
