"""A day of tariffs, short: what can wait goes where energy is cheap, as plans said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controlplane.sim.results import Figures, Outcome
from controlplane.sim.run import run_trial
from controlplane.sim.tariff_case import draw_tariff_fleet, tariff_cases
from controlplane.sim.tariffs import Spent
from controlplane.sim.trial import Trial

FIGURES = Figures(1, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0)


@pytest.mark.parametrize("carbon", [False, True], ids=["tariffs", "carbon"])
def test_the_measures_are_ratios_to_what_ignores_prices(*, carbon: bool) -> None:
    """Money and grams are of what can wait, latency of what cannot."""

    def made(spent: Spent, said: Spent, mean: float) -> Outcome:
        return Outcome(
            "p",
            1,
            {},
            {("day", "chat"): replace(FIGURES, mean=mean)},
            (),
            spent={("day", "batch"): spent},
            predicted_spent={"batch": said},
        )

    runs = {
        "controlplane": made(Spent(0.6, 5.0), Spent(0.7, 5.5), 1.01),
        "controlplane:moneyless": made(Spent(1.0, 10.0), Spent(1.0, 10.0), 1.0),
    }
    values = [measure.of(runs) for measure in tariff_cases()[carbon].measures]

    assert values == pytest.approx([0.5, 1.01, 0.05] if carbon else [0.6, 1.01, 0.1])


def test_what_can_wait_costs_less_where_prices_count() -> None:
    """Over 80 seconds of three fleets, in which prices hardly change."""
    spent = {"": 0.0, ":moneyless": 0.0}
    for seed in (1, 2, 3):
        fleet = draw_tariff_fleet(seed, day=3600.0)
        trial = Trial("tariffs", fleet, 80.0, (("day", 20.0, 80.0),))
        runs = {name: run_trial(trial, f"controlplane{name}", seed=seed) for name in spent}
        for name, outcome in runs.items():
            spent[name] += outcome.spent["day", "batch"].money
        ours = runs[""]

        assert ours.predicted_spent["batch"].money == pytest.approx(
            ours.spent["day", "batch"].money, rel=0.2
        )
    assert spent[""] < 0.9 * spent[":moneyless"]
