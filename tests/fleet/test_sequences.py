"""Whatever is reported, in whatever order, the view is one that steering can use."""

from __future__ import annotations

import math
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.config import (
    Config,
    Instance,
    Match,
    Model,
    Scrape,
    Service,
    ServiceModel,
    Site,
    SiteKind,
)
from controlplane.errors import ReportError
from controlplane.fleet import FleetState, FleetView, Phase
from controlplane.model import (
    InstanceReport,
    PathReport,
    Report,
    ScrapeFailure,
    Signal,
    SiteReport,
    Source,
    TrafficReport,
)

SITES = ("north", "phones", "elsewhere")
NAMES = ("a", "b", "c", "stranger")
SCRAPE = Scrape(url="http://127.0.0.1:1/metrics")


def make_config(count: int) -> Config:
    """Return an edge, a class of devices, and up to three instances."""
    places = (("a", "north"), ("b", "north"), ("c", "phones"))
    return Config(
        version=1,
        sites=(
            Site(name="north", kind=SiteKind.EDGE),
            Site(name="phones", kind=SiteKind.DEVICE),
        ),
        models=(Model(name="small"),),
        services=(
            Service(name="chat", match=(Match(path="/x"),), models=(ServiceModel(name="small"),)),
        ),
        instances=tuple(
            Instance(
                name=name, site=site, address="10.0.0.1:1", model="small",
                scrape=SCRAPE if name == "a" else None,
            )
            for name, site in places[:count]
        ),
    )  # fmt: skip


NUMBERS = st.one_of(st.floats(), st.floats(0, 100), st.integers(0, 1000).map(float))
MODEST = st.integers(0, 50).map(float)
VALUES = st.one_of(MODEST, MODEST, MODEST, NUMBERS)
INSTANTS = st.one_of(st.floats(-1.5, 1.5), st.floats(-40, 40), st.floats())
SOURCES = st.sampled_from([Source.AGENT, Source.SCRAPE, Source.ORCA])

REPORTS: st.SearchStrategy[Report] = st.one_of(
    st.builds(
        InstanceReport,
        instance=st.sampled_from(NAMES),
        source=SOURCES,
        at=INSTANTS,
        signals=st.dictionaries(st.sampled_from(list(Signal)), VALUES, max_size=6),
        ready=st.booleans(),
        missing=st.just((Signal.KV_USE,)),
        refused=st.just(()),
        aliases=st.just(()),
        not_ready_reason=st.just(""),
    ),
    st.builds(
        TrafficReport,
        envoy=st.sampled_from(["e1", "e2"]),
        site=st.sampled_from(SITES),
        service=st.sampled_from(["chat", "chta"]),
        instance=st.sampled_from(["", *NAMES]),
        at=INSTANTS,
        interval=st.one_of(st.just(1.0), VALUES),
        issued=VALUES,
        succeeded=VALUES,
        failed=VALUES,
        in_progress=VALUES,
        latency_sum=VALUES,
        latency_count=VALUES,
        ttft_sum=VALUES,
    ),
    st.builds(
        PathReport,
        from_site=st.sampled_from(SITES),
        to_site=st.sampled_from(SITES),
        source=SOURCES,
        at=INSTANTS,
        rtt=st.one_of(st.none(), VALUES),
        bandwidth=st.one_of(st.none(), VALUES),
    ),
    st.builds(
        SiteReport,
        site=st.sampled_from(SITES),
        source=SOURCES,
        at=INSTANTS,
        power=st.one_of(st.none(), VALUES),
        battery=st.one_of(st.none(), VALUES),
    ),
    st.builds(
        ScrapeFailure, instance=st.sampled_from(NAMES), at=INSTANTS, reason=st.text(max_size=5)
    ),
)
STEPS = st.lists(
    st.tuples(
        st.one_of(st.just(1.0), st.floats(0, 40)),
        st.lists(REPORTS, max_size=4),
        st.one_of(st.none(), st.none(), st.integers(0, 3)),
        st.one_of(st.none(), st.dictionaries(st.sampled_from(SITES), st.integers(-1, 3))),
    ),
    max_size=12,
)


def require_usable(view: FleetView) -> None:
    """Look at everything a view holds."""
    for instance in view.instances.values():
        for share in (instance.confidence, instance.ramp, instance.trust):
            assert 0 <= share <= 1
        for signal, reading in instance.readings.items():
            assert 0 <= reading.value < math.inf, signal
        for signal, reading in instance.rates.items():
            assert 0 <= reading.value < math.inf, signal
        if instance.rates:
            assert instance.interval > 0
        latency = instance.latency()
        assert latency is None or latency >= 0
        if instance.phase is Phase.EXPIRED:
            assert 0 == instance.confidence
        if instance.phase in {Phase.UNKNOWN, Phase.QUARANTINED} and instance.confidence:
            assert any(key[0] == instance.name for key in view.outcomes)
        if instance.phase is not Phase.LIVE:
            assert instance.awaited != ""
        assert instance.changed_at <= view.at
    sites = [site.name for site in view.config.sites]
    assert {(one, other) for one in sites for other in sites} == set(view.paths)
    for path in view.paths.values():
        assert 0 <= path.rtt.value <= 60
        assert path.bandwidth is None or path.bandwidth.value > 0
    for (site, service), reading in view.demand.items():
        assert site in sites
        assert "chat" == service
        assert 0 <= reading.value < math.inf
    for seen in view.traffic.values():
        assert 0 <= seen.rate.value < math.inf
        assert 0 <= seen.failures <= 1
        assert 0 <= seen.in_progress < math.inf
        for mean in (seen.latency, seen.ttft):
            assert mean is None or 0 <= mean.value < math.inf
    for reading in view.power.values():
        assert 0 <= reading.value < math.inf
    assert all(count > 0 for count in view.clients.values())


def moved(report: Report, now: float) -> Report:
    """Return *report* with its instant meant relative to now."""
    report = type(report)(**{
        name: getattr(report, name) for name in report.__dataclass_fields__ if name != "at"
    } | {"at": now + report.at})  # fmt: skip
    return report


@given(STEPS)
@settings(max_examples=250, deadline=None)
def test_a_view_is_always_usable_and_only_our_error_is_raised(
    steps: list[tuple[float, list[Report], int | None, dict[str, int] | None]],
) -> None:
    """Any reports, instants, configurations and client counts, in any order."""
    now = 0.0
    fleet = FleetState(make_config(3), now=now)
    for wait, reports, count, clients in steps:
        now += wait
        if count is not None:
            fleet.reconfigure(make_config(count), now=now)
        if clients is not None:
            fleet.set_clients(clients)
        for report in reports:
            with suppress(ReportError):
                fleet.apply(moved(report, now), now=now)
        view = fleet.view(now=now)
        require_usable(view)
        assert view == fleet.view(now=now)
