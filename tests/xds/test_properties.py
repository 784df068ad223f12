"""Laws that hold for every interleaving of what a stream is fed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controlplane.xds.snapshot import Snapshot
from controlplane.xds.stream import MAX_IN_FLIGHT
from controlplane.xds.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from testbed.fakes.xds import make_snapshot
from tests.xds.client import BAD, PairedClient

NAMES = ["a", "b", "c", "d"]
names = st.sets(st.sampled_from(NAMES))
contents = st.sampled_from(["1", "2", "3", BAD])
good = st.sampled_from(["1", "2", "3"])
WILDCARD_TYPES = (CLUSTER, LISTENER)
NAMED_TYPES = (ENDPOINT, ROUTE)


def views(content: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, dict[str, str]]]:
    """Draw the resources of a view."""
    each = st.dictionaries(st.sampled_from(NAMES), content)
    return st.fixed_dictionaries(dict.fromkeys((*WILDCARD_TYPES, *NAMED_TYPES), each))


class AnyInterleaving(RuleBasedStateMachine):
    """Publish, subscribe, reconnect and answer in any order; then let everything settle."""

    delta = False

    def __init__(self) -> None:
        super().__init__()
        self.client = PairedClient(delta=self.delta)
        self.published: dict[str, dict[str, str]] = {}
        self.snapshot: Snapshot = make_snapshot({})

    @initialize(view=views(contents))
    def start(self, view: dict[str, dict[str, str]]) -> None:
        """Connect to what is published."""
        self._take(view)
        self.client.connect(self.snapshot)
        for type_url in WILDCARD_TYPES:
            self.client.subscribe(type_url, set(), wildcard=True)

    def _take(self, view: dict[str, dict[str, str]]) -> None:
        self.published = view
        self.snapshot = make_snapshot(view)

    @rule(view=views(contents))
    def publish(self, view: dict[str, dict[str, str]]) -> None:
        """Publish a view that may hold bad resources."""
        self._take(view)
        self.client.stream.publish(self.snapshot)

    @rule(type_url=st.sampled_from(NAMED_TYPES), wanted=names)
    def subscribe(self, type_url: str, wanted: set[str]) -> None:
        """Change what is wanted of a named type."""
        if wanted or type_url in self.client.types:
            self.client.subscribe(type_url, wanted)

    @rule(wanted=names)
    def name_clusters_beside_the_wildcard(self, wanted: set[str]) -> None:
        """Name clusters on demand while subscribed to all."""
        self.client.subscribe(CLUSTER, wanted, wildcard=True)

    @rule()
    def drain(self) -> None:
        """Let the server write."""
        self.client.drain()

    @rule()
    def answer(self) -> None:
        """Let the client handle one response."""
        self.client.take_one()

    @rule(eager=st.booleans())
    def reconnect(self, eager: bool) -> None:
        """Break the stream and open another."""
        self.client.connect(self.snapshot, eager=eager)

    @rule(view=views(good), eager=st.booleans())
    def publish_and_reconnect(self, view: dict[str, dict[str, str]], eager: bool) -> None:
        """Change everything while the client is unreachable."""
        self._take(view)
        self.client.connect(self.snapshot, eager=eager)

    @rule()
    def isolate(self) -> None:
        """Let the time pass after which refused company is taken apart."""
        self.client.stream.isolate()

    @rule()
    def settle(self) -> None:
        """Let the client catch up: it holds the newest of everything it can take."""
        self.client.settle()
        for type_url, view in self.client.types.items():
            served = self.published[type_url]
            wanted = {
                name: content
                for name, content in served.items()
                if (view.wildcard or name in view.wanted) and content != BAD
            }

            assert wanted == {name: view.held.get(name) for name in wanted}, type_url
        received = len(self.client.received)
        self.client.stream.isolate()
        self.client.stream.publish(make_snapshot(self.published))
        self.client.settle()

        assert received == len(self.client.received)

    @rule(view=views(good))
    def settle_on_a_good_view(self, view: dict[str, dict[str, str]]) -> None:
        """With nothing to refuse, the client ends with exactly what is published, no more."""
        self._take(view)
        self.client.stream.publish(self.snapshot)
        self.client.settle()
        for type_url, view_held in self.client.types.items():
            wanted = {
                name: content
                for name, content in view[type_url].items()
                if view_held.wildcard or name in view_held.wanted
            }
            held = view_held.held
            if not self.delta and type_url in NAMED_TYPES:
                # Absence in a response is no removal here: the cluster or listener goes instead.
                held = {name: content for name, content in held.items() if name in view[type_url]}

            assert wanted == held, type_url
        if ENDPOINT in self.client.types:
            served = self.client.types[ENDPOINT].wanted.intersection(view[ENDPOINT])

            assert not self.client.warming.intersection(served)

    @invariant()
    def few_are_in_flight(self) -> None:
        """Nothing queues."""
        for state in self.client.stream._states.values():
            assert len(state.in_flight) <= (MAX_IN_FLIGHT if self.delta else 1)


@pytest.mark.parametrize("delta", [pytest.param(False, id="sotw"), pytest.param(True, id="delta")])
def test_any_interleaving_ends_at_the_newest_acceptable_resources(delta: bool) -> None:
    """Whatever happened, the client ends with the newest it can take, and then there is silence."""

    class Machine(AnyInterleaving):
        pass

    Machine.delta = delta
    case: Any = Machine.TestCase
    case.settings = settings(
        max_examples=100,
        stateful_step_count=25,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    case().runTest()
