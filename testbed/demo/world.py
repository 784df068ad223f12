"""The demo's world: an example's fleet, moved to free ports, and what is emulated around it.

Reads ``fleet.yaml``, which the control plane reads too, and ``emulation.yaml``, which it never
does: how fast the instances really are, who sends what, and what will happen to them.
Starts nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from controlplane.config.source import parse_source
from controlplane.config.units import parse_duration, parse_share
from testbed.demo.traffic import Lengths, Stream, Swing
from testbed.fakes.engine import Curve
from testbed.fakes.instance_settings import InstanceSettings
from testbed.fakes.kserve import INFER
from testbed.fakes.webhook import PATH as WAKE_PATH
from testbed.processes.ports import free_ports

DEFAULT_EXAMPLE = Path(__file__).parents[2] / "examples" / "cloud-edge-device"


@dataclass(frozen=True, slots=True)
class World:
    """Everything the demo starts, on ports of its own."""

    fleet: Mapping[str, Any]
    """The document of fleet.yaml with its ports replaced."""
    instances: Mapping[str, InstanceSettings]
    sites: Mapping[str, str]
    """Instance -> its site."""
    streams: tuple[Stream, ...]
    listeners: Mapping[str, int]
    """Client site -> port of its Envoy."""
    services: tuple[str, ...]
    """In the order of the file."""
    sensitive: frozenset[str]
    """Services that are delay-sensitive."""
    latency_limits: Mapping[str, float]
    """Service -> seconds its operator promised for a whole answer."""
    trains: str
    """Instance whose machine a training job takes a share of."""
    training: float
    dies: str
    """Instance whose edge is killed."""
    scaled: Mapping[tuple[str, str], tuple[str, ...]]
    """(site, model) that an autoscaler asks for -> its instances."""
    asleep: Mapping[str, float]
    """Instance that runs once its webhook is called -> seconds from the call until it answers."""
    webhook_port: int
    """Where these calls are taken."""

    @property
    def near(self) -> str:
        """Return the client site of the instance that trains."""
        return self.sites[self.trains]

    @property
    def logs(self) -> bool:
        """Return whether Envoys write a line for each request."""
        return "access_log" in self.fleet["envoy"]

    def fleet_yaml(self, log: Path) -> str:
        """Write the fleet for ``cats serve``, with Envoys' access log at *log*; JSON is YAML."""
        envoy = self.fleet["envoy"] | ({"access_log": str(log)} if self.logs else {})
        return json.dumps({**self.fleet, "envoy": envoy}, indent=2)


def build_world(example: Path = DEFAULT_EXAMPLE) -> World:
    """Read *example* and assign free ports."""
    # Read as the control plane reads it: to a YAML 1.1 loader the key "on" is true.
    fleet, emulation = (
        parse_source((example / name).read_text(), file=name).tree
        for name in ("fleet.yaml", "emulation.yaml")
    )
    fleet.setdefault("envoy", {}).setdefault("address", "127.0.0.1")
    clients = list(dict.fromkeys(each["from"] for each in emulation["traffic"]))
    grpc = _speaking_grpc(fleet)
    ports = iter(free_ports(2 * len(fleet["instances"]) + len(clients) + 1))
    webhook_port = next(ports)
    listeners = {site: next(ports) for site in clients}
    for site in fleet["sites"]:
        if site["name"] in listeners:
            site["listener"] = {**site.get("listener", {}), "port": listeners[site["name"]]}
    sites = {each["name"]: each["site"] for each in fleet["instances"]}
    instances = {}
    for each in fleet["instances"]:
        settings = _instance(each, emulation["instances"][each["name"]], fleet, next(ports))
        if settings.model in grpc:
            settings = replace(settings, grpc_port=next(ports))
        _move(each, settings, webhook_port)
        instances[each["name"]] = settings
    story = emulation["story"]
    return World(
        fleet=fleet,
        instances=instances,
        sites=sites,
        streams=tuple(_stream(each, listeners, fleet) for each in emulation["traffic"]),
        listeners=listeners,
        services=tuple(each["name"] for each in fleet["services"]),
        sensitive=frozenset(
            each["name"] for each in fleet["services"] if each["delay"] == "sensitive"
        ),
        latency_limits={
            each["name"]: parse_duration(each["slo"]["latency"]) for each in fleet["services"]
        },
        trains=story["trains"],
        training=parse_share(story["training"]),
        dies=story["dies"],
        scaled={
            (each["site"], each["model"]): tuple(
                own["name"]
                for own in fleet["instances"]
                if (own["site"], own.get("model")) == (each["site"], each["model"])
            )
            for each in emulation.get("keda", ())
        },
        asleep={
            name: parse_duration(each["starts_in"])
            for name, each in emulation["instances"].items()
            if "starts_in" in each
        },
        webhook_port=webhook_port,
    )


def _instance(
    configured: Mapping[str, Any], emulated: Mapping[str, Any], fleet: Mapping[str, Any], port: int
) -> InstanceSettings:
    served = {each["name"]: each.get("served_as") for each in fleet["models"]}
    own = [
        {"name": each} if isinstance(each, str) else each
        for each in configured.get("models", [configured.get("model")])
    ]
    names = [
        each.get("served_as") or configured.get("served_as") or served[each["name"]] or each["name"]
        for each in own
    ]
    return InstanceSettings(
        model=names[0],
        serves=tuple(names),
        curve=Curve(
            parse_duration(emulated["base"]),
            parse_duration(emulated["crowding"]),
            emulated["slots"],
        ),
        port=port,
        rtt=dict(_distances(fleet["network"], configured["site"])),
    )


def _distances(network: Mapping[str, Any], site: str) -> Iterator[tuple[str, float]]:
    for path in network["paths"]:
        ends = [path["from"], path["to"]]
        if site in ends:
            ends.remove(site)
            yield ends[0], parse_duration(path["rtt"])


def _speaking_grpc(fleet: Mapping[str, Any]) -> frozenset[str]:
    """Return the models whose instances are asked over gRPC."""
    return frozenset(
        each["name"]
        for service in fleet["services"]
        for each in (*service["models"], *fleet["models"])
        if "grpc" in (each.get("protocol"), service.get("protocol"))
        and each["name"] in {own["name"] for own in service["models"]}
    )


def _move(configured: dict[str, Any], settings: InstanceSettings, webhook_port: int) -> None:
    configured["address"] = f"{settings.host}:{settings.grpc_port or settings.port}"
    # Emulated engines have no certificate, and their clients no key.
    configured.pop("https", None)
    if "scrape" in configured:
        url = urlsplit(configured["scrape"]["url"])
        own = url._replace(netloc=f"{settings.host}:{settings.port}")
        configured["scrape"]["url"] = own.geturl()
    if "wake" in configured:
        configured["wake"]["url"] = f"http://127.0.0.1:{webhook_port}{WAKE_PATH}"


def _stream(
    each: Mapping[str, Any], listeners: Mapping[str, int], fleet: Mapping[str, Any]
) -> Stream:
    site = each["from"]
    service = next(item for item in fleet["services"] if item["name"] == each["service"])
    return Stream(
        service=each["service"],
        site=site,
        url=f"http://127.0.0.1:{listeners[site]}{each['path']}",
        rate=float(each["rate"]),
        model=each.get("model", service["models"][0]["name"]),
        headers={"x-emulated-from": site},
        lengths=Lengths(each.get("prompt", 30.0), each.get("output", 100.0)),
        streaming=each.get("streaming", False),
        grpc=each["path"] == INFER,
        swing=_swing(each.get("swing")),
    )


def _swing(given: Mapping[str, Any] | None) -> Swing | None:
    if given is None:
        return None
    return Swing(parse_duration(given["period"]), parse_share(given["least"]))
