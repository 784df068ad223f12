"""Failed handshakes in an Envoy's statistics."""

from __future__ import annotations

import math

import pytest

from controlplane.telemetry.handshakes import parse_handshakes
from controlplane.wire.cats.envoy.v1 import metrics_pb2

SERVICES = frozenset({"chat", "sum"})


def family(name: str, value: float, cluster: str = "chat") -> metrics_pb2.MetricFamily:
    """Make a counter of one cluster, as Envoy sends it."""
    label = metrics_pb2.LabelPair(name="envoy.cluster_name", value=cluster)
    metric = metrics_pb2.Metric(label=[label], counter=metrics_pb2.Value(value=value))
    return metrics_pb2.MetricFamily(name=f"cluster.{name}", metric=[metric])


def test_they_are_counted_by_service_and_reason() -> None:
    """What Envoys count by cluster; other statistics are passed by."""
    got = parse_handshakes(
        [
            family("ssl.fail_verify_error", 2),
            family("ssl.fail_verify_error", 3),
            family("ssl.fail_verify_san", 1, "sum"),
            family("ssl.connection_error", 0),
            family("membership_total", 4),
        ],
        SERVICES,
    )
    assert {("chat", "authority"): 5, ("sum", "name"): 1} == got


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(family("ssl.handshake", 1), id="a good handshake"),
        pytest.param(family("ssl.fail_verify_san", 1, "no one"), id="no service"),
        pytest.param(family("ssl.fail_verify_san", -1), id="less than none"),
        pytest.param(family("ssl.fail_verify_san", math.nan), id="no number"),
        pytest.param(family("ssl.fail_verify_san", math.inf), id="endless"),
    ],
)
def test_what_is_no_failure_of_a_service_is_left_out(given: metrics_pb2.MetricFamily) -> None:
    """An Envoy can neither name series of the control plane's metrics nor break a counter."""
    assert {} == parse_handshakes([given], SERVICES)
