"""The fleet that a scenario describes: one that comes with the simulator, or a custom one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from pydantic import ValidationError

from controlplane.config import Config, Steering
from controlplane.sim.engine_spec import EngineSpec
from controlplane.sim.fleets import (
    EQUAL_SPEEDS,
    UNEQUAL_SPEEDS,
    edge_fleet,
    near_fleet,
    ramp_fleet,
    single_server_fleet,
)
from controlplane.sim.happenings import surge_streams
from controlplane.sim.scenario import FleetKind, Scenario
from controlplane.sim.true_fleet import Fleet
from controlplane.sim.workload import Stream


def build_fleet(
    scenario: Scenario, *, seed: int, read_config: Callable[[str], Config] | None = None
) -> Fleet:
    """Make the scenario's fleet; *read_config* reads the configuration of a custom one.

    Raises:
        ValueError: a custom fleet does not fit its configuration; the message says where.
    """
    settings = scenario.fleet
    steering = scenario.steering
    _steer(Steering(), steering)
    match settings.kind:
        case FleetKind.QUEUE | FleetKind.BATCHING:
            fleet = edge_fleet(
                batching=settings.kind is FleetKind.BATCHING,
                utilisation=settings.utilisation,
                seed=seed,
                known=settings.known,
                steering=steering,
            )
        case FleetKind.EQUAL | FleetKind.UNEQUAL:
            equal = settings.kind is FleetKind.EQUAL
            fleet = single_server_fleet(
                EQUAL_SPEEDS if equal else UNEQUAL_SPEEDS,
                name=settings.kind.value,
                utilisation=settings.utilisation,
                sidecars=20,
                period=scenario.period,
                known=settings.known,
                steering=steering,
            )
        case FleetKind.RAMP:
            fleet = ramp_fleet(
                seed=seed, duration=scenario.duration, known=settings.known, steering=steering
            )
        case FleetKind.NEAR:
            fleet = near_fleet(duration=scenario.duration, steering=steering)
        case FleetKind.CUSTOM:
            fleet = _custom_fleet(scenario, read_config)
    if settings.sidecars is not None:
        fleet = replace(fleet, sidecars=settings.sidecars)
    streams = fleet.streams
    if settings.kind is not FleetKind.CUSTOM:
        streams = tuple(scenario.workload.shape(stream) for stream in streams)
    happenings = [event.value() for event in scenario.events]
    _check_names(scenario, fleet)
    return replace(fleet, name=scenario.name, streams=surge_streams(streams, happenings))


def _check_names(scenario: Scenario, fleet: Fleet) -> None:
    clients = {stream.site for stream in fleet.streams}
    for number, event in enumerate(scenario.events):
        for kind, given, known in (
            ("instances", event.instances, set(fleet.engines)),
            ("clients", event.clients, clients),
        ):
            for name in given:
                if name not in known:
                    raise ValueError(
                        f"events[{number}].{kind}: '{name}' is not there; known: {_listed(known)}"
                    )


def _steer(steering: Steering, changes: Mapping[str, object]) -> Steering:
    """Return *steering* with a scenario's own settings."""
    if unknown := sorted(changes.keys() - Steering.model_fields.keys()):
        raise ValueError(
            f"steering: unknown key '{unknown[0]}'; known: {_listed(set(Steering.model_fields))}"
        )
    try:
        given = Steering.model_validate(changes)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"steering.{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return steering.model_copy(
        update={name: getattr(given, name) for name in given.model_fields_set}
    )


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)[:12])


def _custom_fleet(scenario: Scenario, read_config: Callable[[str], Config] | None) -> Fleet:
    settings = scenario.fleet
    if not settings.config or read_config is None:
        raise ValueError(
            "fleet.config: a custom fleet needs the file of its configuration, as fleet.yaml"
        )
    if not settings.clients:
        raise ValueError(
            "fleet.clients: a custom fleet needs at least one client; add one with"
            " site, service and rate"
        )
    config = read_config(settings.config)
    if scenario.steering:
        config = config.model_copy(update={"steering": _steer(config.steering, scenario.steering)})
    names = {item.name for item in config.instances}
    sites = {item.name for item in config.sites}
    services = {item.name for item in config.services}
    for name in settings.engines:
        if name not in names:
            raise ValueError(
                f"fleet.engines.{name}: {settings.config} has no such instance;"
                f" known: {_listed(names)}"
            )
    for number, client in enumerate(settings.clients):
        if client.site not in sites:
            raise ValueError(
                f"fleet.clients[{number}].site: no site '{client.site}'; known: {_listed(sites)}"
            )
        if client.service not in services:
            raise ValueError(
                f"fleet.clients[{number}].service: no service '{client.service}';"
                f" known: {_listed(services)}"
            )
    engines = {
        item.name: settings.engines[item.name].spec()
        if item.name in settings.engines
        else EngineSpec(item.slots)
        for item in config.instances
    }
    streams = tuple(client.stream() for client in settings.clients)
    total = sum(stream.rate for stream in streams) or 1.0
    mean = sum(stream.rate * _lone_time(stream, engines) for stream in streams) / total
    rtt = _configured_rtt(config, {stream.site for stream in streams})
    return Fleet(scenario.name, config, engines, streams, rtt, mean_work=mean)


def _lone_time(stream: Stream, engines: dict[str, EngineSpec]) -> float:
    """Return the seconds of a mean request alone at speed 1."""
    tokens = [spec for spec in engines.values() if spec.kind == "tokens"]
    if not tokens:
        return stream.work.mean
    spec = tokens[0]
    return stream.work.prompt / spec.prefill_rate + stream.work.output * spec.step_time


def _configured_rtt(config: Config, clients: set[str]) -> dict[tuple[str, str], float]:
    network = config.network
    known: dict[tuple[str, str], float] = {}
    for path in network.paths:
        if path.rtt is not None:
            known.setdefault((path.target, path.source), path.rtt)
            known[path.source, path.target] = path.rtt
    return {
        (client, site.name): network.local_rtt
        if client == site.name
        else known.get((client, site.name), network.default_rtt)
        for client in clients
        for site in config.sites
    }
