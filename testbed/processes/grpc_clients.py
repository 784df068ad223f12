"""gRPC without an Envoy: clients that dial ``xds:///SERVICE``, and backends that say their name.

The clients are gRPC's own, grpcio and grpc-js, each in a process of its own, since they read their
bootstrap once per process. Run as ``python -m testbed.processes.grpc_clients TARGET METHOD``: each
line on its standard input is a number of calls to make, each line on its standard output what they
came to. ``grpc_js/xds.js`` does the same.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from testbed.processes.children import bound_to_parent

SERVICE = "testbed.Backend"
_CALL = f"/{SERVICE}/Ask"
_PATIENCE = 60.0
"""Seconds that a batch of calls may take."""
_GRPC_JS = Path(__file__).parent / "grpc_js"
GRPCIO = (sys.executable, "-m", "testbed.processes.grpc_clients")
"""The command of a grpcio client; a target and a method follow."""


def install_grpc_js(folder: Path) -> Path:
    """Install grpc-js and its xDS from their lock into *folder*, beside the programs that use them.

    Processes that ask for one folder install once: the others wait.

    Raises:
        RuntimeError: npm is missing, or failed; the text says why.
    """
    if shutil.which("npm") is None:
        raise RuntimeError("node and npm are needed for grpc-js: install nodejs, npm")
    folder.mkdir(exist_ok=True)
    done = folder / "installed"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.copytree(_GRPC_JS, folder, dirs_exist_ok=True)
            options = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
            npm = subprocess.run(
                ["npm", "ci", *options], cwd=folder, capture_output=True, text=True, check=False
            )
            if npm.returncode != 0:
                raise RuntimeError(f"npm ci failed:\n{npm.stdout}{npm.stderr}")
            done.touch()
    return folder


def grpc_js_command(folder: Path) -> tuple[str, ...]:
    """Return the command of a grpc-js client that `install_grpc_js` put into *folder*."""
    return ("node", str(folder / "xds.js"))


def grpc_bootstrap(xds_port: int, node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the bootstrap of a client at *node* whose control plane is on loopback."""
    return {
        "xds_servers": [
            {
                "server_uri": f"127.0.0.1:{xds_port}",
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": node,
    }


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
        bootstrap: names the control plane and the client's node.
        command: that of the client's process.
    """

    def __init__(
        self, target: str, bootstrap: Mapping[str, Any], *, command: Sequence[str] = GRPCIO
    ) -> None:
        self._command = [*command, target, _CALL]
        self._bootstrap = bootstrap
        self._child: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        bound = bound_to_parent(self._command)
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
        """Make *count* calls; return the answers, and failures as ``CODE: details``."""
        child = self._child
        if child is None or child.stdin is None or child.stdout is None:
            raise AssertionError("not started")
        child.stdin.write(b"%d\n" % count)
        await child.stdin.drain()
        line = await asyncio.wait_for(child.stdout.readline(), _PATIENCE)
        return Counter(json.loads(line))


def _serve(target: str, method: str) -> None:
    channel: Any = grpc.insecure_channel(f"xds:///{target}")
    ask = channel.unary_unary(method)
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
    _serve(*sys.argv[1:])
