"""What is followed for a configuration, and in which cluster."""

from __future__ import annotations

import json

import pytest

from controlplane.config import KubernetesCluster, parse_config
from controlplane.controller.followers import sources_of

HERE, THERE = "https://10.0.0.1", "https://10.0.0.2"


@pytest.mark.parametrize(("cluster", "server"), [(None, HERE), ("edge", THERE)])
def test_rules_and_routes_are_followed_in_the_cluster_they_name(
    cluster: str | None, server: str
) -> None:
    """Else in the one of ``discovery.api``."""
    named = {} if cluster is None else {"cluster": cluster}
    document = {
        "version": 1,
        "sites": [{"name": "s", "kind": "edge"}],
        "models": [{"name": "m"}],
        "services": [
            {"name": "chat", "http_routes": [{"pool": "llm", **named}], "models": [{"name": "m"}]}
        ],
        "discovery": {
            "api": {"server": HERE},
            "clusters": [{"name": "edge", "api": {"server": THERE}}],
            "rules": [{"name": "r", "kind": "pods", "site": "s", "model": "m", **named}],
        },
    }

    rule, routes = sources_of(parse_config(json.dumps(document), file="fleet.yaml"))

    assert [cluster or ""] * 2 == [rule.cluster, routes.cluster]
    for key in (*rule.keys, *routes.keys):
        place = key.cluster.api if isinstance(key.cluster, KubernetesCluster) else key.cluster
        assert place is not None
        assert server == place.server
