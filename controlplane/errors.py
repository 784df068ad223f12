"""The error tree.

* ControlPlaneError
    * ConfigError: the configuration is refused; carries every fault found
    * ReportError: telemetry that cannot be read or believed
    * ProtocolError: an xDS request that breaks the protocol; ends its stream
    * IdentityError: a client that claims what its certificate does not show; ends its stream
    * StartError: a process that cannot start, and what to change

Whose fault it is decides what happens.
A user's mistake is reported with its place and a remedy, and the last good state keeps serving.
A bug of ours is an assertion and a traceback.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class ControlPlaneError(Exception):
    """Root of every error this package raises on purpose."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing wrong with a configuration file, where it is, and what would be right."""

    file: str
    line: int
    """1-based."""
    column: int
    """1-based."""
    path: str
    """Dotted path of the value, for example ``services[0].slo.ttft``; empty for the document."""
    message: str
    """What is wrong, and what would be right."""

    def __str__(self) -> str:
        """Return the line that ``cats check`` prints."""
        place = f"{self.file}:{self.line}:{self.column}"
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class ConfigError(ControlPlaneError):
    """The configuration is refused.

    Attributes:
        faults: every fault found, in the order of their places.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(sorted(faults))
        super().__init__("\n".join(map(str, self.faults)))


class ReportError(ControlPlaneError):
    """A report that cannot be read or believed; it is counted and dropped."""


class ProtocolError(ControlPlaneError):
    """An xDS request that breaks the protocol; the stream ends with INVALID_ARGUMENT."""


class IdentityError(ControlPlaneError):
    """A client claims what its certificate does not show; its stream ends: PERMISSION_DENIED."""


class StartError(ControlPlaneError):
    """A process cannot start; the message says what to change."""
