"""HTTPS of instances that are not the fleet's own, and the credentials they ask for."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from controlplane.config.addresses import is_dns_name, is_ip
from controlplane.config.schema.values import (
    EnvoyFile,
    HeaderName,
    HeaderValue,
    Settings,
    UrlPath,
    without_default,
)


class Credential(Settings):
    """A credential that Envoys add to requests for one instance, from a file of their machine.

    The control plane sends Envoys its path, and never has the credential itself.
    """

    file: EnvoyFile
    """File with the credential and nothing else, such as an API key; a replaced one is taken
    without a restart."""
    header: HeaderName = "authorization"
    """Request header that carries it; the client's own is removed."""
    prefix: HeaderValue = "Bearer "
    """What stands before it in the header."""
    secrets: EnvoyFile = "/etc/cats/envoy"
    """Directory with what ``cats bootstrap --secrets`` writes: files that name the above."""


def _check_tls_name(text: str) -> str:
    name = text.lower().removesuffix(".")
    if not is_ip(name) and not is_dns_name(name):
        raise PydanticCustomError(
            "tls_name", "'{text}' is no DNS name and no IP address", {"text": text}
        )
    return name


def _check_prefix(text: str) -> str:
    return text.rstrip("/")


class Https(Settings):
    """HTTPS of an instance that is not the fleet's own, such as a provider's API.

    Envoys check no such instance actively; what its answers say decides.
    """

    name: Annotated[
        str, AfterValidator(_check_tls_name), Field(json_schema_extra=without_default)
    ] = ""
    """Name that Envoys ask for (SNI), that its certificate must carry and that becomes the
    request's host; by default the DNS name of ``address``."""
    ca: EnvoyFile = "/etc/ssl/certs/ca-certificates.crt"
    """Certificates that may sign the instance's; a file of each Envoy's machine."""
    path: Annotated[
        UrlPath, AfterValidator(_check_prefix), Field(json_schema_extra=without_default)
    ] = ""
    """Put before the request's path, such as ``/openai`` for an API that lies there."""
    credential: Credential | None = None
