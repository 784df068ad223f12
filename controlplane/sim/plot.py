"""Outcomes as pictures: latency distribution, shares over time, load per site; ratios by fleet.

Writes SVG itself: line charts need no plotting library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from controlplane.sim.random_suite import FleetResult
from controlplane.sim.results import Outcome

Floats = NDArray[np.float64]
_COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#555555",
    "#a05d9e", "#2f4b7c", "#7f9c3b", "#c44e52", "#17becf", "#bcbd22", "#1b1b1b", "#9c9ede",
)  # fmt: skip
_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 760, 300, 64, 36, 190, 40


def draw(title: str, outcomes: Sequence[Outcome]) -> str:
    """Return an SVG document: one distribution for all outcomes, then shares and load of each."""
    charts = [_distribution(outcomes)]
    for outcome in outcomes:
        charts.append(_over_time(f"{outcome.policy}: share of requests by site", outcome.shares))
        charts.append(_over_time(f"{outcome.policy}: requests inside by site", outcome.load))
    return _page(title, charts)


def draw_ratios(title: str, results: Sequence[FleetResult]) -> str:
    """Return an SVG document: how ratios of mean and 99th percentile spread over random fleets.

    A line that is left of 1 for a fraction of the fleets is better there than what it is
    compared with.
    """
    charts = []
    for figure in ("mean", "p99"):
        series = {
            "to the oracle": [item.ratio(figure, "oracle") for item in results],
            "to fixed weights": [item.ratio(figure, "capacity") for item in results],
            "to best fixed shares": [item.ratio(figure, "optimum") for item in results],
            "best fixed to oracle": [item.bound(figure) for item in results],
        }
        lines = {}
        for name, values in series.items():
            ordered = np.sort(np.array(values))
            fraction = np.arange(1, len(ordered) + 1) / len(ordered)
            lines[f"{name}, worst {ordered[-1]:.2f}"] = (ordered, fraction)
        head = f"{figure}: fraction of fleets with a ratio of at most"
        charts.append(_chart(head, lines, x_end=2.0, y_end=1.0))
    return _page(title, charts)


def _page(title: str, charts: Sequence[str]) -> str:
    height = 40 + _HEIGHT * len(charts)
    body = "".join(
        f'<g transform="translate(0 {40 + _HEIGHT * place})">{chart}</g>'
        for place, chart in enumerate(charts)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>'
        f'<text x="{_LEFT}" y="26" font-size="16">{escape(title)}</text>{body}</svg>\n'
    )


def _distribution(outcomes: Sequence[Outcome]) -> str:
    quantiles = np.linspace(0.0, 0.999, 300)
    lines = {
        outcome.policy: (np.quantile(outcome.latencies, quantiles), quantiles)
        for outcome in outcomes
        if len(outcome.latencies)
    }
    # One runaway policy shall not flatten the others: the axis ends at four times the best p99.
    best = min((float(np.quantile(x, 0.99)) for x, _ in lines.values()), default=1.0)
    return _chart("Latency (s): part of requests answered within", lines, x_end=4 * best, y_end=1.0)


def _over_time(title: str, series: Mapping[str, Floats]) -> str:
    lines = {
        name: (np.arange(len(values), dtype=np.float64), values) for name, values in series.items()
    }
    top = max((float(values.max(initial=0)) for values in series.values()), default=1.0)
    length = max((len(values) for values in series.values()), default=1)
    return _chart(title, lines, x_end=float(length), y_end=top or 1.0)


def _chart(
    title: str, lines: Mapping[str, tuple[Floats, Floats]], *, x_end: float, y_end: float
) -> str:
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    parts = [f'<text x="{_LEFT}" y="{_TOP - 10}" font-weight="bold">{escape(title)}</text>']
    for tick in range(5):
        part = tick / 4
        x, y = _LEFT + part * width, _TOP + (1 - part) * height
        parts.append(
            f'<path d="M{_LEFT} {y:.1f}h{width}M{x:.1f} {_TOP}v{height}" stroke="#ddd"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{part * y_end:.3g}</text>'
            f'<text x="{x:.1f}" y="{_TOP + height + 16}" text-anchor="middle">'
            f"{part * x_end:.3g}</text>"
        )
    for place, (name, (xs, ys)) in enumerate(lines.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        shown = xs <= x_end
        points = " ".join(
            f"{_LEFT + x / x_end * width:.1f},{_TOP + (1 - min(y / y_end, 1)) * height:.1f}"
            for x, y in zip(xs[shown], ys[shown], strict=True)
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        )
        y = _TOP + 14 * place + 8
        parts.append(
            f'<path d="M{_LEFT + width + 10} {y - 4}h16" stroke="{colour}" stroke-width="3"/>'
            f'<text x="{_LEFT + width + 32}" y="{y}">{escape(name)}</text>'
        )
    return "".join(parts)
