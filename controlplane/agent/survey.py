"""One round of the agent: what was scraped and seen since the last, as messages to send; pure.

An instance's own word on its utilisation and power beats what the machine says of itself: several
instances may share a machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controlplane.agent.exporters import Exported
from controlplane.agent.gpus import GpuState
from controlplane.agent.machine import MachineState
from controlplane.agent.probes import Measured
from controlplane.model import InstanceReport, ScrapeFailure, Signal
from controlplane.wire.cats.telemetry.v1 import telemetry_pb2 as pb

Message = pb.InstanceReport | pb.PathReport | pb.SiteReport


@dataclass(frozen=True, slots=True)
class Item:
    """One report, its time of measurement on the agent's monotonic clock."""

    at: float
    message: Message


@dataclass(frozen=True, slots=True)
class Local:
    """What the agent knows of an instance beside it."""

    engine: str
    gpus: tuple[GpuState, ...] = ()
    """Those that it uses."""


@dataclass(frozen=True, slots=True)
class MachineSnapshot:
    """What is true of the whole machine now."""

    at: float
    machine: MachineState
    gpus: tuple[GpuState, ...] = ()
    training: float | None = None
    """Share of the machine that training jobs take, as they or metrics say."""
    processes: float | None = None
    """Share of its processors that processes of training jobs take."""
    power: float | None = None
    """Draw of the machine in watts, from the best source."""
    battery: float | None = None
    mains: bool = False
    """Whether there is a battery that is not in use."""
    pressure: float | None = None
    gpu_utilisation: float | None = None
    """As an exporter says it, where the driver does not."""
    gpu_memory: float | None = None


def draw_of(
    machine: MachineState, exported: Exported, gpus: Iterable[GpuState], *, idle: float
) -> float | None:
    """Return the whole machine's draw in watts; None if no sensor says of any part.

    Each part counts once, from the best source that says of it: what we read beats an exporter.

    Args:
        machine: our look at the processors or the battery.
        exported: what exporters say.
        gpus: as their driver says.
        idle: what no sensor sees.
    """
    for battery, discharge in (
        (machine.battery, machine.power),
        (exported.battery, exported.power),
    ):
        if battery is not None and discharge is not None:
            return discharge  # of the whole machine already
    processors = exported.power if machine.power is None else machine.power
    watts = [gpu.power for gpu in gpus if gpu.power is not None]
    accelerators = sum(watts) if watts else exported.gpu_power
    if processors is None and accelerators is None:
        return None
    return (processors or 0.0) + (accelerators or 0.0) + idle


def build_items(
    results: Iterable[InstanceReport | ScrapeFailure],
    paths: Iterable[Measured],
    around: MachineSnapshot,
    *,
    local: Mapping[str, Local],
    reports_power: bool = True,
) -> list[Item]:
    """Build the reports of one round.

    Args:
        results: of scrapes since the last round, on the agent's clock.
        paths: probes since the last round.
        around: the machine.
        local: the agent's instances by name.
        reports_power: whether the machine's draw is the site's.
    """
    items = [_instance(result, around, local.get(result.instance)) for result in results]
    items += [_path(measured) for measured in paths]
    site = pb.SiteReport()
    if reports_power and around.power is not None:
        site.power = around.power
    if around.battery is not None:
        site.battery = around.battery
    # A report without a charge says that the battery is not in use any longer.
    if site.HasField("power") or site.HasField("battery") or around.mains:
        items.append(Item(around.at, site))
    return items


def _instance(
    result: InstanceReport | ScrapeFailure, around: MachineSnapshot, local: Local | None
) -> Item:
    engine = local.engine if local else ""
    if isinstance(result, ScrapeFailure):
        failure = pb.InstanceReport(instance=result.instance, engine=engine, failure=result.reason)
        return Item(result.at, failure)
    own = machine_signals(around, local)
    signals = {**own, **result.signals}
    if Signal.TRAINING in own:
        # An engine that knows of no job beside it does not prove that there is none.
        signals[Signal.TRAINING] = max(signals[Signal.TRAINING], own[Signal.TRAINING])
    message = pb.InstanceReport(
        instance=result.instance,
        engine=engine,
        signals={signal.value: value for signal, value in signals.items()},
        missing=[signal.value for signal in result.missing],
        not_ready=not result.ready,
        not_ready_reason="" if result.ready else result.not_ready_reason,
    )
    return Item(result.at, message)


def machine_signals(around: MachineSnapshot, local: Local | None) -> dict[Signal, float]:
    """Return what the machine adds to an instance's own signals."""
    gpus = local.gpus if local is not None else ()
    signals: dict[Signal, float] = {}
    busy = [gpu.utilisation for gpu in gpus if gpu.utilisation is not None]
    full = [gpu.memory for gpu in gpus if gpu.memory is not None]
    watts = [gpu.power for gpu in gpus if gpu.power is not None]
    utilisation = max(busy) if busy else around.gpu_utilisation
    memory = max(full) if full else around.gpu_memory
    signals[Signal.UTILISATION] = around.machine.cpu if utilisation is None else utilisation
    signals[Signal.MEMORY] = around.machine.memory if memory is None else memory
    if watts:
        signals[Signal.POWER] = sum(watts)
    pressure = around.machine.pressure if around.machine.pressure is not None else around.pressure
    if pressure is not None:
        signals[Signal.PRESSURE] = pressure
    training = _training(around, gpus)
    if training is not None:
        signals[Signal.TRAINING] = training
    return signals


def _training(around: MachineSnapshot, gpus: Iterable[GpuState]) -> float | None:
    """Return what training takes of an instance: of its own GPUs where their driver says so."""
    taken = [gpu.training for gpu in gpus if gpu.training is not None]
    # A job that computes on GPUs keeps a processor busy too, which slows no one on the GPU.
    watched = sum(taken) / len(taken) if taken else around.processes
    return max((each for each in (around.training, watched) if each is not None), default=None)


def _path(measured: Measured) -> Item:
    message = pb.PathReport(to_site=measured.site, bandwidth=measured.bandwidth or 0.0)
    if measured.rtt is not None:
        message.rtt.FromNanoseconds(round(measured.rtt * 1e9))
    return Item(measured.at, message)


@dataclass(slots=True)
class Outbox:
    """Reports that one control plane has not received yet, bounded in age and number."""

    keep: float
    """Seconds that a report is worth sending."""
    most: int = 10_000
    dropped: int = 0
    """Reports that were too old or too many."""
    _items: list[Item] = field(default_factory=list)

    def put(self, items: Iterable[Item], *, now: float) -> None:
        """Add *items*; what is too old or too much goes, oldest first."""
        before = len(self._items)
        fresh = [item for item in self._items if now - item.at <= self.keep]
        added = list(items)
        self._items = [*fresh, *added][-self.most :]
        self.dropped += before + len(added) - len(self._items)

    def take(self) -> list[Item]:
        """Remove everything out, oldest first."""
        items, self._items = self._items, []
        return items

    def give_back(self, items: Iterable[Item], *, now: float) -> None:
        """Put back what could not be sent."""
        newer, self._items = self._items, list(items)
        self.put(newer, now=now)

    def __len__(self) -> int:
        return len(self._items)


def build_batch(
    items: Iterable[Item], *, agent: pb.Agent | None, sequence: int, now: float, unix_now: float
) -> pb.ReportBatch:
    """Build a batch; the age of each report is what counts, whatever the wall clock did since.

    Args:
        items: in the order of their measurement.
        agent: who reports, in the first batch of a stream.
        sequence: of this batch in its stream.
        now: on the clock of the items.
        unix_now: the same instant on the wall clock.
    """
    batch = pb.ReportBatch(sequence=sequence)
    if agent is not None:
        batch.agent.CopyFrom(agent)
    sent_at = round(unix_now * 1e9)
    batch.sent_at.FromNanoseconds(sent_at)
    for item in items:
        item.message.measured_at.FromNanoseconds(sent_at - round(max(0.0, now - item.at) * 1e9))
        match item.message:
            case pb.InstanceReport():
                batch.instances.append(item.message)
            case pb.PathReport():
                batch.paths.append(item.message)
            case pb.SiteReport():
                batch.sites.append(item.message)
    return batch
