"""One publish to 1,000 streams through each transport, in clear text and with mutual TLS.

The reference is grpcio's asyncio server, serving the same service with the same bytes in the same
run: other load on the machine then changes both, and their ratio little.
Run alone: ``python -m benchmarks.transports``.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.fanout import CLUSTERS, CONNECT, CPU, LAST, RSS
from benchmarks.figures import Row, Target, main
from benchmarks.served import SITE, ServerProcess
from benchmarks.streams import StreamFleet
from controlplane.config import Transport
from controlplane.grpc_transport.grpcio import PemFiles
from controlplane.xds.types import ENDPOINT
from testbed.fakes.certificates import Authority

TITLE = "Transports: one publish to many streams, against grpcio's asyncio server"
RATIO = "CPU against grpcio"
ROUNDS = 5


def run(
    streams: int, endpoints: int, transport: Transport, directory: Path | None
) -> dict[str, float]:
    """Measure one case: medians over the rounds; with certificates in *directory* over TLS."""
    files = tls = None
    if directory is not None:
        authority = Authority(directory)
        own, client = (
            authority.issue("localhost"),
            authority.issue(f"spiffe://x/site/{SITE}/envoy/e"),
        )
        files = PemFiles(str(own.cert), str(own.key), str(authority.ca))
        tls = str(authority.ca), str(client.cert), str(client.key)
    with ServerProcess(
        clusters=CLUSTERS, endpoints=endpoints, transport=transport, tls=files
    ) as server:
        server.prepare(ROUNDS, changed=CLUSTERS)
        wants = {ENDPOINT: server.names}
        before = server.usage()
        with StreamFleet(server.address, streams, wants, site=SITE, tls=tls) as fleet:
            time.sleep(0.5)
            fleet.take()
            connecting = server.usage().cpu - before.cpu
            cpu, last = [], []
            for _ in range(ROUNDS):
                before = server.usage()
                published = server.publish()
                tally = fleet.wait_for(published.version, streams)
                time.sleep(0.3)  # The acknowledgements are the server's work too.
                after = server.usage()
                fleet.take()
                cpu.append(1000 * (after.cpu - before.cpu) / streams)
                last.append(1000 * (max(tally.arrivals[published.version]) - published.at))
    return {
        CPU: statistics.median(cpu),
        LAST: statistics.median(last),
        RSS: after.rss,
        CONNECT: fleet.connected,
        "connect CPU s": connecting,
    }


def run_all(*, quick: bool = False) -> list[Row]:
    """Measure both transports, with and without TLS."""
    streams = 100 if quick else 1_000
    rows = []
    for secure in (False, True):
        for endpoints in (10, 100) if quick else (10, 100, 1_000):
            measured = {}
            for transport in (Transport.GRPCIO, Transport.H2):
                with tempfile.TemporaryDirectory() as directory:
                    where = Path(directory) if secure else None
                    measured[transport] = run(streams, endpoints, transport, where)
            reference, ours = measured[Transport.GRPCIO], measured[Transport.H2]
            for transport, figures in measured.items():
                targets: tuple[Target, ...] = ()
                if transport is Transport.H2 and not quick:
                    targets = (Target(RATIO, 0.9 if secure else 0.6),)
                    if endpoints == 100 and not secure:
                        targets += (Target(RSS, 100.0), Target(CONNECT, 1.5))
                figures[RATIO] = figures[CPU] / reference[CPU]
                rows.append(
                    Row(
                        f"{transport.value}, {'mutual TLS' if secure else 'clear text'}, "
                        f"{streams} streams, {endpoints} endpoints",
                        figures,
                        targets,
                    )
                )
            print(rows[-1].case, f"{ours[CPU] / reference[CPU]:.2f}", file=sys.stderr)
    return rows


if __name__ == "__main__":
    main(TITLE, run_all)
