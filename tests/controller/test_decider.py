"""Which plans of others may be served."""

from __future__ import annotations

import pytest

from controlplane.controller.decider import covers, fit
from testbed.fakes.fleets import make_config, make_plan

PLACES = {"a": ("north", "10.0.0.1:1"), "b": ("cloud", "10.0.0.2:1")}


@pytest.mark.parametrize(
    ("instances", "sites", "served"),
    [
        pytest.param(PLACES, ("north", "cloud", "phones"), True, id="its own"),
        pytest.param(
            {**PLACES, "x": ("north", "10.6.6.6:1")}, ("north", "cloud", "phones"), False,
            id="an instance more",
        ),
        pytest.param(
            {"a": ("cloud", "10.0.0.1:1"), "b": PLACES["b"]}, ("north", "cloud", "phones"), False,
            id="an instance moved",
        ),
        pytest.param(PLACES, ("north", "cloud"), False, id="a site less"),
    ],
)  # fmt: skip
def test_a_plan_of_another_fleet_is_not_served(
    instances: dict[str, tuple[str, str]], sites: tuple[str, ...], served: bool
) -> None:
    """It comes over the bus or from the disk, and addresses come from the configuration alone."""
    weights = dict.fromkeys(instances, 1)
    plan = make_plan(make_config(instances=instances), {("chat", site): weights for site in sites})

    assert served == covers(plan, make_config(instances=PLACES))


def test_what_fits_of_a_plan_is_served_and_the_rest_decided() -> None:
    """A pair that the plan lacks, or that names what the configuration lacks, is one's own."""
    config = make_config()
    names = [instance.name for instance in config.instances]
    keys = [(service.name, site.name) for service in config.services for site in config.sites]
    own = make_plan(config, {key: {names[0]: 1} for key in keys})
    whole = make_plan(config, {key: {names[1]: 1} for key in keys})
    partial = make_plan(config, {key: {names[1]: 1} for key in keys[1:]})
    strange = make_plan(config, {keys[0]: {"gone": 1}, **{key: {names[1]: 1} for key in keys[1:]}})

    assert whole is fit(whole, own, config)
    for plan in (partial, strange):
        fitted = fit(plan, own, config)
        assert covers(fitted, config)
        assert fitted.assignments[keys[0]] == own.assignments[keys[0]]
        assert fitted.assignments[keys[1]] == whole.assignments[keys[1]]
        assert fitted.version not in (own.version, plan.version)
