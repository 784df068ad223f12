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
    """Origin of a model."""

    FOUNDATION = "foundation"
    CUSTOMISED = "customised"
    PRUNED = "pruned"


class Protocol(StrEnum):
    """Protocol from Envoys to instances; ``grpc`` is HTTP/2 that also retries by gRPC status."""

    AUTO = "auto"
    """HTTP/1.1, which all inference servers speak to HTTP clients."""
    HTTP1 = "http1"
    HTTP2 = "http2"
    GRPC = "grpc"
    """HTTP/2, and retries by gRPC's status codes too."""


class Model(Settings):
    """A model that instances run."""

    name: Name
    """Unique name: letters, digits, '.', '_' and '-', at most 63 characters."""
    kind: ModelKind = ModelKind.FOUNDATION
    """Origin of the model, shown in the API. Does not affect steering; rank models by
    ``services[].models[].penalty``."""
    base: Name | None = None
    """Model that it was customised or pruned from, shown in the API. Does not affect steering."""
    served_as: ServedName | None = None
    """Model name that engines expect in requests; by default ``name``."""
    protocol: Protocol = Protocol.AUTO
    """Protocol from Envoys to the instances of this model; ``auto`` is HTTP/1.1."""
    load_time: Duration = 0.0
    """Time that an engine takes to load the model on demand, for adapters and Ollama's models.
    Requests are sent to instances that keep it loaded, where instances set or report
    ``max_loaded``."""
