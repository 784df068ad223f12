"""What operators ask of overrides: read, checked against the configuration, and said in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import Field, ValidationError

from controlplane.config import Config, Override
from controlplane.config.eligibility import may_serve
from controlplane.config.faults import nearest
from controlplane.config.override_rules import (
    EFFECTS,
    NO_EFFECT,
    NO_PLACE,
    contradictions,
    misplacements,
)
from controlplane.config.schema.values import Settings
from controlplane.config.units import PositiveDuration
from controlplane.errors import ControlPlaneError

LONGEST = 30 * 86400.0
"""Seconds that one may last; what is to stay longer belongs into the file."""


class OverrideError(ControlPlaneError):
    """An override that cannot be; the message says what would be right."""


class OverrideRequest(Override, Settings):
    """What ``POST /api/v1/overrides`` takes: an override, and who wants it for how long."""

    reason: Annotated[str, Field(min_length=1, max_length=300)]
    by: Annotated[str, Field(min_length=1, max_length=100)]
    lasts: Annotated[PositiveDuration, Field(alias="for", le=LONGEST)]
    dry_run: bool = False


def unknown_override(name: str, known: Iterable[str]) -> OverrideError:
    """Return the error of a name that no override has."""
    return OverrideError(f"no override '{name}'; known: {_list(known)}")


def parse_request(content: bytes, config: Config) -> OverrideRequest:
    """Read the body of a request and check it against the configuration.

    Raises:
        OverrideError: with what is wrong, and what would be right.
    """
    try:
        request = OverrideRequest.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise OverrideError("; ".join(_words(item) for item in error.errors()[:5])) from error
    check_override(request, config)
    return request


def _words(item: Any) -> str:
    place = ".".join(map(str, item["loc"])) or "body"
    match item["type"]:
        case "missing":
            return f"{place}: is missing"
        case "extra_forbidden":
            return f"{place}: is no key of an override"
        case "json_invalid":
            return "the body is not JSON"
    return f"{place}: {item['msg']}"


def check_override(override: Override, config: Config) -> None:
    """Check that an override names what there is and does something.

    Raises:
        OverrideError: it does not.
    """
    known = {
        "service": {item.name for item in config.services},
        "instance": {item.name for item in config.instances},
        "site": {item.name for item in config.sites},
    }
    for kind, names in known.items():
        name = getattr(override, kind)
        if name is not None and name not in names:
            raise OverrideError(f"{kind}: no {kind} is named '{name}'{nearest(name, names)}")
    if override.instance is None and override.site is None:
        raise OverrideError(NO_PLACE)
    if all(getattr(override, effect) in (None, False) for effect in EFFECTS):
        raise OverrideError(NO_EFFECT)
    for key, message in (*_misplacements(override, config), *_contradictions(override)):
        raise OverrideError(f"{key}: {message}")


def _misplacements(override: Override, config: Config) -> Iterator[tuple[str, str]]:
    for instance in config.instances:
        if instance.name == override.instance:
            return misplacements(
                instance=instance.name,
                home=instance.site,
                site=override.site,
                models=instance.model_names,
                service=override.service,
                served={
                    model.name
                    for service in config.services
                    if service.name == override.service
                    for model in service.models
                },
            )
    return iter(())


def _contradictions(override: Override) -> Iterator[tuple[str, str]]:
    return contradictions(
        drain=override.drain,
        pin=override.pin,
        min_share=override.min_share,
        max_share=override.max_share,
    )


def left_alone(override: Override, config: Config) -> list[str]:
    """Return the services that a pin leaves alone, since nothing it names may serve them."""
    if not override.pin:
        return []
    sites = {site.name: site for site in config.sites}
    places = [
        instance
        for instance in config.instances
        if override.instance in (None, instance.name) and override.site in (None, instance.site)
    ]
    return [
        service.name
        for service in config.services
        if override.service in (None, service.name)
        and not any(may_serve(service, instance, sites) for instance in places)
    ]


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:20]) or "none"


def describe(override: Override) -> str:
    """Say what an override does, in words."""
    place = override.instance or override.site or "everywhere"
    share = [
        f"{word} {value:.0%}"
        for word, value in (("at least", override.min_share), ("at most", override.max_share))
        if value is not None
    ]
    deeds = [
        *(["drain"] if override.drain else []),
        *(["pin"] if override.pin else []),
        *([f"weight {override.weight}"] if override.weight is not None else []),
        *share,
    ]
    return (
        f"{' and '.join(deeds) or 'nothing'} at {place} for {override.service or 'every service'}"
    )
