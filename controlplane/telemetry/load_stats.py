"""What an Envoy counted, from the load reports (LRS) of Envoys that we did not bootstrap.

Load reports count requests per endpoint but say no times, and each repeats the whole node, some
60 kB, so they are asked for rarely; an Envoy with our bootstrap streams statistics instead
(`controlplane.telemetry.envoy_stats`).
A report names endpoints by address. The instances of a device site have the same address on every
device, so an address means the Envoy's own site first and then those that everyone reaches.
gRPC clients report localities only; each of their endpoints has one of its own.
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

from controlplane.config import Config, SiteKind
from controlplane.config.serving import serving_model
from controlplane.model import InstanceReport, TrafficReport
from controlplane.telemetry.orca import MAX_METRICS, parse_metric_means

_Address = tuple[str, int]


def endpoint_sub_zone(site: str, instance: str) -> str:
    """Name the sub-zone of an endpoint that has a locality of its own; no site has such a name."""
    return f"{site}/{instance}"


class LoadReader:
    """Reads the load reports of Envoys under one configuration."""

    def __init__(self, config: Config) -> None:
        devices = {site.name for site in config.sites if site.kind is SiteKind.DEVICE}
        self._services = frozenset(service.name for service in config.services)
        self._anywhere: dict[_Address, str] = {}
        self._at_site: dict[tuple[str, _Address], str] = {}
        self._behind: dict[tuple[str, _Address], str] = {}
        """Service and address -> instance, where several stand behind a gateway."""
        self._alone = {
            endpoint_sub_zone(each.site, each.name): each.name for each in config.instances
        }
        for instance in config.instances:
            address = _canonical(instance.host, instance.port)
            if instance.site in devices:
                self._at_site[instance.site, address] = instance.name
            else:
                self._anywhere[address] = instance.name
            if instance.gateway is not None:
                for service in config.services:
                    if serving_model(service, instance) is not None:
                        self._behind[service.name, address] = instance.name

    def instance(self, site: str, host: str, port: int, *, service: str = "") -> str | None:
        """Return the instance that an Envoy of *site* reaches at an address; None if unknown."""
        address = _canonical(host, port)
        own = self._at_site.get((site, address)) or self._behind.get((service, address))
        return own if own is not None else self._anywhere.get(address)

    def parse(
        self, request: Any, *, envoy: str, site: str, now: float, period: float
    ) -> list[TrafficReport]:
        """Return the reports in a ``LoadStatsRequest`` about services that are configured.

        Requests at addresses that no instance has, and those that Envoy dropped, count for the
        service without an instance: they are demand.

        Args:
            request: ``envoy.service.load_stats.v3.LoadStatsRequest``.
            envoy: node id.
            site: client site of the Envoy.
            now: when it came; the end of its interval.
            period: seconds it covers where it does not say.
        """
        reports = []
        for cluster in request.cluster_stats:
            if cluster.cluster_name not in self._services:
                continue
            span = cluster.load_report_interval
            interval = span.seconds + span.nanos * 1e-9
            base = TrafficReport(
                envoy, site, cluster.cluster_name, "", now, interval if interval > 0 else period, 0
            )
            reports += self._of_cluster(cluster, base)
        return reports

    def parse_orca(
        self, request: Any, *, envoy: str, site: str, now: float
    ) -> list[InstanceReport]:
        """Return what instances said of themselves in ORCA headers, as an Envoy averaged it.

        Args:
            request: ``envoy.service.load_stats.v3.LoadStatsRequest``.
            envoy: node id; says the devices of a class apart.
            site: client site of the Envoy.
            now: when it came.
        """
        sums: dict[str, dict[str, list[float]]] = {}
        for cluster in request.cluster_stats:
            if cluster.cluster_name not in self._services:
                continue
            for locality in cluster.upstream_locality_stats:
                for stats in locality.upstream_endpoint_stats:
                    name = self._named(site, stats, cluster.cluster_name)
                    for metric in stats.load_metric_stats if name else ():
                        count = metric.num_requests_finished_with_metric
                        total = sums.setdefault(name, {}).setdefault(metric.metric_name, [0, 0.0])
                        total[0] += count
                        total[1] += metric.total_metric_value
        reports = []
        for name, metrics in sorted(sums.items()):
            means = [(key, total / count) for key, (count, total) in metrics.items() if count > 0]
            report = parse_metric_means(means[:MAX_METRICS], instance=name, at=now)
            if report.signals:
                reports.append(replace(report, reporter=envoy))
        return reports

    def _of_cluster(self, cluster: Any, base: TrafficReport) -> list[TrafficReport]:
        dropped = float(cluster.total_dropped_requests)
        sums: dict[str, list[float]] = {"": [dropped, 0.0, dropped, 0.0]}
        for locality in cluster.upstream_locality_stats:
            # Without per-endpoint granularity, the locality is all there is.
            for stats in locality.upstream_endpoint_stats or [locality]:
                total = sums.setdefault(self._named(base.site, stats, base.service), [0.0] * 4)
                total[0] += stats.total_issued_requests
                total[1] += stats.total_successful_requests
                total[2] += stats.total_error_requests
                total[3] += stats.total_requests_in_progress
        busy = {name: total for name, total in sums.items() if any(total)}
        return [
            TrafficReport(
                base.envoy,
                base.site,
                base.service,
                instance,
                base.at,
                base.interval,
                issued=issued,
                succeeded=succeeded,
                failed=failed,
                in_progress=in_progress,
            )
            for instance, (issued, succeeded, failed, in_progress) in sorted(busy.items())
        ] or [base]

    def _named(self, site: str, stats: Any, service: str) -> str:
        if "address" not in stats.DESCRIPTOR.fields_by_name:
            return self._alone.get(stats.locality.sub_zone, "")
        socket = stats.address.socket_address
        return self.instance(site, socket.address, socket.port_value, service=service) or ""


def _canonical(host: str, port: int) -> _Address:
    """Write an address in one way: IPv6 has many."""
    if ":" not in host:  # thousands are read with each configuration, nearly all of them IPv4
        return host, port
    try:
        return ipaddress.ip_address(host).compressed, port
    except ValueError:
        return host, port
