"""What a request costs in money and carbon at each instance, from prices as they are known now.

Everything is turned into one currency, and that into seconds of delay by ``steering.energy_value``:
a unit of currency is worth as much whichever service spends it, so a service whose delay costs a
tenth goes ten times as far for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.config import RequestPrice, RequestTokens
from controlplane.fleet.view import FleetView, InstanceView
from controlplane.model import Signal
from controlplane.steering.latency import Array
from controlplane.steering.layout import Layout

JOULES_PER_KWH = 3.6e6
GRAMS_PER_KG = 1e3
TOKENS_PRICED = 1e6
"""Tokens that a price per token is stated for."""


@dataclass(frozen=True, slots=True)
class Money:
    """Of one request of each service at each instance; all are (services, instances)."""

    energy: Array
    """Currency: its energy at the site's price."""
    grams: Array
    """Of CO2, whatever they cost."""
    carbon: Array
    """Currency: *grams* at the price of carbon."""
    price: Array
    """Currency: what is charged for each request and its tokens."""

    @property
    def spent(self) -> Array:
        """Return the currency that a request costs in all."""
        return self.energy + self.carbon + self.price


def price_requests(view: FleetView, layout: Layout, *, watts: Array, work: Array) -> Money:
    """Return what requests cost at the prices of *view*.

    Args:
        view: the fleet now, with the tariffs of its sites.
        layout: of the same fleet.
        watts: (instances,): above idle, for each unit of work.
        work: (services, instances): work of a request.
    """
    kwh = work * watts / JOULES_PER_KWH
    cost, carbon = _site_tariffs(view, layout)
    site = np.array(layout.site_of, dtype=np.intp)
    grams = kwh * carbon[site]
    return Money(
        energy=kwh * cost[site],
        grams=grams,
        carbon=grams * layout.config.steering.carbon_price / GRAMS_PER_KG,
        price=_charges(view, layout),
    )


def _site_tariffs(view: FleetView, layout: Layout) -> tuple[Array, Array]:
    """Return currency and grams of CO2 for a kilowatt-hour at each site, (sites,)."""
    cost, carbon = [], []
    for site in layout.config.sites:
        tariff = view.tariffs.get(site.name)
        price = None if tariff is None else tariff.price
        grams = None if tariff is None else tariff.carbon
        cost.append(site.power.price if price is None else price.value)
        carbon.append(site.power.carbon if grams is None else grams.value)
    return np.array(cost), np.array(carbon)


def _charges(view: FleetView, layout: Layout) -> Array:
    """Return the currency charged for a request of each service at each instance."""
    found: Array = np.zeros((len(layout.services), len(layout.instances)))
    own = [instance.price for instance in layout.instances]
    if not any(own) and not any(each.service.price for each in layout.services):
        return found
    shown = [view.instances[instance.name] for instance in layout.instances]
    for number, each in enumerate(layout.services):
        tokens: tuple[float, float] | None = None
        for column in each.columns:
            price = own[column] or each.service.price
            if price is None:
                continue
            if tokens is None:
                tokens = count_tokens(each.service.tokens, [shown[c] for c in each.columns])
            found[number, column] = charge(price, tokens)
    return found


def charge(price: RequestPrice, tokens: tuple[float, float]) -> float:
    """Return what a request with *tokens*, of its prompt and its answer, is charged."""
    prompt, output = tokens
    return (
        price.request + (price.input_tokens * prompt + price.output_tokens * output) / TOKENS_PRICED
    )


def count_tokens(
    configured: RequestTokens | None, instances: Sequence[InstanceView]
) -> tuple[float, float]:
    """Return the tokens of a request's prompt and answer: as configured, else as reported.

    Instances that serve several services report one mean over all of them; 0 if none reports any.
    """
    if configured is not None:
        return configured.input, configured.output
    sums = np.zeros(3)
    for instance in instances:
        rates = [
            instance.rates.get(signal)
            for signal in (Signal.PROMPT_TOKENS, Signal.OUTPUT_TOKENS, Signal.COMPLETED)
        ]
        if rates[2] is not None and rates[0] is not None and rates[1] is not None:
            sums += [rate.value for rate in rates if rate is not None]
    prompt, output, completed = sums.tolist()
    return (prompt / completed, output / completed) if completed > 0 else (0.0, 0.0)
