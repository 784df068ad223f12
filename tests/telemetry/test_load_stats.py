"""Load reports of Envoys."""

from __future__ import annotations

import pytest
from envoy.config.core.v3 import address_pb2
from envoy.config.endpoint.v3 import load_report_pb2
from envoy.service.load_stats.v3 import lrs_pb2

from controlplane.config import parse_config
from controlplane.model import TrafficReport
from controlplane.telemetry.load_stats import LoadReader, endpoint_sub_zone

READER = LoadReader(
    parse_config(
        """
version: 1
sites: [{name: edge, kind: edge}, {name: phones, kind: device}, {name: watches, kind: device}]
models: [{name: m}]
services: [{name: chat, match: [{path: /}], models: [{name: m}]}]
instances:
  - {name: a, site: edge, address: "10.0.0.1:80", model: m}
  - {name: six, site: edge, address: "[2001:db8:0:0::1]:80", model: m}
  - {name: phone, site: phones, address: "127.0.0.1:9000", model: m}
  - {name: watch, site: watches, address: "127.0.0.1:9000", model: m}
""",
        file="f",
    )
)


def endpoint(host: str, port: int, *counts: int) -> load_report_pb2.UpstreamEndpointStats:
    """Make the statistics of one endpoint: issued, succeeded, failed, in progress."""
    issued, succeeded, failed, in_progress = counts
    return load_report_pb2.UpstreamEndpointStats(
        address=address_pb2.Address(
            socket_address=address_pb2.SocketAddress(address=host, port_value=port)
        ),
        total_issued_requests=issued,
        total_successful_requests=succeeded,
        total_error_requests=failed,
        total_requests_in_progress=in_progress,
    )


def request(
    *endpoints: load_report_pb2.UpstreamEndpointStats, cluster: str = "chat", dropped: int = 0
) -> lrs_pb2.LoadStatsRequest:
    """Make a report of ten seconds about one cluster."""
    locality = load_report_pb2.UpstreamLocalityStats(upstream_endpoint_stats=endpoints)
    stats = load_report_pb2.ClusterStats(
        cluster_name=cluster,
        upstream_locality_stats=[locality] if endpoints else [],
        total_dropped_requests=dropped,
    )
    stats.load_report_interval.FromMilliseconds(10_000)
    return lrs_pb2.LoadStatsRequest(cluster_stats=[stats])


def test_an_endpoint_becomes_a_report_of_its_instance() -> None:
    """Counts are taken over; there are no times to take."""
    reports = READER.parse(
        request(endpoint("10.0.0.1", 80, 7, 5, 1, 2)), envoy="e", site="edge", now=3.0, period=1.0
    )

    assert [
        TrafficReport(
            envoy="e", site="edge", service="chat", instance="a", at=3.0, interval=10.0,
            issued=7, succeeded=5, failed=1, in_progress=2,
        )
    ] == reports  # fmt: skip


@pytest.mark.parametrize(
    ("site", "host", "port", "expected"),
    [
        pytest.param("edge", "10.0.0.1", 80, "a", id="at home"),
        pytest.param("phones", "10.0.0.1", 80, "a", id="from elsewhere"),
        pytest.param("edge", "2001:db8::1", 80, "six", id="IPv6 written in another way"),
        pytest.param("phones", "127.0.0.1", 9000, "phone", id="on the phone itself"),
        pytest.param("watches", "127.0.0.1", 9000, "watch", id="on the watch itself"),
        pytest.param("edge", "127.0.0.1", 9000, None, id="no one else's device"),
        pytest.param("edge", "10.0.0.1", 81, None, id="another port"),
        pytest.param("edge", "not an address", 80, None, id="no address"),
    ],
)
def test_an_address_means_an_instance_as_seen_from_a_site(
    site: str, host: str, port: int, expected: str | None
) -> None:
    """Every device has its own instance at the same address."""
    assert expected == READER.instance(site, host, port)


def test_requests_at_unknown_addresses_and_dropped_ones_are_demand() -> None:
    """They count for the service, without an instance."""
    (report,) = READER.parse(
        request(endpoint("10.9.9.9", 80, 3, 3, 0, 0), dropped=2),
        envoy="e", site="edge", now=0.0, period=1.0,
    )  # fmt: skip

    assert ("", 5, 3, 2) == (report.instance, report.issued, report.succeeded, report.failed)


def test_a_service_without_requests_is_reported_as_zero() -> None:
    """Silence of the clients is distinguished from silence of the Envoy."""
    (report,) = READER.parse(request(), envoy="e", site="edge", now=0.0, period=1.0)

    assert ("chat", "", 0.0, 10.0) == (
        report.service,
        report.instance,
        report.issued,
        report.interval,
    )


def test_clusters_that_are_no_services_are_passed_by() -> None:
    """The Envoy's way to the control plane is no demand."""
    assert [] == READER.parse(
        request(cluster="cats-control-plane"), envoy="e", site="edge", now=0.0, period=1.0
    )


def test_a_locality_counts_where_endpoints_are_not_reported() -> None:
    """An Envoy that does not report endpoints still reports demand."""
    locality = load_report_pb2.UpstreamLocalityStats(total_issued_requests=4)
    stats = load_report_pb2.ClusterStats(cluster_name="chat", upstream_locality_stats=[locality])

    (report,) = READER.parse(
        lrs_pb2.LoadStatsRequest(cluster_stats=[stats]),
        envoy="e", site="edge", now=0.0, period=7.0,
    )  # fmt: skip

    assert ("", 4, 7.0) == (report.instance, report.issued, report.interval)


def test_a_locality_of_one_endpoint_names_its_instance() -> None:
    """GRPC clients report localities only, and each of their endpoints has one of its own."""
    locality = load_report_pb2.UpstreamLocalityStats(total_issued_requests=4)
    locality.locality.sub_zone = endpoint_sub_zone("edge", "a")
    stats = load_report_pb2.ClusterStats(cluster_name="chat", upstream_locality_stats=[locality])

    (report,) = READER.parse(
        lrs_pb2.LoadStatsRequest(cluster_stats=[stats]),
        envoy="e", site="edge", now=0.0, period=7.0,
    )  # fmt: skip

    assert ("a", 4) == (report.instance, report.issued)
