"""The demo's story and what it claims: phases, what was seen in them, and whether that held.

Pure: records and snapshots in, claims out. A claim is judged on what was measured and says its
figures either way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from testbed.demo.records import Record, Summary, summarise
from testbed.demo.world import World


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the story."""

    name: str
    part: float
    """Of the whole time."""
    title: str
    settle: float = 0.4
    """Part of the phase that is left out of shares and latencies: steering is still moving."""


PHASES = (
    Phase("warm-up", 0.22, "the control plane learns how fast everything is", settle=0.5),
    Phase("before", 0.18, "all is well", settle=0.1),
    Phase("training", 0.22, "a training job takes part of the near edge"),
    Phase("after", 0.12, "the training job has ended", settle=0.5),
    Phase("edge dead", 0.08, "an edge was killed", settle=0.2),
    Phase("control plane dead", 0.08, "the control plane was killed (kill -9)", settle=0.0),
    Phase("control plane back", 0.10, "the control plane was started again", settle=0.0),
)


LONG_ENOUGH = 6.0
"""Seconds of a phase's settled part from which its figures count."""

Weights = Mapping[str, Mapping[str, Mapping[str, int]]]
"""Client site -> service -> address -> weight, as the Envoys have them."""


@dataclass(slots=True)
class Chapter:
    """A phase that was played."""

    phase: Phase
    started_at: float
    planned: float
    """Seconds."""
    ended_at: float | None = None
    weights_at_start: Weights = field(default_factory=dict)
    weights_at_end: Weights = field(default_factory=dict)

    def holds(self, record: Record, *, settled: bool) -> bool:
        """Whether *record* was started in this phase, or in its settled part."""
        begin = self.started_at + (self.planned * self.phase.settle if settled else 0.0)
        end = math.inf if self.ended_at is None else self.ended_at
        return begin <= record.started_at < end


@dataclass(frozen=True, slots=True)
class Cell:
    """One service from one client site in one phase."""

    summary: Summary
    """Of the settled part; of all where the phase was interrupted."""
    sent: int
    failed: int
    """Both of the whole phase."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Something the story says, and whether it held."""

    text: str
    held: bool
    figures: str
    hard: bool = True
    """False where the phase was too short for the figures to mean much."""


def tabulate(
    records: Sequence[Record], chapters: Sequence[Chapter]
) -> dict[tuple[str, str], dict[str, Cell]]:
    """Return (service, client site) -> phase -> what was seen."""
    table: dict[tuple[str, str], dict[str, Cell]] = {}
    for pair in dict.fromkeys((record.service, record.site) for record in records):
        own = [record for record in records if (record.service, record.site) == pair]
        table[pair] = {}
        for chapter in chapters:
            whole = [record for record in own if chapter.holds(record, settled=False)]
            unfinished = chapter.ended_at is None
            settled = [r for r in whole if unfinished or chapter.holds(r, settled=True)]
            failed = sum(not record.answered for record in whole)
            table[pair][chapter.phase.name] = Cell(summarise(settled), len(whole), failed)
    return table


def judge(
    world: World,
    records: Sequence[Record],
    chapters: Sequence[Chapter],
    *,
    rejected: int,
) -> list[Claim]:
    """Say what held, for the phases that were played to their end.

    Args:
        world: who was to train and to die.
        records: every request.
        chapters: the phases played.
        rejected: configurations that the Envoys rejected.
    """
    played = {chapter.phase.name: chapter for chapter in chapters if chapter.ended_at is not None}
    table = tabulate(records, chapters)
    claims: list[Claim] = []
    calm = [played[name] for name in ("warm-up", "before", "training", "after") if name in played]
    dead_at = next((c.started_at for c in chapters if c.phase.name == "edge dead"), math.inf)
    if calm:
        alive = [record for record in records if record.ended_at < dead_at]
        claims.append(
            _all_answered("while nothing was dead, every request was answered", alive, calm)
        )
    if {"before", "training"} <= played.keys():
        during = played["training"]
        hard = during.planned * (1 - during.phase.settle) >= LONG_ENOUGH
        claims += _judge_training(world, table, hard)
    if "edge dead" in played:
        claims += _judge_dead_edge(world, records, played["edge dead"])
    if "control plane dead" in played:
        chapter = played["control plane dead"]
        claims.append(
            _all_answered("without a control plane, every request was answered", records, [chapter])
        )
        moved = moved_share(chapter.weights_at_start, chapter.weights_at_end)
        claims.append(Claim("the Envoys kept the last shares", moved == 0.0, f"moved {moved:.1%}"))
    if "control plane back" in played:
        chapter = played["control plane back"]
        claims.append(
            _all_answered(
                "the restart went unnoticed: every request was answered", records, [chapter]
            )
        )
        moved = moved_share(chapter.weights_at_start, chapter.weights_at_end)
        claims.append(
            Claim(
                "it took up where it left off",
                moved <= 0.2,
                f"shares moved {moved:.1%} from the kill until the new one was connected",
            )
        )
    claims.append(Claim("no Envoy rejected a configuration", rejected == 0, f"{rejected} rejected"))
    return claims


def _all_answered(text: str, records: Sequence[Record], chapters: Sequence[Chapter]) -> Claim:
    own = [
        record
        for record in records
        if any(chapter.holds(record, settled=False) for chapter in chapters)
    ]
    failed = [record for record in own if not record.answered]
    return Claim(
        text, bool(own) and not failed, f"{len(failed)} of {len(own)} failed{_kinds(failed)}"
    )


def _kinds(failed: Iterable[Record]) -> str:
    kinds: dict[str, int] = {}
    for record in failed:
        kind = record.error[:120] or str(record.status)
        kinds[kind] = kinds.get(kind, 0) + 1
    return "".join(f"; {count} x {kind}" for kind, count in sorted(kinds.items()))


def _judge_training(
    world: World, table: Mapping[tuple[str, str], Mapping[str, Cell]], hard: bool
) -> list[Claim]:
    claims = []
    falls: dict[str, float] = {}
    for service in world.services:
        cells = table.get((service, world.near))
        if cells is None:
            continue
        before, during = cells["before"].summary, cells["training"].summary
        there = before.shares.get(world.trains, 0.0), during.shares.get(world.trains, 0.0)
        falls[service] = there[0] - there[1]
        if service in world.sensitive:
            limit = world.latency_limits[service]
            # A machine that lost a share works slower on whatever stays: that much is physics,
            # and what exceeds it would be queueing that the tolerant service should have spared.
            slower = 1.0 / (1.0 - world.training)
            claims.append(
                Claim(
                    f"{service} kept its latency",
                    during.mean <= 1.15 * slower * before.mean and during.p99 <= limit,
                    f"mean {_ms(before.mean)} -> {_ms(during.mean)}, p99 {_ms(before.p99)} -> "
                    f"{_ms(during.p99)}, promised {_ms(limit)}; its machine became {slower:.2f} x "
                    f"slower",
                    hard,
                )
            )
    tolerant = {name: fall for name, fall in falls.items() if name not in world.sensitive}
    sensitive = {name: fall for name, fall in falls.items() if name in world.sensitive}
    if tolerant and sensitive:
        figures = ", ".join(f"{name} {fall:+.0%}" for name, fall in falls.items())
        claims.insert(
            0,
            Claim(
                f"the delay-tolerant service made room at {world.trains}",
                min(tolerant.values()) >= max(0.2, max(sensitive.values()) + 0.1),
                f"share given up there: {figures}",
                hard,
            ),
        )
    return claims


def _judge_dead_edge(world: World, records: Sequence[Record], chapter: Chapter) -> list[Claim]:
    lost = [
        record
        for record in records
        if not record.answered and record.started_at < chapter.started_at <= record.ended_at
    ]
    wrong = [record for record in lost if record.instance != world.dies]
    return [
        _all_answered(
            "every request that left after the edge had died was answered", records, [chapter]
        ),
        Claim(
            "only answers already half identified by the dead edge were cut",
            not wrong,
            f"{len(lost)} cut{_kinds(lost)}",
        ),
    ]


def moved_share(before: Weights, after: Weights) -> float:
    """Return the largest part of one service's requests from one site that now goes elsewhere."""
    moved = [0.0]
    for site in before.keys() | after.keys():
        old, new = before.get(site, {}), after.get(site, {})
        for service in old.keys() | new.keys():
            shares = _shares(old.get(service, {})), _shares(new.get(service, {}))
            addresses = shares[0].keys() | shares[1].keys()
            apart = (abs(shares[0].get(a, 0.0) - shares[1].get(a, 0.0)) for a in addresses)
            moved.append(math.fsum(apart) / 2 if shares[0] and shares[1] else 1.0)
    return max(moved)


def _shares(weights: Mapping[str, int]) -> dict[str, float]:
    total = sum(weights.values())
    return {address: weight / total for address, weight in weights.items()} if total else {}


def _ms(seconds: float) -> str:
    return "-" if math.isnan(seconds) else f"{seconds * 1000:.0f} ms"
