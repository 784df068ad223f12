"""Demand: calm where it is steady, quick where it changes."""

from collections.abc import Mapping

import numpy as np
import pytest

from controlplane.model import Reading, Source
from controlplane.steering.demand import DemandFilter

PAIR = ("near", "chat")


def observe(
    demand: DemandFilter,
    rates: Mapping[tuple[str, str], float],
    at: float,
    clients: Mapping[str, int] | None = None,
) -> None:
    """Have Envoys report these rates at *at*."""
    readings = {pair: Reading(rate, Source.ENVOY, at) for pair, rate in rates.items()}
    demand.observe(readings, clients=clients, now=at)


def feed(demand: DemandFilter, rates: list[float], start: float = 0.0) -> float:
    """Count one second after the other; give the estimate."""
    for second, rate in enumerate(rates):
        observe(demand, {PAIR: rate}, start + second)
    filled = demand.fill(("chat",), ("near",), clients={}, completions=0.0, capacity=0.0)
    return float(filled[0, 0])


def poisson(mean: float, seconds: int) -> list[float]:
    """Draw counts."""
    return [float(n) for n in np.random.default_rng(3).poisson(mean, seconds)]


def test_noise_is_averaged() -> None:
    """After a minute the estimate is much nearer than a count."""
    assert pytest.approx(20.0, rel=0.1) == feed(DemandFilter(), poisson(20, 60))


@pytest.mark.parametrize("after", [5.0, 80.0])
def test_a_step_is_followed_within_three_seconds(after: float) -> None:
    """What chance does not explain is believed at once."""
    demand = DemandFilter()
    feed(demand, poisson(20, 60))

    found = feed(demand, [after] * 3, start=60.0)

    assert abs(found - after) < 0.2 * abs(after - 20.0)


@pytest.mark.parametrize("rate", [0.3, 1.0, 5.0])
def test_the_rates_of_many_small_clients_stand_still(rate: float) -> None:
    """Of fifty clients one always has a lucky second; its rate is not another one for it."""
    demand = DemandFilter()
    pairs = [(f"site-{number}", "chat") for number in range(50)]
    source = np.random.default_rng(5)
    worst = []
    for second in range(300):
        counts = source.poisson(rate, len(pairs)).astype(float)
        observe(demand, dict(zip(pairs, counts, strict=True)), float(second))
        if second >= 60:
            worst.append(np.abs(demand.rates.value - rate).max())

    # Counts of 20 s have an error of sqrt(rate / 20), averages that fade a smaller one.
    assert np.mean(worst) < 3.0 * np.sqrt(rate / 20.0)


def test_what_is_always_uneven_is_averaged() -> None:
    """Counts that scatter three times as much as chance would are no change each time."""
    demand = DemandFilter()
    counts = np.random.default_rng(7).negative_binomial(10, 1 / 3, 600).astype(float)
    found = [feed(demand, [count], start=float(second)) for second, count in enumerate(counts)]

    error = np.sqrt(np.mean((np.array(found[60:]) - 20.0) ** 2))
    # Averages over 20 s of what varies by 60: sqrt(60 / 39) at best.
    assert error < 1.5 * np.sqrt(60.0 / 39.0)


@pytest.mark.parametrize(("before", "after"), [(0.3, 6.0), (5.0, 30.0), (30.0, 4.0)])
def test_what_uneven_clients_change_is_followed(before: float, after: float) -> None:
    """However uneven counts are, a rate of several times as much is noticed within seconds."""
    demand = DemandFilter()
    even = np.random.default_rng(11).poisson(before, 90) * np.tile([0.5, 1.5], 45)
    feed(demand, [float(count) for count in even])

    found = feed(demand, [after] * 5, start=90.0)

    assert abs(found - after) < 0.25 * abs(after - before)


def test_many_seldom_clients_are_not_taken_for_more_demand() -> None:
    """A pair is reported from its first request on; the seconds before it count as well."""
    source = np.random.default_rng(13)
    rates = 0.05 * source.pareto(1.5, 900)
    total = rates.sum()
    demand = DemandFilter()
    asked: set[int] = set()
    for second in range(90):
        counts = source.poisson(rates).astype(float)
        asked |= set(np.flatnonzero(counts).tolist())
        found = {(f"site-{n % 180}", f"service-{n // 180}"): counts[n] for n in sorted(asked)}
        observe(demand, found, float(second), clients={f"site-{n}": 1 for n in range(180)})

        if second >= 10:
            assert 0.75 * total < demand.rates.value.sum() < 1.25 * total


@pytest.mark.parametrize("rate", [4.0, 8.0, 50.0])
def test_clients_that_begin_after_silence_are_believed_at_once(rate: float) -> None:
    """Four requests in the first second are no trickle, however long the Envoy was idle."""
    demand = DemandFilter()
    for second in range(60):
        demand.observe({}, clients={"near": 1}, now=float(second))

    assert pytest.approx(rate) == feed(demand, [rate], start=60.0)


def total(demand: DemandFilter) -> float:
    """Return the requests a second of all pairs."""
    filled = demand.fill(
        ("chat", "code"), ("near", "far"), clients={}, completions=0.0, capacity=0.0
    )
    return float(filled.sum())


def test_clients_that_went_are_forgotten_and_those_that_reconnect_are_not() -> None:
    """A site without Envoys asks for nothing; one whose Envoys are replaced asks as before."""
    demand = DemandFilter()
    both = {("near", "chat"): 20.0, ("far", "chat"): 30.0}
    for second in range(60):
        away = 30 <= second < 40 or second >= 45
        rates = {pair: rate for pair, rate in both.items() if pair[0] == "near" or not away}
        observe(demand, rates, float(second))

        if second in (39, 44, 59):
            assert pytest.approx(50.0, rel=0.01) == total(demand)
    observe(demand, {PAIR: 20.0}, 60.0)

    assert pytest.approx(20.0, rel=0.01) == total(demand)


def test_what_was_known_stays_while_nothing_counts() -> None:
    """Streams of all Envoys that end at once are an outage of reports, not of clients."""
    demand = DemandFilter()
    feed(demand, [20.0] * 30)
    for second in range(30, 300):
        demand.observe({}, now=float(second))

    assert pytest.approx(20.0) == feed(demand, [])


def test_an_envoys_word_ends_the_guess_of_its_services_demand() -> None:
    """What instances' counters left over was split over all sites; only one of them asks."""
    demand = DemandFilter()
    guess = {(site, "chat"): Reading(6.0, Source.SCRAPE, 0.0) for site in ("near", "far")}
    demand.observe({**guess, ("near", "code"): Reading(5.0, Source.ENVOY, 0.0)}, now=0.0)
    observe(demand, {("near", "code"): 5.0, PAIR: 5.0}, 1.0)

    assert total(demand) < 5.0 + 6.5


def test_what_an_earlier_process_knew_lasts_until_envoys_had_time_to_report() -> None:
    """After a restart some Envoys report at once and others dial again."""
    before = DemandFilter()
    pairs = [(site, "chat") for site in ("near", "far")]
    observe(before, dict.fromkeys(pairs, 20.0), 0.0)
    demand = DemandFilter()
    demand.remember(before.memory(now=40.0), now=100.0)

    found = {}
    for second in range(101, 121):
        observe(demand, {PAIR: 20.0}, float(second))
        found[second] = total(demand)

    assert pytest.approx(40.0, rel=0.01) == found[101] == found[110]
    assert pytest.approx(20.0, rel=0.01) == found[120]


def test_clients_of_many_sites_that_begin_together_are_believed() -> None:
    """A load test after a quiet minute is no coincidence of lucky seconds."""
    demand = DemandFilter()
    pairs = [(f"site-{n}", "chat") for n in range(200)]
    clients = {site: 1 for site, _ in pairs}
    for second in range(60):
        demand.observe({}, clients=clients, now=float(second))
    observe(demand, dict.fromkeys(pairs, 2.0), 60.0, clients)

    assert pytest.approx(400.0) == demand.rates.value.sum()


def test_reports_of_ten_seconds_are_not_taken_for_seconds() -> None:
    """As clients of other makes send them: what comes first covers the silence before it."""
    demand = DemandFilter()
    pairs = [(f"site-{n}", "chat") for n in range(20)]
    found = []
    for second in range(40):
        at = float(second - second % 10)
        readings = {pair: Reading(2.0, Source.ENVOY, at) for pair in pairs} if at else {}
        demand.observe(readings, clients={site: 1 for site, _ in pairs}, now=float(second))
        found.append(float(demand.rates.value.sum()))

    assert pytest.approx(40.0) == found[10] == found[39]


def test_after_an_outage_the_first_site_that_returns_does_not_erase_the_others() -> None:
    """They have as long to return as after a restart."""
    demand = DemandFilter()
    pairs = [(f"site-{n}", "chat") for n in range(10)]
    for second in range(100):
        back = 10 if second < 30 else max(0, second - 59)
        observe(demand, dict.fromkeys(pairs[:back], 20.0), float(second))

        if second >= 5:
            assert pytest.approx(200.0) == demand.rates.value.sum()


def test_where_everyone_is_idle_no_cold_fleet_is_assumed() -> None:
    """The busy clients left; those that stay ask for nothing."""
    demand = DemandFilter()
    for second in range(60):
        rates = {PAIR: 0.0, **({("far", "chat"): 20.0} if second < 30 else {})}
        observe(demand, rates, float(second))
    filled = demand.fill(("chat",), ("near", "far"), clients={}, completions=0.0, capacity=500.0)

    assert filled.sum() < 1e-3


def test_the_same_reading_counts_once() -> None:
    """A view that is older than the report does not add evidence."""
    demand = DemandFilter()
    for now in range(10):
        demand.observe({PAIR: Reading(10.0, Source.ENVOY, 0.0)}, now=float(now))

    assert 10.0 == feed(demand, [])


@pytest.mark.parametrize(
    ("completions", "clients", "expected"),
    [
        pytest.param(12.0, {"near": 3, "far": 1}, [9.0, 3.0], id="completions by Envoys"),
        pytest.param(12.0, {}, [6.0, 6.0], id="completions evenly"),
        pytest.param(0.0, {}, [20.0, 20.0], id="half of the capacity"),
    ],
)
def test_without_readings_something_sensible_is_assumed(
    completions: float, clients: dict[str, int], expected: list[float]
) -> None:
    """What instances complete, else half of what they are believed to sustain."""
    filled = DemandFilter().fill(
        ("chat",), ("near", "far"), clients=clients, completions=completions, capacity=80.0
    )

    assert pytest.approx(expected) == list(filled[0])
