"""HTTPS of instances that are not the fleet's own, and the credentials they ask for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from controlplane.config.schema.values import (
    EnvoyFile,
    HeaderName,
    HeaderValue,
    HostName,
    PathPrefix,
    Settings,
    without_default,
)


class Credential(Settings):
    """A credential that Envoys add to requests for one instance, from a file of their machine.

    The control plane sends Envoys its path, and never has the credential itself.
    """

    file: EnvoyFile
    """File with the credential and nothing else, such as an API key; reloaded without a restart
    when it is replaced."""
    header: HeaderName = "authorization"
    """Request header that carries it; one that the client sent is removed."""
    prefix: HeaderValue = "Bearer "
    """Prefix of the header's value."""
    secrets: EnvoyFile = "/etc/cats/envoy"
    """Directory with what ``cats bootstrap --secrets`` writes: files that name the above."""


class Https(Settings):
    """HTTPS of an instance that is not the fleet's own, such as a provider's API.

    Envoys check no such instance actively; what its answers say decides.
    """

    name: Annotated[HostName, Field(json_schema_extra=without_default)] = ""
    """Name that Envoys ask for (SNI), that its certificate must carry and that becomes the
    request's host; by default the DNS name of ``address``."""
    ca: EnvoyFile = "/etc/ssl/certs/ca-certificates.crt"
    """Certificates that may sign the instance's; a file of each Envoy's machine."""
    path: Annotated[PathPrefix, Field(json_schema_extra=without_default)] = ""
    """Put before the request's path, such as ``/openai`` for an API that lies there."""
    credential: Credential | None = None
