"""Real NATS servers with JetStream: one, or a cluster whose nodes can be killed and started."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import nats
from nats.errors import Error as NatsError

from testbed.processes.children import Child, Children
from testbed.processes.ports import free_ports


class NatsCluster:
    """Running servers.

    Attributes:
        url: what ``server.bus`` must say.
        ports: where clients connect, node by node.
    """

    def __init__(self, children: Children, directory: Path, size: int) -> None:
        ports = free_ports(2 * size)
        self.ports, self._routes = ports[:size], ports[size:]
        self.url = ",".join(f"nats://127.0.0.1:{port}" for port in self.ports)
        self._children = children
        self._directory = directory
        self._nodes: dict[int, Child] = {}

    async def start(self, number: int, *options: str) -> None:
        """Start a node, with what it stored before; *options* are of ``nats-server``."""
        command = [
            str(Path(sys.executable).parent / "nats-server"),
            *("--addr", "127.0.0.1", "--port", str(self.ports[number])),
            *("--jetstream", "--store_dir", str(self._directory / f"node-{number}")),
            *("--name", f"node-{number}"),
            *options,
        ]
        if len(self.ports) > 1:
            routes = ",".join(f"nats://127.0.0.1:{port}" for port in self._routes)
            command += [
                *("--cluster_name", "cats", "--routes", routes),
                *("--cluster", f"nats://127.0.0.1:{self._routes[number]}"),
            ]
        self._nodes[number] = await self._children.start(f"nats-{number}", command)

    async def kill(self, number: int) -> None:
        """End a node as a power cut would."""
        await self._nodes[number].kill()

    async def wait_ready(self, nodes: Sequence[int] | None = None) -> None:
        """Wait until JetStream answers through every node."""
        for number in range(len(self.ports)) if nodes is None else nodes:
            async with asyncio.timeout(60):
                while not await self._answers(self.ports[number]):  # noqa: ASYNC110 -- it is elsewhere
                    await asyncio.sleep(0.1)

    async def _answers(self, port: int) -> bool:
        try:
            client = await nats.connect(
                f"nats://127.0.0.1:{port}", allow_reconnect=False, error_cb=_ignore
            )
        except (NatsError, OSError):
            return False
        try:
            await client.jetstream(timeout=2.0).account_info()
        except (NatsError, TimeoutError):
            return False
        finally:
            await client.close()
        return True


async def _ignore(_error: Exception) -> None:
    """Leave it to the next look."""


@asynccontextmanager
async def running_nats(directory: Path, *, size: int = 1) -> AsyncIterator[NatsCluster]:
    """Run *size* nodes that are one cluster."""
    async with Children(directory / "logs") as children:
        cluster = NatsCluster(children, directory, size)
        await asyncio.gather(*(cluster.start(number) for number in range(size)))
        await cluster.wait_ready()
        yield cluster
