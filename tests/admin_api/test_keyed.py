"""Differences of overviews: applied one after another they come to the same as the whole."""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from controlplane.admin_api.keyed import (
    apply_difference,
    find_difference,
    key_overview,
    round_briefly,
)
from controlplane.admin_api.live import LiveOverview
from controlplane.runtime.json_text import dump, dump_in_parts

names = st.text(min_size=1, max_size=3)
leaves = st.none() | st.integers() | st.booleans() | names | st.lists(st.integers(), max_size=3)
documents = st.dictionaries(
    names, st.recursive(leaves, lambda inner: st.dictionaries(names, inner, max_size=4)), max_size=5
)


@given(st.lists(documents, min_size=2, max_size=5))
def test_differences_lead_from_each_document_to_the_next(line: list[dict[str, Any]]) -> None:
    """Whatever is added, changed, removed or becomes unknown."""
    document = copy.deepcopy(line[0])
    for before, after in itertools.pairwise(line):
        apply_difference(document, copy.deepcopy(find_difference(before, after)))
        assert after == document


@given(documents)
def test_the_same_document_differs_by_nothing(document: dict[str, Any]) -> None:
    """A quiet fleet costs nothing."""
    assert {} == find_difference(document, copy.deepcopy(document))


@given(st.dictionaries(names, st.lists(st.integers(), max_size=500) | documents, max_size=5))
def test_a_document_in_parts_is_the_same_document(document: dict[str, Any]) -> None:
    """However large it is."""
    assert json.loads(dump(document)) == json.loads(dump_in_parts(document))


def make_overview(version: str = "c1", **instance: Any) -> dict[str, Any]:
    """Make an overview of one instance."""
    item = {"name": "a", "latency": 0.123456, "rate": 3.14159, "age": 0.8, "phase": "live"}
    return {
        "at": 7.0,
        "config": {"version": version},
        "sites": [{"name": "north", "running": 2.0}],
        "services": [{"name": "chat"}],
        "instances": [{**item, **instance}],
        "flows": {"chat": [{"from": "north", "rate": 1.23456, "to": [["a", 1.0]]}]},
        "latency": {"chat": {"north": [0.123456, None]}},
    }


def test_names_become_keys_and_figures_what_a_reader_sees() -> None:
    """So that noise in the fourth digit is no difference."""
    keyed = key_overview(make_overview())

    assert {"chat": {"north": {"a": 1.0}}} == keyed["shares"]
    assert {"chat": {"north": 1.23}} == keyed["rates"]
    assert {"chat": {"north": [0.123, None]}} == keyed["latency"]
    assert (0.123, 3.14, 0.0) == tuple(
        keyed["instances"]["a"][name] for name in ("latency", "rate", "age")
    )
    assert {} == find_difference(keyed, key_overview(make_overview(latency=0.12349, age=1.9)))
    assert (None, 0.000123) == (round_briefly(None), round_briefly(0.00012345))


def event(live: LiveOverview, seen: LiveOverview | None) -> tuple[str, Any]:
    """Return kind and document of the event for a page that has *seen*."""
    kind, _, data = live.event_after(seen).decode().strip().partition("\n")
    return kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_a_page_gets_the_whole_once_and_differences_then() -> None:
    """From whatever it has seen, though it read slowly; a new configuration comes whole."""
    first = LiveOverview(key_overview(make_overview()))
    second = LiveOverview(key_overview(make_overview(phase="stale")), first)
    third = LiveOverview(key_overview(make_overview(phase="expired")), second)
    other = LiveOverview(key_overview(make_overview("c2")), third)

    assert ("live", first.document) == event(first, None)
    assert ("change", {"instances": {"a": {"phase": "stale"}}}) == event(second, first)
    assert ("change", {"instances": {"a": {"phase": "expired"}}}) == event(third, first)
    assert b"" == third.event_after(third)
    assert ("live", other.document) == event(other, third)
