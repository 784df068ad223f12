"""``models``: what instances serve, and the protocol that it speaks."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from controlplane.config.schema.values import Name, Settings
from controlplane.config.units import Duration

ServedName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._/@~][A-Za-z0-9._:/@+~-]{0,255}$")]
"""What an engine calls a model: a path of a hub or of a disk, a tag, an adapter."""


class ModelKind(StrEnum):
    """How a model came to be."""

    FOUNDATION = "foundation"
    CUSTOMISED = "customised"
    PRUNED = "pruned"


class Protocol(StrEnum):
    """Protocol that Envoys use to instances."""

    AUTO = "auto"
    """HTTP/1.1, which all inference servers speak to HTTP clients."""
    HTTP1 = "http1"
    HTTP2 = "http2"
    GRPC = "grpc"
    """HTTP/2, and retries by gRPC's status codes too."""


class Model(Settings):
    """A model that instances run."""

    name: Name
    kind: ModelKind = ModelKind.FOUNDATION
    """How the model came to be, shown in the API.
    Nothing is decided by it; who prefers which model is said by ``services[].models[].penalty``."""
    base: Name | None = None
    """The model it was customised or pruned from, shown in the API. Nothing is decided by it."""
    served_as: ServedName | None = None
    """Name by which engines serve it; by default its own."""
    protocol: Protocol = Protocol.AUTO
    """Protocol of its instances."""
    load_time: Duration = 0.0
    """What an engine takes to load it when it is asked for it and does not hold it, as an adapter
    or a model of Ollama. Where instances have ``max_loaded``, some hold it and get its requests."""
