"""gRPC without an Envoy: a client that dials ``xds:///SERVICE``, and backends that say their name.

The client is gRPC's own, in a process of its own, since it reads its bootstrap once per process.
Run as ``python -m testbed.processes.grpc_clients TARGET``: each line on its standard input is a
number of calls to make, each line on its standard output what they came to.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from types import TracebackType
from typing import Any, Self

import grpc

from testbed.processes.children import bound_to_parent

SERVICE = "testbed.Backend"
_CALL = f"/{SERVICE}/Ask"
_PATIENCE = 60.0
"""Seconds that a batch of calls may take."""


class GrpcBackend:
    """A gRPC server on loopback that answers every call with its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.address = ""
        self._server: Any = None

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server()
        methods = {"Ask": grpc.unary_unary_rpc_method_handler(self._answer)}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, methods),)
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._server.stop(None)

    async def _answer(self, _request: bytes, _context: object) -> bytes:
        return self.name.encode()


class GrpcClient:
    """A process with one channel to ``xds:///TARGET``; an asynchronous context manager.

    Args:
        target: name of the service.
        xds_port: of the control plane on loopback.
        node: of the bootstrap: id, metadata, locality.
    """

    def __init__(self, target: str, *, xds_port: int, node: dict[str, Any]) -> None:
        self._target = target
        self._bootstrap = {
            "xds_servers": [
                {
                    "server_uri": f"127.0.0.1:{xds_port}",
                    "channel_creds": [{"type": "insecure"}],
                    "server_features": ["xds_v3"],
                }
            ],
            "node": node,
        }
        self._child: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        bound = bound_to_parent(
            [sys.executable, "-m", "testbed.processes.grpc_clients", self._target]
        )
        self._child = await asyncio.create_subprocess_exec(
            *bound.pop("args"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(self._bootstrap)},
            **bound,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._child is not None:
            if self._child.returncode is None:
                self._child.kill()
            await self._child.communicate()

    async def call(self, count: int) -> Counter[str]:
        """Make *count* calls; give the answers, and failures as ``CODE: details``."""
        child = self._child
        if child is None or child.stdin is None or child.stdout is None:
            raise AssertionError("not started")
        child.stdin.write(b"%d\n" % count)
        await child.stdin.drain()
        line = await asyncio.wait_for(child.stdout.readline(), _PATIENCE)
        return Counter(json.loads(line))


def _serve(target: str) -> None:
    channel: Any = grpc.insecure_channel(f"xds:///{target}")
    ask = channel.unary_unary(_CALL)
    for line in sys.stdin:
        answers: Counter[str] = Counter()
        for _ in range(int(line)):
            try:
                answers[ask(b"", timeout=20.0, wait_for_ready=False).decode()] += 1
            except grpc.RpcError as error:
                failed: Any = error
                answers[f"{failed.code().name}: {failed.details()}"] += 1
        print(json.dumps(answers), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1])
