"""A plot is a well-formed picture of what was measured."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from controlplane.sim.plot import draw, draw_ratios
from controlplane.sim.random_suite import FleetResult
from controlplane.sim.results import Figures
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


def test_the_ratios_of_fleets_are_drawn_with_their_worst() -> None:
    """A line for each comparison, for mean and 99th percentile; what lies beyond has its number."""

    def result(number: int, ratio: float) -> FleetResult:
        one = Figures(100, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0)
        ours = Figures(100, ratio, ratio, ratio, ratio, 0.0, 1.0)
        others = ("capacity", "optimum", "policy_iteration", "oracle")
        figures = {"controlplane": ours, **dict.fromkeys(others, one)}
        return FleetResult(number, 0.5, (), figures, 0.0)

    root = ET.fromstring(draw_ratios("t", [result(n, 1 + n) for n in range(4)]))

    assert 8 == len(list(root.iter(f"{SVG}polyline")))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "to the oracle, worst 4.00" in texts
