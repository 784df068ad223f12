"""``fleet.yaml`` as text to a `Config`, or to every fault in it at once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from controlplane.config.document import Document
from controlplane.config.faults import faults_of
from controlplane.config.rules import find_faults, find_warnings
from controlplane.config.schema import Config
from controlplane.config.source import parse_source
from controlplane.errors import ConfigError, Fault

Root = TypeVar("Root", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Checked:
    """A configuration that is accepted, with what an operator may still want to know."""

    config: Config
    warnings: tuple[Fault, ...] = ()
    """What is allowed but has no effect, or hardly the one that was meant."""


def parse_config(text: str, *, file: str) -> Config:
    """Read a configuration; *file* is the name that faults carry.

    Raises:
        ConfigError: with every fault found.
    """
    return check_config(text, file=file).config


def check_config(text: str, *, file: str) -> Checked:
    """Read a configuration as `parse_config` does, and look for what deserves a warning.

    Raises:
        ConfigError: with every fault found.
    """
    document = parse_source(text, file=file)
    config, faults = read_values(document, Config)
    faults += find_faults(document)
    if config is None or faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    return Checked(config, tuple(sorted(find_warnings(document))))


def read_values(document: Document, root: type[Root]) -> tuple[Root | None, list[Fault]]:
    """Read a document as *root* has it: its values, none where it is wrong, and every fault."""
    faults = list(document.faults)
    try:
        # JSON in strict mode takes exactly what a document can say: a list for a tuple and text
        # for an enum, but never "8" or true for 8.
        values = root.model_validate_json(
            json.dumps(document.tree), strict=True, by_alias=True, by_name=False
        )
    except ValidationError as error:
        return None, faults + faults_of(error, document, root=root)
    return values, faults
