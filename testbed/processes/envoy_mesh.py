"""A control plane's wire side with a real Envoy before plain origins: plan in, split out.

Everything between a plan and a request is real: builders, ADS over gRPC, Envoy, HTTP.
Only telemetry and steering are left out, so that a test says what the plan is.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from controlplane.config import Config
from controlplane.grpc_transport.calls import OpenCall
from controlplane.resources.bootstrap import build_bootstrap
from controlplane.resources.build import SnapshotBuilder
from controlplane.resources.generations import GENERATIONS
from controlplane.resources.versions import OlderEnvoyViews
from controlplane.resources.views import Views
from controlplane.xds.snapshot import Snapshot
from testbed.fakes.fleets import make_config, make_plan
from testbed.fakes.upstreams import Origin
from testbed.fakes.xds import XdsServer, serve_xds
from testbed.processes.envoys import EnvoyProcess, running_envoy
from testbed.processes.ports import free_port

Split = Mapping[str, int | tuple[int, int]]
"""Instance -> weight, or (weight, priority)."""


@dataclass(slots=True)
class Answer:
    """What a client got."""

    status: int
    headers: Mapping[str, str]
    text: str


@dataclass(slots=True)
class Mesh:
    """One Envoy at one site, its control plane and the origins behind it."""

    config: Config
    site: str
    builder: SnapshotBuilder
    server: XdsServer
    envoy: EnvoyProcess
    origins: Mapping[str, Origin]
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        """Return where Envoy takes requests."""
        return f"http://127.0.0.1:{self.config.envoy.port}"

    def publish(self, split: Mapping[str, Split]) -> Views:
        """Push service -> split to the Envoys of the site; does not wait."""
        views = self.builder.build(
            make_plan(self.config, {(name, self.site): each for name, each in split.items()})
        )
        self.server.views.publish(with_older(self.config, views))
        return views

    async def push(self, split: Mapping[str, Split]) -> Views:
        """Push service -> split and wait until Envoy has it."""
        views = self.publish(split)
        want = {
            service: {
                self.origins[name].address: given if isinstance(given, int) else given[0]
                for name, given in each.items()
            }
            for service, each in split.items()
        }
        await self.envoy.wait_for(
            lambda clusters: all(
                weights == {each.address: each.weight for each in clusters.get(service, ())}
                and all(each.healthy for each in clusters.get(service, ()))
                for service, weights in want.items()
            ),
            f"apply {want}",
        )
        return views

    async def request(self, path: str = "/v1/chat", **options: Any) -> Answer:
        """Post to Envoy; *options* are those of aiohttp."""
        async with self.session.post(self.url + path, **options) as response:
            return Answer(response.status, response.headers, await response.text())

    async def answers(self, count: int, path: str = "/v1/chat", **options: Any) -> Counter[str]:
        """Post *count* times, some at once; count the answers by instance.

        Raises:
            AssertionError: one was not 200.
        """
        counts: Counter[str] = Counter()
        slots = asyncio.Semaphore(16)

        async def one() -> None:
            async with slots:
                answer = await self.request(path, **options)
            assert answer.status == 200, answer
            counts[answer.headers["x-cats-instance"]] += 1

        await asyncio.gather(*(one() for _ in range(count)))
        return counts


def with_older(config: Config, views: Mapping[str, Snapshot]) -> Mapping[str, Snapshot]:
    """Return *views* with those of every older generation of Envoys."""
    clients = [(site, each.role) for site in views for each in GENERATIONS]
    return {**views, **OlderEnvoyViews(config).build(views, clients)}


@asynccontextmanager
async def running_mesh(
    instances: Mapping[str, str],
    *,
    site: str = "north",
    delta: bool = True,
    split: Mapping[str, Split],
    services: Sequence[Mapping[str, Any]] | None = None,
    envoy: Mapping[str, Any] | None = None,
    fields: Mapping[str, Mapping[str, Any]] | None = None,
    models: Sequence[Mapping[str, Any]] = ({"name": "m"},),
    beside: Mapping[str, OpenCall] | None = None,
    tls: Mapping[str, ssl.SSLContext] | None = None,
    plain: Collection[str] = (),
    patient: bool = True,
    version: str = "",
) -> AsyncIterator[Mesh]:
    """Run a mesh and push its first split.

    Long for its parameters: each is one way in which a test wants its mesh to be.

    Args:
        instances: name -> site of its origin.
        site: where the Envoy is.
        delta: the variant of the protocol it speaks.
        split: service -> instance -> weight; waited for.
        services: as in ``fleet.yaml``; by default ``chat`` at ``/v1/chat``.
        envoy: the section of ``fleet.yaml``, beside its address and port.
        fields: instance -> further keys of it, such as ``models``; by default all run ``m``.
        models: as in ``fleet.yaml``.
        beside: further gRPC methods of the control plane.
        tls: instance -> how it speaks TLS; the others do not.
        plain: instances whose lines say ``tls: false``.
        version: an older release of Envoy; by default the pinned one.
        patient: wait until every instance of the split is healthy.
    """
    secured = tls or {}
    async with AsyncExitStack() as stack:
        origins = {
            name: await stack.enter_async_context(Origin(name, tls=secured.get(name)))
            for name in instances
        }
        config = make_config(
            instances={name: (where, origins[name].address) for name, where in instances.items()},
            services=services,
            fields=fields,
            models=models,
            envoy={"address": "127.0.0.1", "port": free_port(), **(envoy or {})},
        )
        config = config.model_copy(
            update={
                "instances": tuple(
                    each.model_copy(update={"tls": each.name not in plain})
                    for each in config.instances
                )
            }
        )
        server = await stack.enter_async_context(
            serve_xds(sites=("north", "cloud", "phones"), beside=beside)
        )
        host, port = server.address.rsplit(":", 1)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        bootstrap = build_bootstrap(
            config,
            site=site,
            envoy_id="envoy-1",
            xds=(host, int(port)),
            admin_port=0,
            delta=delta,
        )
        builder = SnapshotBuilder(config)
        first = make_plan(config, {(name, site): each for name, each in split.items()})
        server.views.publish(with_older(config, builder.build(first)))
        running = await stack.enter_async_context(running_envoy(bootstrap, version=version))
        mesh = Mesh(config, site, builder, server, running, origins, session)
        if patient:
            await mesh.push(split)
        yield mesh
