"""Values that several parts of the schema share: names, ports, paths, headers."""

from __future__ import annotations

from typing import Annotated, Any, Protocol, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from controlplane.config.addresses import is_dns_name, is_ip

NAME_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Port = Annotated[int, Field(ge=1, le=65535)]
UrlPath = Annotated[str, Field(pattern=r"^/\S*$", max_length=2048)]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")]
"""A token of RFC 9110, section 5.6.2."""
KubernetesName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
"""A DNS label (RFC 1123), which namespaces, Services and ports are named by."""
KubernetesObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
"""A DNS subdomain (RFC 1123), which most other objects are named by."""
NamespaceName = Annotated[str, Field(pattern=r"^(\*|[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)$")]
"""A namespace, or ``*`` for all of them."""
LabelName = Annotated[
    str,
    Field(
        pattern=r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
    ),
]
"""A label of a Kubernetes object, with its prefix."""
HeaderValue = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=4096)]


def _check_absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("must begin with /: Envoy would look below where it was started")
    return path


def _check_host(text: str) -> str:
    name = text.lower().removesuffix(".")
    if not is_ip(name) and not is_dns_name(name):
        raise PydanticCustomError(
            "host", "'{text}' is no DNS name and no IP address", {"text": text}
        )
    return name


HostName = Annotated[str, AfterValidator(_check_host)]
"""A DNS name or an IP address, in small letters and without the dot at its end."""
PathPrefix = Annotated[UrlPath, AfterValidator(lambda path: path.rstrip("/"))]
EnvoyFile = Annotated[str, Field(max_length=4096), AfterValidator(_check_absolute)]
"""A path on the machine of an Envoy."""


def without_default(schema: dict[str, Any]) -> None:
    """Leave a default out of the schema that stands for a missing key and is no value of it."""
    del schema["default"]


class Settings(BaseModel):
    """A mapping of the document; unknown keys are faults."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True
    )


class _Pair(Protocol):
    @property
    def cert(self) -> str | None: ...
    @property
    def key(self) -> str | None: ...


_P = TypeVar("_P", bound=_Pair)


def require_pair(settings: _P) -> _P:
    """Pass on settings that name a certificate and its key, or neither."""
    if (settings.cert is None) != (settings.key is None):
        raise ValueError("cert and key go together; set both or neither")
    return settings
