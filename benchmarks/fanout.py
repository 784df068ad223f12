"""One publish to many streams: when each has it, and what it costs the server.

Ten clusters of E endpoints, N streams on a connection each; the weights of all clusters change, or
of one. A stream has it when the whole response has arrived; the server's CPU includes reading the
acknowledgements. Run alone: ``python -m benchmarks.fanout``.
"""

from __future__ import annotations

import statistics
import sys
import time

from benchmarks.figures import Row, Target, main, quantile
from benchmarks.served import SITE, ServerProcess
from benchmarks.streams import StreamFleet
from controlplane.xds.types import ENDPOINT

TITLE = "Fan-out: one publish to many streams, of ten clusters"
CLUSTERS = 10
ROUNDS = 5

CPU = "server CPU s per 1,000 pushes"
LAST = "last ms"
RSS = "server RSS MB"
CONNECT = "connect s"

TARGETS = {
    (1_000, 10): (Target(CPU, 0.20),),
    (1_000, 100): (
        Target(CPU, 0.25),
        Target(LAST, 250.0),
        Target(RSS, 100.0),
        Target(CONNECT, 1.5),
    ),
    (1_000, 1_000): (Target(CPU, 0.45), Target(LAST, 600.0)),
}
"""(Streams, endpoints) -> bounds, for all clusters changed."""


def run(
    streams: int, endpoints: int, *, delta: bool = False, changed: int = CLUSTERS, workers: int = 2
) -> Row:
    """Measure one case: medians over the rounds."""
    with ServerProcess(clusters=CLUSTERS, endpoints=endpoints) as server:
        server.prepare(ROUNDS, changed=changed)
        wants = {ENDPOINT: server.names}
        with StreamFleet(
            server.address, streams, wants, delta=delta, site=SITE, workers=workers
        ) as fleet:
            time.sleep(0.5)
            fleet.take()
            lags: list[list[float]] = []
            server_cpu, client_cpu = [], []
            for _ in range(ROUNDS):
                before = server.usage()
                published = server.publish()
                tally = fleet.wait_for(published.version, streams)
                time.sleep(0.2)  # The acknowledgements are the server's work too.
                after = server.usage()
                tally.add(fleet.take())
                lags.append([at - published.at for at in tally.arrivals[published.version]])
                server_cpu.append(1000 * (after.cpu - before.cpu) / streams)
                client_cpu.append(1000 * tally.cpu / streams)
    targets = TARGETS.get((streams, endpoints), ()) if changed == CLUSTERS else ()
    return Row(
        f"{'delta' if delta else 'sotw'}, {streams} streams, {endpoints} endpoints, "
        f"{changed} of {CLUSTERS} changed",
        {
            "p50 ms": 1000 * statistics.median(quantile(lag, 0.5) for lag in lags),
            "p99 ms": 1000 * statistics.median(quantile(lag, 0.99) for lag in lags),
            LAST: 1000 * statistics.median(map(max, lags)),
            CPU: statistics.median(server_cpu),
            "clients' CPU s per 1,000 pushes": statistics.median(client_cpu),
            RSS: after.rss,
            CONNECT: fleet.connected,
        },
        targets,
    )


def run_all(*, quick: bool = False) -> list[Row]:
    """Measure both modes over streams and endpoints."""
    sizes = (100,) if quick else (100, 1_000, 3_000)
    rows = []
    for streams in sizes:
        for endpoints in (10, 100) if quick else (10, 100, 1_000):
            for delta in (False, True):
                for changed in (CLUSTERS, 1):
                    rows.append(run(streams, endpoints, delta=delta, changed=changed))
                    print(rows[-1].case, file=sys.stderr)
    return rows


if __name__ == "__main__":
    main(TITLE, run_all)
