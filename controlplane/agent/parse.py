"""Reads ``agent.yaml``, and says what in it contradicts itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from controlplane.agent import settings
from controlplane.agent.schema import AgentConfig
from controlplane.config.document import Document
from controlplane.config.parse import read_values
from controlplane.config.source import parse_source
from controlplane.errors import ConfigError, Fault


def parse_agent_config(text: str, *, file: str) -> settings.AgentConfig:
    """Read an agent's configuration; *file* is the name that faults carry.

    Raises:
        ConfigError: with every fault found.
    """
    document = parse_source(text, file=file)
    config, faults = read_values(document, AgentConfig)
    if config is not None:
        faults += _contradictions(config, document)
    if config is None or faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    plain: settings.AgentConfig = _plain(config)
    return plain


def _plain(value: Any) -> Any:
    """Return the values of `controlplane.agent.settings`, whose classes have the same names."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if not isinstance(value, BaseModel):
        return value
    fields = {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    return getattr(settings, type(value).__name__)(**fields)


def _contradictions(config: AgentConfig, document: Document) -> Iterator[Fault]:
    yield from _instance_faults(config, document)
    yield from _peer_faults(config, document)


def _instance_faults(config: AgentConfig, document: Document) -> Iterator[Fault]:
    seen: set[str] = set()
    for index, instance in enumerate(config.instances):
        if instance.name in seen:
            yield document.fault(
                ("instances", index, "name"), f"'{instance.name}' is given twice; remove one"
            )
        seen.add(instance.name)
    known = {instance.name for instance in config.instances}
    for index, reemit in enumerate(config.orca):
        if reemit.instance not in known and config.discover is None:
            yield document.fault(
                ("orca", index, "instance"), f"no instance is named '{reemit.instance}'"
            )
    if config.discover is not None:
        try:
            config.discover.name.format(agent="a", engine="e", port=1)
        except (KeyError, IndexError, ValueError):
            yield document.fault(
                ("discover", "name"), "may hold {agent}, {engine} and {port}, and no other braces"
            )


def _peer_faults(config: AgentConfig, document: Document) -> Iterator[Fault]:
    for index, probe in enumerate(config.probes.targets):
        if probe.site == config.site:
            yield document.fault(
                ("probes", "targets", index, "site"), "is the agent's own site; remove the target"
            )
