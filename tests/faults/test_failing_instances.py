"""Instances that fail, hang or reset among equal ones, with default settings: no black hole.

A short form always runs; ``make faults`` runs every fault with two and five instances, 10 and 50
requests a second, scraped and not, and writes the figures into docs/faults.md.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from testbed.fakes.faults import FAULTS, answers, hangs, hangs_after_headers, resets
from testbed.processes.failing_fleets import failing_fleet
from testbed.tools.failing_instances import Figures, measure, measure_bad_client
from testbed.tools.faults import write_row

pytestmark = pytest.mark.envoy

AT_ONCE = 3
"""Fleets that run beside each other in the long form."""
WARM_UP = 60.0
"""Seconds in the long form, over whose second half equal instances must share evenly."""
SHORT = {"404": (answers(404), 6.0), "hang": (hangs(), 1.0)}
"""Faults, and the seconds of calm before each."""

MOST_LOST: Mapping[str, float] = {
    "answers 404": 0.01, "answers 401": 0.01, "answers 400 with an HTML page": 0.01,
    "answers 500": 0.005, "answers 503": 0.005, "answers 429": 0.005,
    "answers 429 without Retry-After": 0.005, "hangs": 0.01, "hangs for 1 %": 0.01,
}  # fmt: skip
"""Part of the requests of 60 s; of answers that had begun, which no retry can help, a twentieth."""
MOST_SHARE: Mapping[str, float] = {
    "hangs": 0.02, "resets streams half-way": 0.02, "hangs for 1 %": 1.0,
    "hangs after its headers": 0.02,
}  # fmt: skip
"""Part of the attempts after 5 s; of the others 1 %."""
long_form = pytest.mark.skipif("CATS_FAULTS" not in os.environ, reason="`make faults` runs it")


@pytest.mark.timeout(600)
async def test_neither_errors_nor_silence_of_one_instance_of_two_lose_a_request(
    tmp_path: Path,
) -> None:
    """First it answers 404, then it hangs; before and after each, equal instances share evenly."""
    async with failing_fleet(tmp_path, count=2, scraped=False) as bed:
        found = {
            name: await measure(
                bed, fault, rate=20.0, warm_up=calm, seconds=6.0, recovery=90.0, patience=60.0
            )
            for name, (fault, calm) in SHORT.items()
        }
    assert found["404"].before == pytest.approx(0.5, abs=0.05)
    for figures in found.values():
        assert figures.lost == 0
        assert figures.share < 0.1
        assert figures.recovered_after < float("inf")


@pytest.mark.timeout(600)
async def test_answers_that_one_instance_of_two_does_not_end_draw_no_traffic_to_it(
    tmp_path: Path,
) -> None:
    """First it resets streams, then it hangs after its headers, which no time-out sees.

    After the first byte nothing can be tried again; what counts is that few more go there.
    """
    async with failing_fleet(tmp_path, count=2, scraped=False) as bed:
        found = [
            await measure(
                bed, fault, rate=20.0, warm_up=6.0, seconds=seconds, recovery=90.0, stream=True
            )
            for fault, seconds in ((resets(), 10.0), (hangs_after_headers(), 15.0))
        ]
    for figures, most in zip(found, (0.1, 0.2), strict=True):
        assert figures.share < most
        assert figures.recovered_after < float("inf")


@long_form
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scraped", [True, False], ids=["scraped", "unscraped"])
@pytest.mark.parametrize("rate", [10.0, 50.0])
@pytest.mark.parametrize("count", [2, 5])
async def test_one_instance_fails(count: int, rate: float, scraped: bool, tmp_path: Path) -> None:
    """Every fault, by itself, within the targets."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, name: str) -> Figures:
        folder = tmp_path / str(number)
        folder.mkdir()
        async with gate, failing_fleet(folder, count=count, scraped=scraped) as bed:
            return await measure(
                bed, FAULTS[name], rate=rate, stream="streams" in name, warm_up=WARM_UP
            )

    found = dict(
        zip(FAULTS, await asyncio.gather(*map(one, range(len(FAULTS)), FAULTS)), strict=True)
    )
    for name, figures in found.items():
        write_row(
            table="failing", fault=name, instances=count, rate=rate, scraped=scraped,
            sent=figures.sent, lost=figures.lost, share=figures.share,
            seconds=figures.recovered_after, before=figures.before, demand=figures.demand,
        )  # fmt: skip
    short = {
        name: figures
        for name, figures in found.items()
        if not 0.9 < figures.before * count < 1.1
        or figures.lost > MOST_LOST.get(name, 0.05) * figures.sent
        or figures.share > MOST_SHARE.get(name, 0.01)
        or figures.recovered_after > 30.0
    }
    assert {} == short


@long_form
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scraped", [True, False], ids=["scraped", "unscraped"])
@pytest.mark.parametrize("count", [2, 5])
async def test_a_client_asks_for_what_no_instance_has(
    count: int, scraped: bool, tmp_path: Path
) -> None:
    """The other clients lose nothing, and no share moves."""
    async with failing_fleet(tmp_path, count=count, scraped=scraped) as bed:
        figures = await measure_bad_client(bed, rate=10.0)
    write_row(
        table="client", instances=count, rate=10.0, scraped=scraped, sent=figures.sent,
        lost=figures.lost, before=figures.before, share=figures.during,
    )  # fmt: skip
    assert figures.lost == 0
    assert figures.during == pytest.approx(figures.before, abs=0.05)
