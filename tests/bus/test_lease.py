"""The lease: never two holders, and a successor within its time, whatever the clocks say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.bus.lease import DURATION, HESITATION, MARGIN, STAND_BACK, Lease


@dataclass
class Store:
    """A key that can be compared and set, as JetStream's."""

    holder: str | None = None
    revision: int = 0
    away: set[str] = field(default_factory=set)
    """Who cannot reach it."""


@dataclass
class Replica:
    """A lease with a clock of its own."""

    lease: Lease
    clock: Callable[[float], float]
    alive: bool = True
    warm: bool = True
    resigned: bool = False

    def step(self, store: Store, at: float) -> None:
        """Look, and write what is due."""
        now = self.clock(at)
        if not self.alive or self.lease.me in store.away:
            return
        self.lease.observe(store.holder, store.revision, now=now)
        attempt = self.lease.next_attempt(now=now, warm=self.warm, resigned=self.resigned)
        if attempt is None:
            return
        if attempt.revision != store.revision:
            self.lease.refused()
            return
        store.revision += 1
        store.holder = self.lease.me
        self.lease.granted(attempt, revision=store.revision)

    def holds(self, at: float) -> bool:
        """Return whether it decides."""
        return self.alive and self.lease.holds(now=self.clock(at))


def replicas(count: int = 3, **more: bool) -> dict[str, Replica]:
    """Make some, each with another zero of its clock."""
    return {
        name: Replica(Lease(name), lambda at, i=i: at + 1000.0 * i, **more)  # type: ignore[misc]
        for i, name in enumerate("abc"[:count])
    }


def run(
    fleet: dict[str, Replica], store: Store, start: float, end: float, *, period: float = 0.5
) -> list[tuple[float, list[str]]]:
    """Let all step every *period*; give who holds it after each step."""
    seen = []
    for step in range(round((end - start) / period)):
        at = start + step * period
        for replica in fleet.values():
            replica.step(store, at)
            holding = [name for name, each in fleet.items() if each.holds(at)]
            assert len(holding) <= 1, (at, holding)
        seen.append((at, holding))
    return seen


def test_the_first_that_asks_has_it_and_keeps_it() -> None:
    """Renewed by a third of its time, so that two lost renewals do no harm."""
    seen = run(replicas(), Store(), 0.0, 30.0)

    assert [["a"]] * 60 == [holding for _, holding in seen]


def test_a_successor_has_it_within_five_seconds() -> None:
    """After a holder that died the moment it had renewed."""
    fleet, store = replicas(), Store()
    run(fleet, store, 0.0, 10.0)
    fleet["a"].alive = False
    seen = run(fleet, store, 10.0, 20.0)
    gap = [at for at, holding in seen if not holding]

    assert ["b"] == seen[-1][1]
    assert len(gap) * 0.5 <= 5.0


def test_what_is_given_back_is_taken_at_once() -> None:
    """So a restart in good order has no gap."""
    fleet, store = replicas(), Store()
    run(fleet, store, 0.0, 5.0)
    fleet["a"].alive = False
    store.holder, store.revision = "", store.revision + 1
    seen = run(fleet, store, 5.0, 6.0)

    assert ["b"] == seen[0][1]


def test_who_has_heard_enough_goes_first() -> None:
    """A replica that has just started would decide on less."""
    fleet, store = replicas(), Store()
    run(fleet, store, 0.0, 5.0)
    fleet["a"].alive = False
    fleet["b"].warm = False
    seen = run(fleet, store, 5.0, 15.0)

    assert ["c"] == seen[-1][1]


def test_the_cold_lead_when_nobody_is_warm() -> None:
    """After a power cut of everything, some time later than else."""
    fleet, store = replicas(2, warm=False), Store("gone", 7)
    seen = run(fleet, store, 0.0, 12.0)
    first = next(at for at, holding in seen if holding)

    assert DURATION + MARGIN + HESITATION <= first <= DURATION + MARGIN + HESITATION + 1.0


def test_who_resigned_goes_last_and_leads_rather_than_none() -> None:
    """Those that resigned one after the other must not leave the fleet without a leader."""
    fleet, store = replicas(), Store()
    run(fleet, store, 0.0, 5.0)
    fleet["a"].resigned = True
    store.holder, store.revision = "", store.revision + 1
    assert ["b"] == run(fleet, store, 5.0, 10.0)[0][1]
    fleet["b"].resigned = fleet["c"].resigned = True
    store.holder, store.revision = "", store.revision + 1
    seen = run(fleet, store, 10.0, 20.0)
    gap = [at for at, holding in seen if not holding]

    assert len(gap) * 0.5 <= STAND_BACK + 1.0
    assert 1 == len(seen[-1][1])


def test_a_cold_replica_goes_before_one_that_resigned() -> None:
    """The one knows little, the other nothing that it could not hear itself."""
    fleet, store = replicas(2), Store()
    run(fleet, store, 0.0, 5.0)
    fleet["a"].resigned = True
    fleet["b"].warm = False
    store.holder, store.revision = "", store.revision + 1

    assert ["b"] == run(fleet, store, 5.0, 15.0)[-1][1]


def test_a_holder_that_is_cut_off_stops_before_another_begins() -> None:
    """It cannot know of the other, so it counts from before it asked."""
    fleet, store = replicas(), Store()
    run(fleet, store, 0.0, 5.0)
    store.away = {"a"}
    seen = run(fleet, store, 5.0, 20.0)  # asserts one holder at most
    store.away = set()
    after = run(fleet, store, 20.0, 25.0)

    assert ["b"] == seen[-1][1] == after[-1][1]


def test_a_store_that_was_away_finds_its_holder_again() -> None:
    """No one decides meanwhile, and no one else takes over for it."""
    fleet, store = replicas(1), Store()
    run(fleet, store, 0.0, 5.0)
    store.away = {"a"}
    away = run(fleet, store, 5.0, 15.0)
    store.away = set()
    after = run(fleet, store, 15.0, 16.0)

    assert [] == away[-1][1]
    assert ["a"] == after[0][1]


def test_an_old_answer_changes_nothing() -> None:
    """A node of the store that lags behind may answer a read."""
    lease = Lease("a")
    lease.observe("b", 9, now=0.0)
    lease.observe("", 8, now=1.0)

    assert "b" == lease.holder
    assert lease.next_attempt(now=2.0) is None


@given(
    st.lists(
        st.tuples(st.sampled_from(["die", "cut", "heal", "wait"]), st.sampled_from("abc")),
        max_size=40,
    ),
    st.lists(st.floats(0.95, 1.05), min_size=3, max_size=3),
)
def test_there_are_never_two(events: list[tuple[str, str]], speeds: list[float]) -> None:
    """Anyone who dies, comes back or is cut off, with clocks that run a twentieth fast or slow."""
    fleet, store, at = replicas(), Store(), 0.0
    for (name, replica), speed in zip(fleet.items(), speeds, strict=True):
        replica.clock = lambda now, s=speed, n=name: now * s + ord(n)  # type: ignore[misc]
    for what, name in events:
        match what:
            case "die":
                fleet[name].alive = False
            case "cut":
                store.away.add(name)
            case "heal":
                store.away.discard(name)
                if not fleet[name].alive:
                    fleet[name] = Replica(Lease(name + "'"), fleet[name].clock)
        run(fleet, store, at, at + 1.0, period=0.25)
        at += 1.0


@pytest.mark.parametrize("revision", [-1, 0])
def test_nothing_is_tried_before_a_look(revision: int) -> None:
    """What the store says is unknown until it is asked."""
    lease = Lease("a")
    if revision == 0:
        lease.observe(None, 0, now=5.0)

    assert (revision == 0) == (lease.next_attempt(now=6.0) is not None)
