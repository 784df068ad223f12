"""Joins replicas by a Lease, where ``server.bus`` is ``kubernetes``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Middleware

from controlplane.bus.kubernetes import DURATION, KubernetesBus
from controlplane.bus.peers import PeerClient, make_peer_application
from controlplane.config.schema.server import Replicas
from controlplane.controller.control_plane import ControlPlane
from controlplane.controller.replication import bus_counter, replica_name
from controlplane.errors import ReportError, StartError
from controlplane.runtime.files import read_file
from controlplane.sources.kubernetes.access import ACCOUNT
from controlplane.sources.kubernetes.client import ApiClient, new_session
from controlplane.sources.kubernetes.leases import LeaseStore

SHORTEST_KEY = 16
MAX_KEY_FILE = 16_384
"""Bytes."""


async def make_kubernetes_bus(
    control: ControlPlane,
    settings: Replicas,
    ends: AsyncExitStack,
    *,
    middlewares: Iterable[Middleware] = (),
) -> tuple[KubernetesBus, web.AppRunner]:
    """Make this replica's end of the bus, and what answers the others, which has to be bound.

    *middlewares* bound the connections of the port that it is bound to.

    Raises:
        StartError: the replicas' key cannot be read, or nothing says the namespace.
    """

    def key() -> str:
        return read_key(settings.key_file)

    try:
        key()
    except (ReportError, OSError) as error:
        raise StartError(f"server.replicas.key_file: {error}") from error
    api = await ends.enter_async_context(new_session())
    peers = await ends.enter_async_context(aiohttp.ClientSession(trust_env=False))
    address = os.environ.get("POD_IP", "127.0.0.1")
    shown = f"[{address}]" if ":" in address else address
    bus = KubernetesBus(
        LeaseStore(
            ApiClient(settings.api, api),
            namespace=settings.namespace or own_namespace(),
            name=settings.lease,
            duration=DURATION,
            unix_time=control.unix_time,
        ),
        PeerClient(peers, key=key),
        me=replica_name(),
        address=f"{shown}:{settings.port}",
        on_report=control.reports.receive_shared,
        on_change=control.receive_bus_change,
        count=bus_counter(control),
        clock=control.clock,
    )
    runner = web.AppRunner(
        make_peer_application(bus.answer, key=key, middlewares=middlewares),
        access_log=None,
        auto_decompress=False,
        lingering_time=1.0,
        shutdown_timeout=1.0,
    )
    await runner.setup()
    ends.push_async_callback(runner.cleanup)
    control.bus = bus
    return bus, runner


def read_key(file: str) -> str:
    """Return the key that the replicas share: the first line of *file*.

    Raises:
        ReportError: it holds none, or too short a one.
        OSError: it cannot be read.
    """
    lines = read_file(Path(file), limit=MAX_KEY_FILE).decode("utf-8", "replace").split()
    if not lines or len(lines[0]) < SHORTEST_KEY:
        raise ReportError(f"{file} holds no key of {SHORTEST_KEY} characters or more")
    return lines[0]


def own_namespace() -> str:
    """Return the namespace of this pod.

    Raises:
        StartError: this is no pod.
    """
    try:
        return (ACCOUNT / "namespace").read_text().strip()
    except OSError as error:
        raise StartError(
            "server.replicas.namespace: not in a pod with a service account; name the namespace"
        ) from error
