import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReportBatch(_message.Message):
    __slots__ = ("agent", "sequence", "sent_at", "instances", "paths", "sites")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    SITES_FIELD_NUMBER: _ClassVar[int]
    agent: Agent
    sequence: int
    sent_at: _timestamp_pb2.Timestamp
    instances: _containers.RepeatedCompositeFieldContainer[InstanceReport]
    paths: _containers.RepeatedCompositeFieldContainer[PathReport]
    sites: _containers.RepeatedCompositeFieldContainer[SiteReport]
    def __init__(self, agent: _Optional[_Union[Agent, _Mapping]] = ..., sequence: _Optional[int] = ..., sent_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., instances: _Optional[_Iterable[_Union[InstanceReport, _Mapping]]] = ..., paths: _Optional[_Iterable[_Union[PathReport, _Mapping]]] = ..., sites: _Optional[_Iterable[_Union[SiteReport, _Mapping]]] = ...) -> None: ...

class Agent(_message.Message):
    __slots__ = ("id", "site", "version")
    ID_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    id: str
    site: str
    version: str
    def __init__(self, id: _Optional[str] = ..., site: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class InstanceReport(_message.Message):
    __slots__ = ("instance", "measured_at", "engine", "signals", "missing", "not_ready", "failure", "not_ready_reason")
    class SignalsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    MEASURED_AT_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    NOT_READY_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    NOT_READY_REASON_FIELD_NUMBER: _ClassVar[int]
    instance: str
    measured_at: _timestamp_pb2.Timestamp
    engine: str
    signals: _containers.ScalarMap[str, float]
    missing: _containers.RepeatedScalarFieldContainer[str]
    not_ready: bool
    failure: str
    not_ready_reason: str
    def __init__(self, instance: _Optional[str] = ..., measured_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., engine: _Optional[str] = ..., signals: _Optional[_Mapping[str, float]] = ..., missing: _Optional[_Iterable[str]] = ..., not_ready: _Optional[bool] = ..., failure: _Optional[str] = ..., not_ready_reason: _Optional[str] = ...) -> None: ...

class PathReport(_message.Message):
    __slots__ = ("to_site", "from_site", "measured_at", "rtt", "bandwidth")
    TO_SITE_FIELD_NUMBER: _ClassVar[int]
    FROM_SITE_FIELD_NUMBER: _ClassVar[int]
    MEASURED_AT_FIELD_NUMBER: _ClassVar[int]
    RTT_FIELD_NUMBER: _ClassVar[int]
    BANDWIDTH_FIELD_NUMBER: _ClassVar[int]
    to_site: str
    from_site: str
    measured_at: _timestamp_pb2.Timestamp
    rtt: _duration_pb2.Duration
    bandwidth: float
    def __init__(self, to_site: _Optional[str] = ..., from_site: _Optional[str] = ..., measured_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., rtt: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., bandwidth: _Optional[float] = ...) -> None: ...

class SiteReport(_message.Message):
    __slots__ = ("measured_at", "power", "battery")
    MEASURED_AT_FIELD_NUMBER: _ClassVar[int]
    POWER_FIELD_NUMBER: _ClassVar[int]
    BATTERY_FIELD_NUMBER: _ClassVar[int]
    measured_at: _timestamp_pb2.Timestamp
    power: float
    battery: float
    def __init__(self, measured_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., power: _Optional[float] = ..., battery: _Optional[float] = ...) -> None: ...

class ReportStatus(_message.Message):
    __slots__ = ("sequence", "accepted", "refused")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    accepted: int
    refused: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, sequence: _Optional[int] = ..., accepted: _Optional[int] = ..., refused: _Optional[_Iterable[str]] = ...) -> None: ...
