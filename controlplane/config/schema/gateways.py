"""Gateways that several instances stand behind, at one address."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from controlplane.config.addresses import is_dns_name, is_ip
from controlplane.config.schema.values import Settings, UrlPath, without_default


def _check_host(text: str) -> str:
    name = text.lower().removesuffix(".")
    if not is_ip(name) and not is_dns_name(name):
        raise PydanticCustomError(
            "host", "'{text}' is no DNS name and no IP address", {"text": text}
        )
    return name


def _check_prefix(text: str) -> str:
    return text.rstrip("/")


class BehindGateway(Settings):
    """What a gateway at an instance's address knows the instance's requests by.

    Two instances may have one address if these differ and no service has both of them: within a
    service Envoys know instances by their addresses.
    """

    host: Annotated[str, AfterValidator(_check_host), Field(json_schema_extra=without_default)] = ""
    """Becomes the request's host; by default the client's stays."""
    path: Annotated[
        UrlPath, AfterValidator(_check_prefix), Field(json_schema_extra=without_default)
    ] = ""
    """Put before the request's path, such as ``/pool-a`` for a gateway that takes it off again.
    Envoys' active checks know nothing of it, so they leave the instance out."""
