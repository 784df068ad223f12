"""Bootstraps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.resources import names
from controlplane.resources.bootstrap import build_bootstrap
from controlplane.resources.file_secrets import ClientTls
from testbed.fakes.fleets import make_config
from testbed.processes.envoys import validate

TLS = {"tls": {"cert": "cert.pem", "key": "key.pem"}}


def built(site: str = "north", **options: Any) -> dict[str, Any]:
    """Build a bootstrap and read it."""
    config = options.pop("config", None) or make_config()
    options.setdefault("xds", ("127.0.0.1", 18000))
    text = build_bootstrap(config, site=site, envoy_id="envoy-1", **options)
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@pytest.mark.parametrize(
    ("site", "locality"),
    [
        pytest.param(
            "north",
            {"region": "eu-north", "zone": "eu-north-1a", "sub_zone": "north"},
            id="region and zone",
        ),
        pytest.param("phones", {"sub_zone": "phones"}, id="neither"),
        pytest.param("nowhere", {"sub_zone": "nowhere"}, id="unknown"),
    ],
)
def test_the_node_says_where_it_is(site: str, locality: dict[str, str]) -> None:
    """By metadata and by locality."""
    assert {
        "id": "envoy-1",
        "cluster": "cats",
        "metadata": {"site": site},
        "locality": locality,
    } == built(site)["node"]


@pytest.mark.parametrize(("delta", "want"), [(True, "DELTA_GRPC"), (False, "GRPC")])
def test_both_variants_look_for_a_lost_control_plane_soon(delta: bool, want: str) -> None:
    """Between a tenth of a second and one, and say their long node once."""
    ads = built(delta=delta)["dynamic_resources"]["ads_config"]
    assert want == ads["api_type"]
    assert ads["set_node_on_first_message_only"]
    (service,) = ads["grpc_services"]
    assert {
        "cluster_name": names.XDS_CLUSTER,
        "retry_policy": {"retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}},
    } == service["envoy_grpc"]


@pytest.mark.parametrize(
    ("xds", "want"),
    [(("10.0.0.1", 1), "STATIC"), (("::1", 1), "STATIC"), (("cp.example.net", 1), "STRICT_DNS")],
)
def test_a_name_is_resolved_and_an_address_taken(xds: tuple[str, int], want: str) -> None:
    """Envoy refuses a name in a static cluster."""
    (cluster,) = built(xds=xds)["static_resources"]["clusters"]
    assert want == cluster["type"]


def test_nothing_makes_envoy_prefer_its_own_zone() -> None:
    """A local cluster's name would switch on a routing of its own beside the weights."""
    assert "local_cluster_name" not in str(built())
    assert "127.0.0.1" == built()["admin"]["address"]["socket_address"]["address"]


@pytest.mark.parametrize(
    ("tls", "xds", "san"),
    [
        pytest.param(None, ("cp.example.net", 1), ("DNS", "cp.example.net"), id="name"),
        pytest.param(None, ("10.0.0.1", 1), ("IP_ADDRESS", "10.0.0.1"), id="address"),
        pytest.param(
            ClientTls(ca="ca.pem", cert="c.pem", key="k.pem", server_name="cp"),
            ("10.0.0.1", 1),
            ("DNS", "cp"),
            id="own certificate and another name",
        ),
    ],
)
def test_tls_checks_who_the_control_plane_is(
    tls: ClientTls | None, xds: tuple[str, int], san: tuple[str, str]
) -> None:
    """Where the server has certificates, its name or address must be in them."""
    (cluster,) = built(config=make_config(server=TLS), tls=tls, xds=xds)["static_resources"][
        "clusters"
    ]
    context = cluster["transport_socket"]["typed_config"]["common_tls_context"]
    (match,) = context["validation_context"]["match_typed_subject_alt_names"]
    assert san == (match["san_type"], match["matcher"]["exact"])
    assert (tls is not None) == ("tls_certificates" in context)
    assert "transport_socket" not in built()["static_resources"]["clusters"][0]


@pytest.mark.envoy
async def test_a_stock_envoy_accepts_one_with_tls(tmp_path: Path) -> None:
    """The parts for certificates are valid, too."""
    ca = tmp_path / "ca.pem"
    ca.write_text("")
    text = build_bootstrap(
        make_config(server=TLS),
        site="north",
        envoy_id="e",
        xds=("cp.example.net", 1),
        standby=[("10.0.0.1", 2)],
        tls=ClientTls(ca=str(ca)),
    )
    # The file is empty, which Envoy finds only after it took the form.
    assert (await validate(text)).endswith("ca.pem is empty")
