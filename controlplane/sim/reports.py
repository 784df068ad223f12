"""What the control plane gets to hear: reports with a period, a delay, losses, noise and lies.

It reads engines and sidecars, and hands reports to anyone who listens; the listener never sees the
engines themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from controlplane.model import (
    COUNTERS,
    InstanceReport,
    PathReport,
    Report,
    ScrapeFailure,
    Signal,
    SiteReport,
    Source,
    TariffReport,
)
from controlplane.resources.histograms import histogram_bounds
from controlplane.sim.device_world import DeviceWorld
from controlplane.sim.devices import Device
from controlplane.sim.sidecars import Sidecar
from controlplane.sim.telemetry_settings import TARIFF_PERIOD, TelemetrySettings
from controlplane.sim.world import World


@dataclass(slots=True)
class _Lie:
    """Instances that report *factor* times their occupancy and latency from its beginning on."""

    factor: float
    base: dict[Signal, float]


_FALSIFIED = (
    Signal.RUNNING,
    Signal.WAITING,
    Signal.KV_USE,
    Signal.UTILISATION,
    Signal.LATENCY_SUM,
    Signal.QUEUE_SUM,
    Signal.TTFT_SUM,
)
_NOISY = (Signal.RUNNING, Signal.WAITING, Signal.KV_USE, Signal.UTILISATION)
_NOISY_SUMS = (Signal.LATENCY_SUM, Signal.QUEUE_SUM, Signal.TTFT_SUM)


class Telemetry:
    """Measures a world under way and sends reports to *listener* (report, now)."""

    def __init__(
        self,
        world: World,
        settings: TelemetrySettings,
        listener: Callable[[Report, float], None],
        *,
        seed: int,
        until: float,
    ) -> None:
        self._world = world
        self._settings = settings
        self._listener = listener
        self._until = until
        self._bounds = histogram_bounds(world.fleet.config)
        self._rng = np.random.default_rng((seed, 3))
        self._silent: set[int] = set()
        self._mute_envoys = False
        self._lies: dict[int, _Lie] = {}
        self._devices = world.devices if isinstance(world, DeviceWorld) else {}
        self._sidecars: dict[str, list[Sidecar]] = {}
        """Envoy -> what it balances."""
        for sidecar in world.sidecars:
            self._sidecars.setdefault(sidecar.envoy, []).append(sidecar)
        self._noisy_sums: list[dict[Signal, tuple[float, float]]] = [{} for _ in world.engines]
        """By engine: counter -> (true value last time, noisy value last time)."""

    def start(self) -> None:
        """Schedule all reports, each sender at a phase of its own."""
        world, settings = self._world, self._settings
        classes = {device.column for device in self._devices.values()}
        for index in range(len(world.engines)):
            if index in classes:
                continue
            phase = self._phase(settings.period)

            def report(now: float, index: int = index) -> None:
                self._report_instance(now, index)

            world.kernel.every(settings.period, report, start=phase)
        for device in self._devices.values():
            world.kernel.every(
                settings.period,
                partial(self._report_device, device),
                start=self._phase(settings.period),
            )
        for envoy in self._sidecars:
            phase = self._phase(settings.traffic_period)

            def traffic(now: float, envoy: str = envoy) -> None:
                self._report_traffic(now, envoy)

            world.kernel.every(settings.traffic_period, traffic, start=phase)
        world.kernel.every(settings.path_period, self._report_paths, start=0.0)
        if world.fleet.tariffs:
            world.kernel.every(TARIFF_PERIOD, self._report_tariffs, start=0.0)

    def _phase(self, period: float) -> float:
        return float(self._rng.random()) * period if self._settings.spread else 0.99 * period

    def silence(self, instances: Iterable[int], *, silent: bool, envoys: bool = False) -> None:
        """Make instances (and with *envoys* all Envoys) fall silent or speak again."""
        if silent:
            self._silent.update(instances)
        else:
            self._silent.difference_update(instances)
        if envoys:
            self._mute_envoys = silent

    def lie(self, now: float, instances: Collection[int], factor: float | None) -> None:
        """Make instances report *factor* times their load from now on; none ends it."""
        for index in instances:
            if factor is None:
                self._lies.pop(index, None)
            else:
                self._lies[index] = _Lie(factor, self._world.engines[index].signals(now))

    def _send(self, now: float, *reports: Report) -> None:
        """Send one message; what is in it is lost or delayed together."""
        settings = self._settings
        if now > self._until or (settings.loss and self._rng.random() < settings.loss):
            return

        def deliver(later: float, _: int) -> None:
            for report in reports:
                self._listener(report, later)

        if settings.delay > 0:
            self._world.kernel.at(now + settings.delay, deliver)
        else:
            deliver(now, 0)

    def _report_instance(self, now: float, index: int) -> None:
        engine = self._world.engines[index]
        if index in self._silent or now > self._until:
            return
        if not engine.alive:
            failure = ScrapeFailure(self._world.names[index], now, "connection refused")
            self._send(now, failure)
            return
        values = engine.signals(now)
        lie = self._lies.get(index)
        if lie is not None:
            for signal in _FALSIFIED:
                if signal in values:
                    start = lie.base[signal] if signal in COUNTERS else 0.0
                    values[signal] = start + lie.factor * (values[signal] - start)
        if self._settings.noise:
            self._disturb(index, values)
        wanted = self._settings.signals
        report = InstanceReport(
            instance=self._world.names[index],
            source=Source.SCRAPE,
            at=now,
            signals={signal: value for signal, value in values.items() if signal in wanted},
        )
        self._send(now, report)

    def _report_device(self, device: Device, now: float) -> None:
        """Report a device's battery and engine as the agent on it does, if its link is there."""
        device.charge_up(now)
        names, sites, column = self._world.names, self._world.sites, device.column
        has_agent = self._world.fleet.devices[sites[column]].agents
        if not has_agent or not device.linked or column in self._silent:
            return
        values = device.engine.signals(now)
        self._send(
            now,
            SiteReport(
                sites[column],
                Source.AGENT,
                now,
                battery=None if device.is_on_mains(now) else device.charge,
                reporter=device.envoy,
            ),
            InstanceReport(
                names[column],
                Source.AGENT,
                now,
                {signal: values[signal] for signal in self._settings.signals & values.keys()},
                ready=True,
                reporter=device.envoy,
            ),
        )

    def _disturb(self, index: int, values: dict[Signal, float]) -> None:
        """Blur gauges as they are and sums by their growth, so that counters still only grow."""
        noise = self._settings.noise
        for signal in _NOISY:  # in one order: the same seed draws the same for each
            if signal not in values:
                continue
            blurred = values[signal] * float(max(0.0, 1 + noise * self._rng.standard_normal()))
            values[signal] = min(blurred, 1.0) if signal is Signal.KV_USE else blurred
        sums = self._noisy_sums[index]
        for signal in _NOISY_SUMS:
            if signal not in values:
                continue
            before, shown = sums.get(signal, (0.0, 0.0))
            true = values[signal]
            grown = true - before if true >= before else true
            blur = float(max(0.0, 1 + noise * self._rng.standard_normal()))
            values[signal] = (shown if true >= before else 0.0) + grown * blur
            sums[signal] = (true, values[signal])

    def _report_traffic(self, now: float, envoy: str) -> None:
        device = self._devices.get(envoy)
        if device is not None and not device.linked:
            return
        seen = [
            report
            for sidecar in self._sidecars[envoy]
            for report in sidecar.traffic_reports(
                now, self._world.names, latency=self._settings.envoy_latency
            )
        ]
        times = [
            sidecar.latency_report(now, self._bounds)
            for sidecar in self._sidecars[envoy]
            if sidecar.times is not None
        ]
        if seen and not self._mute_envoys:
            self._send(now, *seen, *filter(None, times))

    def _report_tariffs(self, now: float) -> None:
        for site, tariff in self._world.fleet.tariffs.items():
            price, carbon = (float(each[0]) for each in tariff.at(np.array([now])))
            self._send(now, TariffReport(site, Source.FEED, now, price, carbon))

    def _report_paths(self, now: float) -> None:
        world = self._world
        seen: set[tuple[str, str]] = set()
        for sidecar in world.sidecars:
            for index, site in enumerate(world.sites):
                if (sidecar.site, site) in seen:
                    continue
                seen.add((sidecar.site, site))
                rtt = world.true_rtt(sidecar, index)
                if self._settings.noise:
                    rtt *= float(max(0.1, 1 + self._settings.noise * self._rng.standard_normal()))
                self._send(now, PathReport(sidecar.site, site, Source.AGENT, now, rtt))
