"""Reports on disk, so that yesterday can be decided again: what `--record` writes, `replay` reads.

A directory holds ``fleet.yaml`` as it was, and ``reports.jsonl`` with a line for each cycle: its
time in seconds and the reports since the last, as replicas send each other (`bus.codec`).
Two files of half the limit take turns, so that the newest is kept and the disk never fills.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from controlplane.bus.codec import Message, decode_message, encode_message
from controlplane.config import Config, parse_config
from controlplane.errors import ControlPlaneError, ReportError
from controlplane.model import Report
from controlplane.runtime.config_file import read_text

LIMIT = 512_000_000
"""Bytes of both files together."""
MOST_WAITING = 200_000
"""Reports of one cycle; more are left out, and said so in the line."""
FLEET = "fleet.yaml"
NEWER, OLDER = "reports.jsonl", "reports.older.jsonl"


class RecordingError(ControlPlaneError):
    """A recording that cannot be read or written; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One recorded cycle."""

    at: float
    """Seconds on the recorder's clock."""
    message: Message


class Recorder:
    """Writes a recording. Its methods block shortly: a line of some kB each cycle.

    Raises:
        RecordingError: the directory cannot be written.
    """

    def __init__(self, directory: Path, *, fleet: str, limit: int = LIMIT) -> None:
        self._directory = directory
        self._limit = limit
        self._waiting: list[Report] = []
        self._left_out = 0
        try:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / FLEET).write_text(fleet, encoding="utf-8")
            (directory / OLDER).unlink(missing_ok=True)
            self._file = (directory / NEWER).open("wb")
        except OSError as error:
            raise RecordingError(
                f"--record {directory}: {error.strerror}; name a writable directory"
            ) from error

    def take(self, report: Report) -> None:
        """Remember a report until the cycle's end."""
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(report)
        else:
            self._left_out += 1

    def write(self, clients: Mapping[str, int], *, now: float) -> None:
        """Write the cycle's line.

        Raises:
            OSError: it could not be written.
        """
        message = encode_message("", clients, self._waiting, now=now)
        self._waiting = []
        line = b'{"at":%.4f,"left_out":%d,"message":%b}\n' % (now, self._left_out, message)
        self._left_out = 0
        if self._file.tell() + len(line) > self._limit // 2:
            self._file.close()
            (self._directory / NEWER).replace(self._directory / OLDER)
            self._file = (self._directory / NEWER).open("wb")
        self._file.write(line)
        self._file.flush()

    def close(self) -> None:
        """End the recording."""
        self._file.close()


def read_fleet(directory: Path) -> Config:
    """Return the configuration of a recording.

    Raises:
        ConfigError: it is wrong.
        RecordingError: there is none.
    """
    file = directory / FLEET
    if not file.is_file():
        raise RecordingError(
            f"{directory}: no recording (no {FLEET}); cats serve --record {directory} makes one"
        )
    return parse_config(read_text(file), file=str(file))


def read_frames(directory: Path) -> Iterator[Frame]:
    """Return the recorded cycles in order; a last line that was cut off is left out.

    Raises:
        RecordingError: a line is none.
    """
    for name in (OLDER, NEWER):
        file = directory / name
        if not file.is_file():
            continue
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    return
                try:
                    document = json.loads(line)
                    at = float(document["at"])
                    message = decode_message(json.dumps(document["message"]).encode(), now=at)
                except (ValueError, KeyError, TypeError, ReportError) as error:
                    raise RecordingError(
                        f"{file}:{number}: not a recorded cycle; remove the line, or record again"
                        " with this version"
                    ) from error
                yield Frame(at, message)
