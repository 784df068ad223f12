"""Feeds of energy prices: each site checked by itself, nothing taken from a broken one."""

from __future__ import annotations

import pytest

from controlplane.errors import ReportError
from controlplane.model import Source, TariffReport
from controlplane.telemetry.tariffs import parse_tariffs

SITES = ("cloud", "edge")


def parse(text: str) -> tuple[list[TariffReport], tuple[str, ...]]:
    """Read *text* as the feed of two sites."""
    return parse_tariffs(text, origin="feed.yaml", sites=SITES, at=7.0)


def test_yaml_and_json_are_read() -> None:
    """Sites of other fleets, and keys that mean nothing here, are left out."""
    wanted = [
        TariffReport("cloud", Source.FEED, 7.0, 0.21, 310.0),
        TariffReport("edge", Source.FEED, 7.0, None, 24.0),
    ]
    document = (
        '{"updated": "12:00", "sites": {"cloud": {"price": 0.21, "carbon": 310, "zone": "DE"},'
        ' "edge": {"carbon": 24}, "moon": {"price": 1}}}'
    )
    assert parse(document) == (wanted, ())
    assert parse("sites:\n  cloud: {price: 0.21, carbon: 310}\n  edge: {carbon: 24}\n") == (
        wanted,
        (),
    )


def test_energy_with_a_negative_price_counts_as_free() -> None:
    """Markets have it at times; paid consumption would be no reason to burn it."""
    assert parse("sites: {cloud: {price: -0.05}}")[0][0].price == 0.0


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{price: .nan}", "price is nan"),
        ("{price: .inf}", "price is inf"),
        ("{price: cheap}", "price is not a number"),
        ("{price: true}", "price is not a number"),
        ("{carbon: -1}", "carbon is -1"),
        ("{carbon: 50000}", "it lies between 0 and 5000"),
        ("{price: 0.2, carbon: 99999}", "carbon is 99999"),
        ("[0.2]", "is not a mapping"),
        ("{}", "says neither price nor carbon"),
    ],
)
def test_a_wrong_row_leaves_the_others(row: str, reason: str) -> None:
    """The site whose row is wrong keeps what it had."""
    reports, rejected = parse(f"sites:\n  cloud: {row}\n  edge: {{price: 0.3}}\n")
    assert [each.site for each in reports] == ["edge"]
    assert len(rejected) == 1
    assert rejected[0].startswith("cloud: ")
    assert reason in rejected[0]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "sites: 3", "sites: {}", "sites: {moon: {price: 1}}", "sites: {cloud", "<html>"],
)
def test_what_is_no_feed_is_an_error(text: str) -> None:
    """A page of an error, an empty file, a file half written."""
    with pytest.raises(ReportError):
        parse(text)


def test_a_feed_has_a_largest_size() -> None:
    """A page without end costs no more than that."""
    with pytest.raises(ReportError, match="more than"):
        parse("#" * 1_000_001)
