"""An Envoy's site is the one it names, else the only one at its locality."""

from __future__ import annotations

import pytest

from controlplane.config import Config
from controlplane.grpc_services.requests import Node
from controlplane.grpc_services.sites import SiteResolver

CONFIG = Config.model_validate(
    {
        "version": 1,
        "sites": [
            {"name": "north", "kind": "edge", "region": "eu", "zone": "n", "zones": ["n2"]},
            {"name": "twin-1", "kind": "edge", "region": "eu", "zone": "t"},
            {"name": "twin-2", "kind": "edge", "region": "eu", "zone": "t"},
            {"name": "bare", "kind": "device"},
        ],
        "models": [{"name": "m"}],
        "services": [{"name": "chat", "match": [{"path": "/v1"}], "models": [{"name": "m"}]}],
    }
)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        pytest.param(Node("e", site="bare"), "bare", id="named"),
        pytest.param(Node("e", site="nroth", region="eu", zone="n"), None, id="named wrongly"),
        pytest.param(Node("e", region="eu", zone="n"), "north", id="locality"),
        pytest.param(Node("e", region="eu", zone="n2"), "north", id="another zone of a site"),
        pytest.param(Node("e", region="eu", zone="t"), None, id="locality of two sites"),
        pytest.param(Node("e", region="eu", zone="t", sub_zone="twin-2"), "twin-2", id="sub-zone"),
        pytest.param(Node("e"), None, id="says nothing"),
    ],
)
def test_the_site_of_a_node(node: Node, expected: str | None) -> None:
    """A wrong name is not corrected by a guess."""
    assert expected == SiteResolver(CONFIG).resolve(node)
