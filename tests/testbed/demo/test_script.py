"""What the demo claims, judged on made-up records."""

from __future__ import annotations

import pytest

from testbed.demo.records import Record
from testbed.demo.script import PHASES, Chapter, Claim, judge, moved_share, tabulate
from testbed.demo.world import World, build_world

LENGTH = 100.0
STEADY = {"edge-north": {"chat": {"a": 3, "b": 1}}}


@pytest.fixture(scope="module")
def world() -> World:
    """Return the demo's world; nothing of it is started."""
    return build_world()


def make_chapters() -> list[Chapter]:
    """Return every phase, played to its end, with the Envoys' shares unmoved."""
    chapters, at = [], 0.0
    for phase in PHASES:
        seconds = phase.part * LENGTH
        chapters.append(Chapter(phase, at, seconds, at + seconds, STEADY, STEADY))
        at += seconds
    return chapters


def make_records(*, tolerant_stays: bool = False, chat_slows: bool = False) -> list[Record]:
    """Return ten requests a second of both services from the near edge, all answered."""
    chapters = make_chapters()
    records = []
    for tick in range(1000):
        at = tick / 10
        training = chapters[2].started_at <= at < chapters[3].started_at
        moved = "cloud-a" if training and not tolerant_stays else "north-a"
        slow = 1.0 if training and chat_slows else 0.2
        records.append(Record("summarise", "edge-north", at, 0.5, 0.5, 200, moved))
        records.append(Record("chat", "edge-north", at, slow, 0.1, 200, "north-a"))
    return records


def broken(claims: list[Claim]) -> list[str]:
    """Return the texts of the claims that did not hold."""
    return [claim.text for claim in claims if not claim.held]


def test_a_good_run_holds(world: World) -> None:
    """Every claim holds of a run in which everything went well."""
    assert [] == broken(judge(world, make_records(), make_chapters(), rejected=0))


@pytest.mark.parametrize(
    ("at", "status", "expected"),
    [
        pytest.param(10.0, 503, "while nothing was dead", id="calm"),
        pytest.param(76.0, 0, "every request that left after the edge", id="edge dead"),
        pytest.param(85.0, 503, "without a control plane", id="control plane dead"),
        pytest.param(95.0, 404, "the restart went unnoticed", id="control plane back"),
    ],
)
def test_one_lost_request_breaks_the_claim_of_its_phase(
    world: World, at: float, status: int, expected: str
) -> None:
    """A failure is held against the phase in which the request left."""
    lost = Record("chat", "edge-north", at, 0.1, 0.1, status)

    claims = judge(world, [*make_records(), lost], make_chapters(), rejected=0)

    assert 1 == len(broken(claims))
    assert broken(claims)[0].startswith(expected)


def test_answers_cut_by_the_dying_edge_are_distinguished_from_other_losses(world: World) -> None:
    """What the dead instance had begun to answer may be cut; nothing else may."""
    dies_at = make_chapters()[4].started_at
    half_told = Record("chat", "edge-north", dies_at - 0.1, 0.2, 0.05, 200, "south-a", error="cut")
    elsewhere = Record("chat", "edge-north", dies_at - 0.1, 0.2, 0.05, 200, "east-a", error="cut")

    fine = judge(world, [*make_records(), half_told], make_chapters()[4:], rejected=0)
    worse = judge(world, [*make_records(), elsewhere], make_chapters()[4:], rejected=0)

    assert [] == broken(fine)
    assert ["only answers already half identified by the dead edge were cut"] == broken(worse)


def test_a_tolerant_service_that_stays_breaks_its_claim(world: World) -> None:
    """Making room is measured, not assumed."""
    claims = judge(world, make_records(tolerant_stays=True), make_chapters(), rejected=0)

    assert ["the delay-tolerant service made room at north-a"] == broken(claims)


def test_a_sensitive_service_that_slows_down_breaks_its_claim(world: World) -> None:
    """Five times the latency is not keeping it."""
    claims = judge(world, make_records(chat_slows=True), make_chapters(), rejected=0)

    assert ["chat kept its latency"] == broken(claims)


def test_a_rejected_configuration_breaks_its_claim(world: World) -> None:
    """One rejection by one Envoy is enough."""
    claims = judge(world, make_records(), make_chapters(), rejected=1)

    assert ["no Envoy rejected a configuration"] == broken(claims)


def test_phases_that_were_not_played_claim_nothing(world: World) -> None:
    """An interrupted story is judged on what it had reported."""
    claims = judge(world, make_records(), make_chapters()[:1], rejected=0)

    assert 2 == len(claims)


def test_shares_are_of_the_settled_part_and_counts_of_all() -> None:
    """Latencies and shares leave out the start of a phase, counts leave out nothing."""
    chapter = Chapter(PHASES[2], 0.0, 10.0, 10.0)
    records = [
        Record("chat", "n", 1.0, 9.0, 9.0, 503),
        Record("chat", "n", 2.0, 1.0, 1.0, 200, "a"),
        Record("chat", "n", 8.0, 0.5, 0.5, 200, "b"),
    ]

    cell = tabulate(records, [chapter])["chat", "n"]["training"]

    assert (3, 1) == (cell.sent, cell.failed)
    assert {"b": 1.0} == cell.summary.shares
    assert 0.5 == cell.summary.mean


@pytest.mark.parametrize(
    ("after", "moved"),
    [
        pytest.param({"s": {"chat": {"a": 30, "b": 10}}}, 0.0, id="scale does not matter"),
        pytest.param({"s": {"chat": {"a": 1, "b": 1}}}, 0.25, id="a quarter went over"),
        pytest.param({"s": {"chat": {"c": 1}}}, 1.0, id="all others"),
        pytest.param({"s": {"chat": {}}}, 1.0, id="nowhere to go"),
        pytest.param({"s": {}}, 1.0, id="service gone"),
    ],
)
def test_moved_share_is_what_goes_elsewhere(
    after: dict[str, dict[str, dict[str, int]]], moved: float
) -> None:
    """The part that changed place, not the sum of the changes."""
    assert moved == moved_share({"s": {"chat": {"a": 3, "b": 1}}}, after)
