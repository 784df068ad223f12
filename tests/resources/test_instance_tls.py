"""TLS to instances, as clusters and secrets say it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from google.protobuf import any_pb2, json_format

from controlplane.config import InstanceTls
from controlplane.resources.clusters import build_cluster
from controlplane.resources.endpoints import EndpointEncoder
from controlplane.resources.file_secrets import build_instance_secrets
from controlplane.resources.validate import constraint_faults
from controlplane.steering.plan import Allocation
from controlplane.xds.types import CLUSTER
from testbed.fakes.fleets import make_config

TLS: dict[str, Any] = {
    "ca": "/etc/instances/ca.crt",
    "cert": "/etc/instances/tls.crt",
    "key": "/etc/instances/tls.key",
    "names": ["spiffe://*/instance/*", "10.0.0.1", "one.example"],
}


def built(**tls: Any) -> dict[str, Any]:
    """Build a cluster and read it as JSON."""
    config = make_config(envoy={"instance_tls": TLS | tls})
    body = bytes(build_cluster(config.services[0], config))
    assert [] == constraint_faults(CLUSTER, body)
    found: dict[str, Any] = json_format.MessageToDict(
        cluster_pb2.Cluster.FromString(body), preserving_proto_field_name=True
    )
    return found


def test_certificates_come_from_files_that_may_change() -> None:
    """Both by SDS from a watched directory; names are held to kind and pattern."""
    context = built()["transport_socket"]["typed_config"]["common_tls_context"]
    (own,) = context["tls_certificate_sds_secret_configs"]
    checks = context["combined_validation_context"]

    assert "UpstreamTlsContext" == tls_pb2.UpstreamTlsContext.DESCRIPTOR.name
    assert {
        "name": "instances-own",
        "sds_config": {
            "path_config_source": {
                "path": "/etc/cats/envoy/instances-own.yaml",
                "watched_directory": {"path": "/etc/cats/envoy"},
            },
            "resource_api_version": "V3",
        },
    } == own
    assert "instances-ca" == checks["validation_context_sds_secret_config"]["name"]
    assert [
        {"san_type": "URI", "matcher": {"safe_regex": {"regex": "spiffe://[^/]*/instance/[^/]*"}}},
        {"san_type": "IP_ADDRESS", "matcher": {"exact": "10.0.0.1"}},
        {"san_type": "DNS", "matcher": {"exact": "one.example"}},
    ] == checks["default_validation_context"]["match_typed_subject_alt_names"]


def test_nothing_is_shown_where_no_certificate_is_given() -> None:
    """Then instances are checked and do not check."""
    context = built(cert=None, key=None)["transport_socket"]["typed_config"]["common_tls_context"]
    assert "tls_certificate_sds_secret_configs" not in context


def test_clear_text_is_for_who_says_so() -> None:
    """An endpoint without a word is spoken to in TLS."""
    (plain,) = built()["transport_socket_matches"]
    assert ({"plain": True}, "plain") == (plain["match"], plain["name"])
    assert plain["transport_socket"]["name"].endswith("raw_buffer")

    config = make_config(instances={"a": ("north", "10.0.0.1:1"), "b": ("north", "10.0.0.2:1")})
    a, b = (each.model_copy(update={"tls": each.name == "a"}) for each in config.instances)
    encoder = EndpointEncoder(config.sites, (a, b))
    resource = encoder.encode("chat", [Allocation(name, "north", 0.5, 1) for name in "ab"])
    whole = endpoint_pb2.ClusterLoadAssignment.FromString(
        any_pb2.Any.FromString(resource.body).value
    )
    reported = [
        json_format.MessageToDict(each.metadata)["filterMetadata"].get(
            "envoy.transport_socket_match"
        )
        for each in whole.endpoints[0].lb_endpoints
    ]
    assert [None, {"plain": True}] == reported


@pytest.mark.parametrize(("with_pair", "files"), [(True, 2), (False, 1)])
def test_the_files_name_certificates_and_hold_none(with_pair: bool, files: int) -> None:
    """Paths and directories to watch; the keys stay where they are."""
    pair = {} if with_pair else {"cert": None, "key": None}
    written = build_instance_secrets(InstanceTls(**(TLS | pair)))
    (ca,) = yaml.safe_load(written["instances-ca.yaml"])["resources"]

    assert files == len(written)
    assert "instances-ca" == ca["name"]
    assert {
        "trusted_ca": {"filename": "/etc/instances/ca.crt"},
        "watched_directory": {"path": "/etc/instances"},
    } == ca["validation_context"]
