"""A plot is a well-formed picture of what was measured."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from controlplane.sim.plot import draw
from controlplane.sim.run import simulate
from controlplane.sim.scenario import parse_scenario

SVG = "{http://www.w3.org/2000/svg}"


def test_each_policy_has_a_distribution_shares_and_load() -> None:
    """One line for each policy, then one for each site, twice a policy."""
    scenario = parse_scenario("duration: 5s", file="s")
    outcomes = [simulate(scenario, name, seed=1) for name in ("capacity", "nearest")]

    root = ET.fromstring(draw("a < b", outcomes))

    sites = len(outcomes[0].shares)
    assert 2 + 2 * 2 * sites == len(list(root.iter(f"{SVG}polyline")))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "a < b" == texts[0]
    assert {"capacity", "nearest", "edge-00", "cloud"} <= set(texts)
