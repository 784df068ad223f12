"""What an Envoy or another xDS client would refuse, found before anything is published.

One bad resource makes Envoy refuse its whole response, good ones included, and some faults it
takes in silence and serves something else than was meant. Two checks:

* `constraint_faults` holds any message to the rules that Envoy's own API definitions carry as
  field options (protoc-gen-validate), the same rules by which Envoy refuses;
* `allocation_faults` holds endpoints to what is not written there: the sum of weights, duplicate
  endpoints, gaps between priorities.

Knows nothing of how messages are built.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2
from envoy.extensions.compression.brotli.decompressor.v3 import brotli_pb2
from envoy.extensions.compression.gzip.decompressor.v3 import gzip_pb2
from envoy.extensions.compression.zstd.decompressor.v3 import zstd_pb2
from envoy.extensions.filters.http.credential_injector.v3 import credential_injector_pb2
from envoy.extensions.filters.http.decompressor.v3 import decompressor_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.http.json_to_metadata.v3 import json_to_metadata_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.http.upstream_codec.v3 import upstream_codec_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.http.injected_credentials.generic.v3 import generic_pb2
from envoy.extensions.retry.host.omit_host_metadata.v3 import omit_host_metadata_config_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import message_factory
from google.protobuf.message import DecodeError, Message
from validate import validate_pb2

from controlplane.config import Instance
from controlplane.config.addresses import is_ip
from controlplane.steering.plan import Allocation

_DEFINITIONS: Mapping[str, Any] = {
    kind.full_name: kind
    for definition in (
        *(cluster_pb2, listener_pb2, route_pb2, cel_pb2, json_to_metadata_pb2),
        *(router_pb2, http_connection_manager_pb2, http_protocol_options_pb2),
        *(previous_hosts_pb2, omit_host_metadata_config_pb2),
        *(previous_priorities_config_pb2, raw_buffer_pb2, tls_pb2, decompressor_pb2, lua_pb2),
        *(gzip_pb2, brotli_pb2, zstd_pb2, route_components_pb2, header_mutation_pb2),
        *(upstream_codec_pb2, credential_injector_pb2, generic_pb2, file_pb2),
    )
    for kind in definition.DESCRIPTOR.message_types_by_name.values()
}
"""Every type of resource, and of what they wrap, by its full name."""
_NEWER = frozenset({"envoy.extensions.access_loggers.stats.v3.Config"})
"""Types whose fields have changed since the definitions at hand; these cannot be checked here."""
_MAX_WEIGHT_SUM = 2**32 - 1
_MAX_PRIORITY = 128
_KNOWN_REGEX = {
    validate_pb2.HTTP_HEADER_NAME: re.compile(r":?[0-9A-Za-z!#$%&'*+.^_|~`-]+"),
    validate_pb2.HTTP_HEADER_VALUE: re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*"),
}
_SCALARS = ("float", "double", "int32", "int64", "uint32", "uint64", "sint32", "sint64")
_COMPARISONS: Mapping[str, tuple[str, Callable[[float, float], bool]]] = {
    "lt": ("less than", lambda value, bound: value < bound),
    "lte": ("at most", lambda value, bound: value <= bound),
    "gt": ("more than", lambda value, bound: value > bound),
    "gte": ("at least", lambda value, bound: value >= bound),
}


def allocation_faults(
    allocations: Sequence[Allocation], instances: Mapping[str, Instance]
) -> list[str]:
    """Find what is wrong with the endpoints of one service at one client site.

    Args:
        allocations: the endpoints with their weights and priorities.
        instances: every instance by name.

    Returns:
        One sentence for each fault; empty when all is well.
    """
    faults: list[str] = []
    sums: dict[tuple[int, str], int] = {}
    by_address: dict[str, str] = {}
    for allocation in allocations:
        name, place = allocation.instance, (allocation.priority, allocation.site)
        instance = instances.get(name)
        if instance is None:
            faults.append(f"no instance is called {name!r}")
            continue
        if instance.site != allocation.site:
            faults.append(f"instance {name!r} is at {instance.site!r}, not at {allocation.site!r}")
        if not 1 <= allocation.weight <= _MAX_WEIGHT_SUM:
            faults.append(f"weight {allocation.weight} of {name!r} is not from 1 to 2^32-1")
        if not is_ip(instance.host):
            faults.append(f"{name!r} has the address {instance.address}, which is not resolved")
        if instance.address in by_address:
            first = by_address[instance.address]
            faults.append(f"{first!r} and {name!r} have one address, {instance.address}")
        by_address[instance.address] = name
        sums[place] = sums.get(place, 0) + allocation.weight
    faults += (
        f"weights at {site!r}, priority {priority}, add up to more than 2^32-1"
        for (priority, site), total in sums.items()
        if total > _MAX_WEIGHT_SUM
    )
    return faults + _priority_faults({allocation.priority for allocation in allocations})


def _priority_faults(used: set[int]) -> list[str]:
    priorities = sorted(used)
    if priorities != list(range(len(priorities))):
        return [f"priorities {priorities} do not count from 0 without gaps"]
    if len(priorities) > _MAX_PRIORITY + 1:
        return [f"there are {len(priorities)} priorities; Envoy takes {_MAX_PRIORITY + 1}"]
    return []


def constraint_faults(type_url: str, body: bytes) -> list[str]:
    """Find where a serialised message breaks the rules in Envoy's API definitions.

    Args:
        type_url: type of the message.
        body: the message, not wrapped.

    Returns:
        ``path: what is wrong`` for each fault; empty when all is well.
    """
    name = type_url.rsplit("/", 1)[-1]
    if not name or name in _NEWER:  # an empty wrapper says nothing
        return []
    kind = _DEFINITIONS.get(name)
    if kind is None:
        return [f"{name}: there is no definition to hold it to"]
    message = message_factory.GetMessageClass(kind)()
    try:
        message.ParseFromString(body)
    except DecodeError:
        return [f"{name}: the bytes are not such a message"]
    return list(_message_faults(message, name.rsplit(".", 1)[-1]))


def _message_faults(message: Message, path: str) -> Iterator[str]:
    for oneof in message.DESCRIPTOR.oneofs:
        if (
            oneof.GetOptions().Extensions[validate_pb2.required]
            and message.WhichOneof(oneof.name) is None
        ):
            choices = ", ".join(field.name for field in oneof.fields)
            yield f"{path}.{oneof.name}: one of {choices} must be set"
    for field in message.DESCRIPTOR.fields:
        rules = field.GetOptions().Extensions[validate_pb2.rules]
        yield from _field_faults(message, field, rules, f"{path}.{field.name}")


def _field_faults(message: Message, field: Any, rules: Any, path: str) -> Iterator[str]:
    value: Any = getattr(message, field.name)
    if field.is_repeated:
        yield from _repeated_faults(field, value, rules, path)
    elif field.message_type is not None:
        if message.HasField(field.name):
            yield from _value_faults(value, rules, path)
        elif field.containing_oneof is None and (
            rules.message.required or rules.duration.required or rules.any.required
        ):
            yield f"{path}: must be set"
    elif not field.has_presence or message.HasField(field.name):
        yield from _scalar_faults(value, rules, path, field)


def _repeated_faults(field: Any, value: Any, rules: Any, path: str) -> Iterator[str]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        if field.message_type.fields_by_name["value"].message_type is not None:
            for key in value:
                yield from _value_faults(value[key], rules.map.values, f"{path}[{key!r}]")
        return
    if len(value) < rules.repeated.min_items:
        yield f"{path}: has {len(value)} elements, must have at least {rules.repeated.min_items}"
    if rules.repeated.HasField("max_items") and len(value) > rules.repeated.max_items:
        yield f"{path}: has {len(value)} elements, may have {rules.repeated.max_items}"
    for index, each in enumerate(value):
        if field.message_type is not None:
            yield from _value_faults(each, rules.repeated.items, f"{path}[{index}]")
        else:
            yield from _scalar_faults(each, rules.repeated.items, f"{path}[{index}]", field)


def _value_faults(value: Any, rules: Any, path: str) -> Iterator[str]:
    kind = value.DESCRIPTOR.full_name
    if kind == "google.protobuf.Duration":
        if rules.HasField("duration"):
            seconds = value.seconds + value.nanos / 1e9
            bounds = {
                each.name: bound.seconds + bound.nanos / 1e9
                for each, bound in rules.duration.ListFields()
                if each.name in _COMPARISONS
            }
            yield from _bound_faults(seconds, bounds, path)
    elif kind == "google.protobuf.Any":
        for fault in constraint_faults(value.type_url, value.value):
            yield f"{path}.{fault}"
    elif (
        kind.startswith("google.protobuf.")
        and kind.endswith("Value")
        and "value" in (value.DESCRIPTOR.fields_by_name)
    ):
        yield from _scalar_faults(
            value.value, rules, path, value.DESCRIPTOR.fields_by_name["value"]
        )
    elif not kind.startswith("google.protobuf."):
        yield from _message_faults(value, path)


def _scalar_faults(value: Any, rules: Any, path: str, field: Any) -> Iterator[str]:
    kind = rules.WhichOneof("type")
    if kind in _SCALARS:
        own = getattr(rules, kind)
        bounds = {each.name: bound for each, bound in own.ListFields() if each.name in _COMPARISONS}
        yield from _bound_faults(value, bounds, path)
    elif kind == "enum":
        defined = field.enum_type is None or value in field.enum_type.values_by_number
        if rules.enum.defined_only and not defined:
            yield f"{path}: {value} is not one of its values"
    elif kind == "string":
        yield from _string_faults(value, rules.string, path)


def _bound_faults(value: float, bounds: Mapping[str, float], path: str) -> Iterator[str]:
    for name, bound in bounds.items():
        words, holds = _COMPARISONS[name]
        if not holds(value, bound):
            yield f"{path}: is {value}, must be {words} {bound}"


def _string_faults(value: str, rules: Any, path: str) -> Iterator[str]:
    if rules.ignore_empty and not value:
        return
    if len(value) < rules.min_len or len(value.encode()) < rules.min_bytes:
        yield f"{path}: must not be empty" if not value else f"{path}: {value!r} is too short"
    for limit, size in (("max_len", len(value)), ("max_bytes", len(value.encode()))):
        if rules.HasField(limit) and size > getattr(rules, limit):
            yield f"{path}: {value[:40]!r}... is longer than {getattr(rules, limit)}"
    allowed = _KNOWN_REGEX.get(rules.well_known_regex)
    # Envoy's API writes `strict: false` where any text without line ends or NUL will do.
    if rules.well_known_regex and not rules.strict:
        allowed = re.compile(r"[^\x00\n\r]*")
    if value and allowed is not None and not allowed.fullmatch(value):
        yield f"{path}: {value!r} has a character that HTTP does not allow there"
