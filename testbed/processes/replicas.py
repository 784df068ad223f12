"""Three control planes on a real NATS cluster, and clients that move between them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2

from controlplane.xds.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from testbed.processes.control_planes import ControlPlaneError, ControlPlaneProcess
from testbed.processes.nats_servers import NatsCluster, running_nats
from testbed.processes.ports import free_ports

_ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


class Replicas:
    """Control planes by number; each keeps its ports over restarts.

    Attributes:
        files: what each reads when it is started, by number.
    """

    def __init__(self, fleet: Path, count: int, *options: str, log: str = "") -> None:
        self._log = log
        ports = free_ports(2 * count)
        self.ports = [(ports[2 * i], ports[2 * i + 1]) for i in range(count)]
        self.running: dict[int, ControlPlaneProcess] = {}
        self.files = [fleet] * count
        self._options = options
        self._ends = contextlib.AsyncExitStack()

    async def start(self, number: int) -> ControlPlaneProcess:
        """Start one and wait until it serves."""
        control = ControlPlaneProcess(
            self.files[number], *self._options, ports=self.ports[number], log=self._log
        )
        self.running[number] = await self._ends.enter_async_context(control)
        await control.wait_ready(within=90.0)
        return control

    async def metric(self, number: int, name: str) -> float:
        """Return the value of a metric without labels."""
        _, text = await self.running[number].get("/metrics")
        return next(
            float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} ")
        )

    async def leader(self, *, within: float = 60.0) -> int:
        """Wait until exactly one of those that run leads; return its number.

        Raises:
            ControlPlaneError: none or several did in that time; carries what each logged last.
        """
        leading: list[int] = []
        try:
            async with asyncio.timeout(within):
                while True:
                    leading = [
                        i for i in self.running if await self.metric(i, "cats_leader") == 1.0
                    ]
                    if len(leading) == 1:
                        return leading[0]
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            logs = "\n".join(
                f"replica {i}:\n{control.log()[-3000:]}" for i, control in self.running.items()
            )
            raise ControlPlaneError(
                f"no single leader within {within} s, last {leading}\n{logs}"
            ) from error

    async def versions(self) -> set[str]:
        """Return the versions of the plans that are served."""
        return {
            (await control.get_json("/api/v1/plan"))["version"] for control in self.running.values()
        }

    async def close(self) -> None:
        """End all."""
        await self._ends.aclose()


@contextlib.asynccontextmanager
async def running_replicas(
    directory: Path, fleet: str, *, count: int = 3, nodes: int = 3
) -> AsyncIterator[tuple[Replicas, NatsCluster]]:
    """Run *count* control planes of one *fleet*, whose ``BUS`` is replaced, on *nodes* of NATS."""
    async with running_nats(directory, size=nodes) as cluster:
        file = directory / "fleet.yaml"
        file.write_text(fleet.replace("BUS", cluster.url), encoding="utf-8")
        replicas = Replicas(file, count)
        try:
            await asyncio.gather(*(replicas.start(number) for number in range(count)))
            yield replicas, cluster
        finally:
            await replicas.close()


@dataclass
class Client:
    """An Envoy's delta stream, as far as versions go: it goes to the next replica when one ends."""

    ports: Sequence[int]
    first: int
    endpoints: Sequence[str]
    site: str = "north"
    held: dict[str, dict[str, str]] = field(default_factory=dict)
    """Type -> name -> version."""
    endpoints_held: dict[str, bytes] = field(default_factory=dict)
    """Name -> the endpoints as they came last."""
    changed: list[str] = field(default_factory=list)
    """Names that came with another version, or were taken away."""
    resent: list[str] = field(default_factory=list)
    """Names that came with the version that was held."""
    removed: list[str] = field(default_factory=list)
    """Names that were taken away."""
    connects: int = 0
    """Streams on which everything was settled."""

    async def run(self, channels: dict[int, grpc.aio.Channel]) -> None:
        """Stay connected until cancelled."""
        for number in itertools.count(self.first):
            with contextlib.suppress(grpc.aio.AioRpcError, EOFError):
                await self._stream(channels[self.ports[number % len(self.ports)]])
            await asyncio.sleep(0.05)

    async def _stream(self, channel: Any) -> None:
        call = channel.stream_stream(_ADS)()
        node = base_pb2.Node(id=f"client-{id(self)}")
        node.metadata["site"] = self.site
        wanted = {CLUSTER: ["*"], ENDPOINT: self.endpoints, LISTENER: ["*"], ROUTE: ["inference"]}
        for type_url, names in wanted.items():
            request = discovery_pb2.DeltaDiscoveryRequest(
                node=node,
                type_url=type_url,
                resource_names_subscribe=names,
                initial_resource_versions=self.held.get(type_url, {}),
            )
            await call.write(request.SerializeToString())
        self.connects += 1
        while isinstance(message := await call.read(), bytes):
            response = discovery_pb2.DeltaDiscoveryResponse.FromString(message)
            held = self.held.setdefault(response.type_url, {})
            for resource in response.resources:
                before = held.get(resource.name)
                if before is not None:
                    (self.resent if before == resource.version else self.changed).append(
                        resource.name
                    )
                held[resource.name] = resource.version
                if response.type_url == ENDPOINT:
                    self.endpoints_held[resource.name] = resource.resource.value
            for name in response.removed_resources:
                self.changed.append(name)
                self.removed.append(name)
                held.pop(name, None)
            answer = discovery_pb2.DeltaDiscoveryRequest(
                type_url=response.type_url, response_nonce=response.nonce
            )
            await call.write(answer.SerializeToString())


@contextlib.asynccontextmanager
async def connected(
    count: int, ports: Sequence[int], *, endpoints: Sequence[str]
) -> AsyncIterator[list[Client]]:
    """Run *count* clients spread over *ports*."""
    clients = [Client(ports, number, endpoints) for number in range(count)]
    async with contextlib.AsyncExitStack() as ends:
        # A server takes a hundred streams on one connection.
        pools = [
            {port: await ends.enter_async_context(_channel(port, pool)) for port in ports}
            for pool in range(-(-count // 100))
        ]
        tasks = [
            asyncio.create_task(client.run(pools[number // 100]))
            for number, client in enumerate(clients)
        ]
        try:
            yield clients
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _channel(port: int, pool: int) -> Any:
    options = (
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
        ("grpc.use_local_subchannel_pool", 1),
        ("cats.pool", pool),
    )
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options)
