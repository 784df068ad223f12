"""Envoy messages to bytes: ``Any`` inside a message, and the resource that goes on the wire."""

from __future__ import annotations

from datetime import timedelta

import betterproto2
from envoy_data_plane.google.protobuf import Any as PackedAny

from controlplane.xds.snapshot import make_resource
from controlplane.xds.types import Resource


def pack(message: betterproto2.Message) -> PackedAny:
    """Wrap a typed message into an ``Any``."""
    return PackedAny.pack(message)


def seconds(duration: float) -> timedelta:
    """Return a duration in seconds as the typed messages take it."""
    return timedelta(seconds=duration)


def to_resource(name: str, message: betterproto2.Message) -> Resource:
    """Serialise a typed message into the resource *name*."""
    return make_resource(name, bytes(pack(message)))
