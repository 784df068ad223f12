"""The fleet's memory: reports in, a frozen view out; names are checked, `now` is an argument.

Bounded by the configuration: instances, sites and services that it does not name are refused.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

from controlplane.config import Config, Instance, SiteKind
from controlplane.config.eligibility import may_serve
from controlplane.errors import ReportError
from controlplane.fleet import plausibility
from controlplane.fleet.batteries import Batteries
from controlplane.fleet.instances import InstanceState
from controlplane.fleet.paths import Paths
from controlplane.fleet.promises import PromiseBook, promised_limits
from controlplane.fleet.rates import unaccounted
from controlplane.fleet.site_figures import (
    client_shares,
    site_charge,
    site_power,
    tariff_view,
    with_copies,
)
from controlplane.fleet.standing import InstanceSettings, Seen, Standing
from controlplane.fleet.steps import Steps, collect, finish
from controlplane.fleet.traffic import Traffic
from controlplane.fleet.view import OUT_OF_SERVICE, BatteryView, FleetView, InstanceView, Phase
from controlplane.model import (
    InstanceReport,
    LatencyReport,
    PathReport,
    Reading,
    Report,
    ScrapeFailure,
    SiteReport,
    Source,
    TariffReport,
    TrafficReport,
    WakeReport,
)

ROUND_SHARE = 0.9
"""Part of the Envoys' load period after which demand is estimated again."""

CUT_OFF = 2.0
"""Load periods without a word of a device's Envoy after which its link counts as having been away.
"""

STEP = 200
"""Instances that are looked at between two pauses: some five milliseconds."""

_SERVING = frozenset({Phase.UNKNOWN, Phase.STARTING, Phase.LIVE, Phase.STALE, Phase.QUARANTINED})


class FleetState:
    """What is true of the fleet, as far as reports say.

    Attributes:
        stirred_at: when a report last said more than that an Envoy has no requests; -inf if none
            ever did.
    """

    def __init__(self, config: Config, *, now: float) -> None:
        settings = InstanceSettings.of(config)
        # At a cold start nothing is new: everything must serve at once.
        self._instances = {
            instance.name: InstanceState(instance, settings, now=now, ramp=False)
            for instance in sorted(config.instances, key=lambda one: one.name)
        }
        self._paths = Paths(config)
        self._traffic = Traffic()
        self._site_reports: dict[str, SiteReport] = {}
        self._batteries: dict[str, Batteries] = {}
        self._tariffs: dict[str, TariffReport] = {}
        self._promises = PromiseBook()
        self._clients: dict[str, int] | None = None
        self.stirred_at = -math.inf
        self._index(config, finish(_served_by(config)))

    def _index(self, config: Config, serves: Mapping[str, tuple[str, ...]]) -> None:
        self._config = config
        self._sites = {site.name: site for site in config.sites}
        self._services = frozenset(service.name for service in config.services)
        self._promises.reconfigure(
            promised_limits([(s.name, s.slo.ttft, s.slo.latency) for s in config.services])
        )
        self._round = ROUND_SHARE * config.envoy.load_period
        self._expiry = config.steering.expiry
        self._serves = serves

    def reconfigure(self, config: Config, *, now: float, ramp: bool = True) -> None:
        """Receive a new configuration; what is known of everything that remains is kept.

        An instance whose site, address, model or engine changed is a new one, which rises to its
        share slowly if *ramp*.
        """
        finish(self.reconfigure_in_steps(config, now=now, ramp=ramp))

    def reconfigure_in_steps(self, config: Config, *, now: float, ramp: bool = True) -> Steps[None]:
        """Do what `reconfigure` does, with a pause after every few milliseconds of work.

        Reports may be applied in a pause, under the previous configuration, which holds until the
        last step. Neither a view nor another configuration may be taken in one.
        """
        former, settings = self._instances, InstanceSettings.of(config)
        renamed: set[str] = set()

        def state_of(instance: Instance) -> InstanceState:
            state = former.get(instance.name)
            if state is not None and _identity(state.instance) == _identity(instance):
                state.reconfigure(instance, settings)
                return state
            if state is not None:
                renamed.add(instance.name)
            return InstanceState(instance, settings, now=now, ramp=ramp)

        serves = yield from _served_by(config)
        instances = sorted(config.instances, key=lambda one: one.name)
        states = yield from collect(((one.name, state_of(one)) for one in instances), size=STEP)
        self._index(config, serves)
        self._instances = states
        self._traffic.forget(renamed)
        self._paths.reconfigure(config)
        self._traffic.retain(sites=self._sites, services=self._services, instances=self._instances)
        self._site_reports = {
            site: report for site, report in self._site_reports.items() if site in self._sites
        }
        self._tariffs = {k: tariff for k, tariff in self._tariffs.items() if k in self._sites}
        self._batteries = {
            site: batteries
            for site, batteries in self._batteries.items()
            if site in self._sites and self._sites[site].kind is SiteKind.DEVICE
        }
        if self._clients is not None:
            self.set_clients(self._clients)

    def set_clients(self, clients: Mapping[str, int]) -> None:
        """Set how many Envoys of each site are connected; absent sites have none."""
        self._clients = {
            site: count for site, count in clients.items() if site in self._sites and count > 0
        }

    def apply(self, report: Report, *, now: float) -> None:
        """Apply *report*; one older than its source's last is dropped in silence.

        Raises:
            ReportError: it names what the configuration does not, or says what cannot be.
        """
        match report:
            case InstanceReport():
                state = self._instance(report.instance)
                observed = self._traffic.observe(report.instance, now=now)
                state.apply(report, now=now, observed=observed)
            case TrafficReport():
                self._apply_traffic(report, now)
            case ScrapeFailure():
                self._instance(report.instance).fail(report)
            case WakeReport():
                plausibility.require_instant(report.at, now=now, oldest=math.inf)
                self._instance(report.instance).wake(report)
            case PathReport():
                self._require("site", report.from_site, self._sites)
                self._require("site", report.to_site, self._sites)
                plausibility.require_instant(report.at, now=now, oldest=self._expiry)
                plausibility.require_path(report)
                self._paths.apply(report)
            case SiteReport():
                self._apply_site(report, now)
            case LatencyReport():
                self._require("site", report.site, self._sites)
                self._require("service", report.service, self._services)
                plausibility.require_instant(report.at, now=now, oldest=self._expiry)
                self._promises.count_latencies(report)
            case TariffReport():
                self._apply_tariff(report, now)
        if not isinstance(report, TrafficReport) or report.is_busy:
            self.stirred_at = now

    def _instance(self, name: str) -> InstanceState:
        state = self._instances.get(name)
        if state is None:
            self._require("instance", name, self._instances)
        assert state is not None  # noqa: S101 -- the line above has raised
        return state

    @staticmethod
    def _require(kind: str, name: str, known: Collection[str]) -> None:
        """Raise ReportError for a name that the configuration does not have.

        The nearest name is not looked for: in a fleet of thousands that takes a tenth of a second,
        for each report of an agent that goes on reporting what was removed.
        """
        if name not in known:
            raise ReportError(f"the configuration has no {kind} {name[:64]!r}")

    def _apply_traffic(self, report: TrafficReport, now: float) -> None:
        self._require("site", report.site, self._sites)
        self._require("service", report.service, self._services)
        rtt = 0.0
        if report.instance:
            target = self._instance(report.instance).instance.site
            rtt = self._paths.rtt(report.site, target)
        plausibility.require_instant(report.at, now=now, oldest=self._expiry)
        plausibility.require_traffic(report)
        self._traffic.apply(
            report, rtt=rtt, shortest=self._round, cut_off=self._was_cut_off(report)
        )
        self._promises.count_failures(report)

    def _was_cut_off(self, report: TrafficReport) -> bool:
        """Return whether a device's link was away while it counted what *report* says.

        Its own model, which answers meanwhile, is at the same site.
        """
        if self._sites[report.site].kind is not SiteKind.DEVICE or not report.instance:
            return False
        if self._instance(report.instance).instance.site == report.site:
            return False
        unheard = max(report.interval, report.late)
        return unheard > CUT_OFF * self._config.envoy.load_period

    def _apply_site(self, report: SiteReport, now: float) -> None:
        self._require("site", report.site, self._sites)
        plausibility.require_instant(report.at, now=now, oldest=self._expiry)
        plausibility.require_site(report)
        site = self._sites[report.site]
        if site.kind is SiteKind.DEVICE:
            batteries = self._batteries.setdefault(site.name, Batteries())
            batteries.apply(report, floor=site.battery.floor)
        last = self._site_reports.get(report.site)
        if last is None or report.at > last.at:
            self._site_reports[report.site] = report

    def _apply_tariff(self, report: TariffReport, now: float) -> None:
        self._require("site", report.site, self._sites)
        plausibility.require_instant(report.at, now=now, oldest=self._config.steering.tariff_expiry)
        plausibility.require_tariff(report)
        last = self._tariffs.get(report.site)
        if last is None or report.at > last.at:
            self._tariffs[report.site] = report

    def view(self, *, now: float) -> FleetView:
        """Return what is true at *now*."""
        return finish(self.view_in_steps(now=now))

    def view_in_steps(self, *, now: float) -> Steps[FleetView]:
        """Return what is true at *now*, with a pause after every few milliseconds of work.

        Reports may be applied in a pause: what has not been looked at by then is a little newer
        than *now*, as with clocks that differ. `reconfigure` may not be called in one.
        """
        states = self._instances.items()
        standings = yield from collect(
            ((name, self._standing(name, state, now)) for name, state in states), size=STEP
        )
        serving = [one for one in standings.values() if one.phase in _SERVING]
        if serving and all(one.ramp < 1 for one in serving):
            # No one is there to take the rest: a fleet that starts as a whole serves at once.
            standings = {name: _at_full(one) for name, one in standings.items()}
        batteries = {
            site: each.view(now=now, expiry=self._expiry) for site, each in self._batteries.items()
        }
        instances = yield from collect(
            (
                (name, self._with_copies(state, state.view(standings[name], now=now), batteries))
                for name, state in states
            ),
            size=STEP,
        )
        self._end_starts(instances)
        traffic = yield from self._traffic.view_in_steps(now=now, expiry=self._expiry)
        outcomes = yield from self._traffic.outcomes.view_in_steps(now=now)
        # What is asleep is silent, and says nothing of the others.
        heard = [
            standings[name]
            for name, state in states
            if state.heard_at is not None and standings[name].phase is not Phase.ASLEEP
        ]
        demand = self._traffic.demand(now=now, expiry=self._expiry, clients=self._clients)
        self._add_own_accounts(demand, now)
        yield
        return FleetView(
            at=now,
            config=self._config,
            instances=instances,
            paths=self._paths.view(now=now),
            demand=demand,
            traffic=traffic,
            power=site_power(instances, self._site_reports, now=now, expiry=self._expiry),
            battery=site_charge(batteries, self._site_reports, now=now, expiry=self._expiry),
            batteries=batteries,
            latencies=self._promises.counts(),
            promises=self._promises.view(now=now),
            tariffs={
                site: tariff_view(report)
                for site, report in self._tariffs.items()
                if now - report.at <= self._config.steering.tariff_expiry
            },
            counted=self._traffic.counted(now=now),
            outcomes=outcomes,
            served=self._traffic.served(),
            clients=dict(self._clients or {}),
            frozen=bool(heard) and all(one.silent for one in heard),
        )

    def is_out(self, name: str, *, now: float) -> bool:
        """Return whether *name* says that it must get nothing, and is believed."""
        state = self._instances.get(name)
        return state is not None and self._standing(name, state, now).phase is Phase.NOT_READY

    def _end_starts(self, instances: Mapping[str, InstanceView]) -> None:
        """End starts of which another instance of the same site and model has come.

        One that stands for a group of pods is never itself started.
        """
        asleep = [each for each in instances.values() if each.cold_start is not None]
        if not any(each.cold_start and each.cold_start.pending for each in asleep):
            return
        came: dict[tuple[str, str], float] = {}
        for each in instances.values():
            if each.phase not in OUT_OF_SERVICE:
                key = (each.instance.site, each.instance.model)
                came_at = self._instances[each.name].came_at
                came[key] = max(came.get(key, -math.inf), came_at)
        for each in asleep:
            at = came.get((each.instance.site, each.instance.model), -math.inf)
            self._instances[each.name].end_start(at=at)

    def _standing(self, name: str, state: InstanceState, now: float) -> Standing:
        observed = self._traffic.observe(name, now=now)
        state.watch(observed, now=now)
        return state.standing(now=now, seen=Seen(self._traffic.answered_at(name), observed))

    def _with_copies(
        self, state: InstanceState, shown: InstanceView, batteries: Mapping[str, BatteryView]
    ) -> InstanceView:
        """Return *shown* with the devices it stands for: their Envoys, else agents."""
        site = self._sites.get(shown.instance.site)
        if site is None or site.kind is not SiteKind.DEVICE:
            return shown
        count = (self._clients or {}).get(site.name) or state.sources.devices
        return with_copies(shown, count, batteries.get(site.name))

    def _add_own_accounts(self, demand: dict[tuple[str, str], Reading], now: float) -> None:
        """Estimate the demand of services that no Envoy reports from the instances' counters.

        Who sent a request is not in them: it is spread over sites by their connected Envoys, else
        evenly; on a device only the device itself can have sent it.
        """
        reported = {service for _, service in demand}
        silent = self._services - reported
        if not silent:
            return
        own: dict[str, tuple[float, float, float]] = {}
        for name, state in self._instances.items():
            services = [service for service in self._serves[name] if service in silent]
            at = state.heard_at
            if (
                not services
                or at is None
                or state.sources.arrivals is None
                or now - at > self._expiry
            ):
                continue
            seen = self._traffic.observe(name, now=now)
            parts = len(services)
            observed = seen.rate if seen else 0.0
            for service in services:
                came, sent, newest = own.get(service, (0.0, 0.0, at))
                own[service] = (
                    came + state.sources.arrivals / parts,
                    sent + observed / parts,
                    max(newest, at),
                )
        shares = client_shares(self._config.sites, self._clients)
        for service, (came, sent, at) in own.items():
            rate = unaccounted(came, sent)
            for site, share in shares.items():
                demand[site, service] = Reading(rate * share, Source.SCRAPE, at)


def _served_by(config: Config) -> Steps[dict[str, tuple[str, ...]]]:
    """Return instance -> the services that it may serve."""
    sites = {site.name: site for site in config.sites}
    return collect(
        (
            (one.name, tuple(s.name for s in config.services if may_serve(s, one, sites)))
            for one in config.instances
        ),
        size=STEP,
    )


def _identity(instance: Instance) -> tuple[str, ...]:
    return (instance.site, instance.address, instance.model, str(instance.engine))


def _at_full(standing: Standing) -> Standing:
    if standing.phase is Phase.STARTING:
        return replace(standing, phase=Phase.LIVE, ramp=1.0, reason="")
    return replace(standing, ramp=1.0)
