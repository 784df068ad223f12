"""A control plane whose weights and clusters a conformance probe changes at will.

``python -m testbed.tools.debug_updates -c fleet.yaml`` is ``cats serve`` with three more paths on
the admin port. What the probe sets lies over every plan until it is cleared.
``/debug/update?cluster=NAME|all&weight=N`` gives every endpoint of a cluster
the weight N, ``/debug/cluster?cluster=NAME|all&connect_timeout_ms=N`` changes the cluster,
``/debug/clear`` takes all of it back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from aiohttp import web
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from google.protobuf import any_pb2

from controlplane.admin_api.answers import json_error, json_response
from controlplane.cli.serve import command
from controlplane.controller.control_plane import ControlPlane
from controlplane.xds.snapshot import Snapshot, TypeSnapshot, make_resource
from controlplane.xds.types import CLUSTER, ENDPOINT, Resource

ALL = "all"
"""Names every cluster."""

_NONE: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Overlay:
    """What lies over every plan; cluster name (or `ALL`) -> value."""

    weights: Mapping[str, int] = field(default_factory=lambda: _NONE)
    timeouts_ms: Mapping[str, int] = field(default_factory=lambda: _NONE)

    def __bool__(self) -> bool:
        return bool(self.weights or self.timeouts_ms)


def apply_overlay(overlay: Overlay, snapshots: Mapping[str, Snapshot]) -> dict[str, Snapshot]:
    """Return *snapshots* as the probe wants them; what it did not name is shared unchanged."""
    changed: dict[tuple[str, str, str], Resource] = {}

    def change(type_url: str, resource: Resource) -> Resource:
        key = (type_url, resource.name, resource.version)
        if key not in changed:
            values, build = (
                (overlay.weights, _with_weight)
                if type_url == ENDPOINT
                else (overlay.timeouts_ms, _with_timeout)
            )
            value = values.get(resource.name, values.get(ALL))
            changed[key] = resource if value is None else build(resource, value)
        return changed[key]

    return {
        view: Snapshot(
            {
                type_url: TypeSnapshot.of(
                    change(type_url, resource) for resource in snapshot.resources.values()
                )
                if type_url in (CLUSTER, ENDPOINT)
                else snapshot
                for type_url, snapshot in whole.types.items()
            }
        )
        for view, whole in snapshots.items()
    }


def _with_weight(resource: Resource, weight: int) -> Resource:
    message = endpoint_pb2.ClusterLoadAssignment()
    wrapped = any_pb2.Any.FromString(resource.body)
    message.ParseFromString(wrapped.value)
    for locality in message.endpoints:
        for endpoint in locality.lb_endpoints:
            endpoint.load_balancing_weight.value = weight
    wrapped.value = message.SerializeToString(deterministic=True)
    return make_resource(resource.name, wrapped.SerializeToString())


def _with_timeout(resource: Resource, milliseconds: int) -> Resource:
    message = cluster_pb2.Cluster()
    wrapped = any_pb2.Any.FromString(resource.body)
    message.ParseFromString(wrapped.value)
    message.connect_timeout.FromMilliseconds(milliseconds)
    wrapped.value = message.SerializeToString(deterministic=True)
    return make_resource(resource.name, wrapped.SerializeToString())


class DebugUpdates:
    """Holds the overlay and publishes each change at once."""

    def __init__(self, republish: Callable[[], None]) -> None:
        self.overlay = Overlay()
        self._republish = republish

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of the switch."""
        paths = {
            "/debug/update": self._update,
            "/debug/cluster": self._cluster,
            "/debug/clear": self._clear,
        }
        return [
            make(path, answer)
            for path, answer in paths.items()
            for make in (web.get, web.post)
        ]  # fmt: skip

    async def _update(self, request: web.Request) -> web.Response:
        return self._set("weights", "weight", request)

    async def _cluster(self, request: web.Request) -> web.Response:
        return self._set("timeouts_ms", "connect_timeout_ms", request)

    async def _clear(self, _request: web.Request) -> web.Response:
        self.overlay = Overlay()
        self._republish()
        return json_response({"weights": {}, "timeouts_ms": {}})

    def _set(self, part: str, parameter: str, request: web.Request) -> web.Response:
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return json_error(403, "a foreign page may not change anything")
        text = request.query.get(parameter, "")
        if not (text.isascii() and text.isdecimal() and 1 <= int(text) < 2**31):
            return json_error(400, f"{parameter} must be a whole number from 1 to 2147483647")
        name = request.query.get("cluster", ALL)
        values = {} if name == ALL else dict(getattr(self.overlay, part))
        self.overlay = replace(self.overlay, **{part: {**values, name: int(text)}})
        self._republish()
        return json_response(
            {"weights": dict(self.overlay.weights), "timeouts_ms": dict(self.overlay.timeouts_ms)}
        )


def extend(control: ControlPlane) -> Iterable[web.RouteDef]:
    """Lay an overlay over what *control* publishes; return the routes that change it."""
    publish = control.views.publish
    built: Mapping[str, Snapshot] = {}

    def publish_overlaid(
        views: Mapping[str, Snapshot],
        *,
        low_battery: Mapping[str, Collection[str]] | None = None,
    ) -> bool:
        nonlocal built
        built = views
        return publish(apply_overlay(updates.overlay, views), low_battery=low_battery)

    def republish() -> None:
        if built:
            publish(apply_overlay(updates.overlay, built))

    updates = DebugUpdates(republish)
    control.views.publish = publish_overlaid  # type: ignore[method-assign]
    control.log.warning(
        "debug updates enabled",
        remedy="use cats serve outside of conformance tests: the admin port can set every weight",
    )
    return updates.routes()


if __name__ == "__main__":
    command(obj=extend)
