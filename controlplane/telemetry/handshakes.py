"""TLS handshakes of one Envoy with instances that failed, from the statistics that it streams.

Envoy counts them by cluster, which is a service, and not by instance; its active checks count too,
so that an instance that nothing is sent to any more is still reported.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

REASONS: Mapping[str, str] = MappingProxyType(
    {
        "cluster.ssl.fail_verify_error": "authority",
        "cluster.ssl.fail_verify_san": "name",
        "cluster.ssl.fail_verify_no_cert": "no certificate",
        "cluster.ssl.connection_error": "handshake",
    }
)
"""Statistic -> why: signed by another authority or expired, none of the names expected, nothing
shown, anything else (the instance speaks no TLS, or said why it refuses what Envoy shows). One that
refuses without a word just closes, which Envoy counts nowhere; it is unhealthy then."""
_CLUSTER = "envoy.cluster_name"


def parse_handshakes(
    families: Iterable[Any], services: frozenset[str]
) -> dict[tuple[str, str], float]:
    """Return (service, reason) -> handshakes that failed since the message before.

    Args:
        families: ``MetricFamily`` of ``cats.envoy.v1``.
        services: those that there are; others are left out, and so is what is no count.
    """
    failed: dict[tuple[str, str], float] = {}
    for family in families:
        reason = REASONS.get(family.name)
        if reason is None:
            continue
        for metric in family.metric:
            count = metric.counter.value
            if not (math.isfinite(count) and count > 0):
                continue
            service = next((each.value for each in metric.label if each.name == _CLUSTER), "")
            if service in services:
                failed[service, reason] = failed.get((service, reason), 0.0) + count
    return failed
