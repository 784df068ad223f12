"""Who may serve a service is said in one place, and every stage asks there."""

from __future__ import annotations

import pytest

from controlplane.config import Config
from controlplane.config.eligibility import exclusion, is_reachable, may_serve
from controlplane.config.merge import unserved
from controlplane.resources.build import _services_on_many_sites
from controlplane.sim.true_fleet import usable_instances
from controlplane.steering.layout import build_layout

CONFIG = Config.model_validate(
    {
        "version": 1,
        "sites": [
            {"name": "west", "kind": "cloud", "region": "eu-west"},
            {"name": "north", "kind": "edge", "region": "eu-north"},
            {"name": "nowhere", "kind": "edge"},
            {"name": "phones", "kind": "device"},
        ],
        "models": [{"name": "big"}, {"name": "small"}, {"name": "other"}],
        "services": [
            {
                "name": "chat",
                "match": [{"path": "/chat"}],
                "models": [{"name": "big"}, {"name": "small", "penalty": "never"}],
                "residency": {"allow": ["eu-north"]},
            }
        ],
        "instances": [
            {"name": "a", "site": "north", "address": "10.0.0.1:80", "model": "big"},
            {"name": "b", "site": "north", "address": "10.0.0.2:80", "model": "small"},
            {"name": "c", "site": "north", "address": "10.0.0.3:80", "model": "other"},
            {"name": "d", "site": "west", "address": "10.0.0.4:80", "model": "big"},
            {"name": "e", "site": "nowhere", "address": "10.0.0.5:80", "model": "big"},
        ],
    }
)
SITES = {site.name: site for site in CONFIG.sites}
(CHAT,) = CONFIG.services


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("a", "", id="allowed"),
        pytest.param("b", "model small has penalty never", id="never"),
        pytest.param("c", "runs other, which the service does not list", id="other model"),
        pytest.param("d", "residency forbids region eu-west", id="other region"),
        pytest.param("e", "residency forbids a site without a region", id="no region"),
    ],
)
def test_an_instance_is_excluded_for_a_reason(name: str, reason: str) -> None:
    """The reason is what an operator reads."""
    instance = next(item for item in CONFIG.instances if item.name == name)
    assert reason == exclusion(CHAT, instance, SITES[instance.site])
    assert may_serve(CHAT, instance, SITES) is (not reason)


def test_every_stage_agrees() -> None:
    """Merging, steering, resources and the simulator come to the same instances."""
    layout = build_layout(CONFIG, CONFIG.instances)
    (service,) = layout.services
    assert {1, 2, 3, 4} == set(service.reasons)
    assert [0] == usable_instances(CONFIG, CHAT, client_site="north")
    assert [] == list(_services_on_many_sites(CONFIG)), "no other site may serve it"
    assert () == unserved(CONFIG)
    without = CONFIG.model_copy(update={"instances": CONFIG.instances[1:]})
    assert (CHAT,) == unserved(without)


def test_a_device_serves_itself_alone() -> None:
    """Whatever its model."""
    device = CONFIG.instances[0].model_copy(update={"site": "phones"})
    assert is_reachable(device, SITES, client_site="phones")
    assert not is_reachable(device, SITES, client_site="north")
    assert is_reachable(CONFIG.instances[0], SITES, client_site="phones")
